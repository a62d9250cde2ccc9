package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// load publishes from several goroutines until it is stopped, and keeps what
// was accepted and how long each call took.
type load struct {
	p    *publisher.Publisher
	size int
	stop chan struct{}
	wg   sync.WaitGroup

	mu       sync.Mutex
	accepted []string
	took     []time.Duration
	errs     []error
}

func startLoad(p *publisher.Publisher, publishers, size int, every time.Duration) *load {
	l := &load{p: p, size: size, stop: make(chan struct{})}
	for i := range publishers {
		l.wg.Go(func() { l.run(fmt.Sprint("session ", i), every) })
	}
	return l
}

func (l *load) run(session string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	turn := transcript.Turn{SessionID: session, User: strings.Repeat("q", l.size)}
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
		}
		began := time.Now()
		r, err := l.p.Publish(context.Background(), turn)
		took := time.Since(began)
		l.mu.Lock()
		l.took = append(l.took, took)
		if err != nil {
			l.errs = append(l.errs, err)
		} else {
			l.accepted = append(l.accepted, key(session, r.ID, r.Rev))
		}
		l.mu.Unlock()
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// finish stops the load and checks that it was never held up.
func (l *load) finish(t *testing.T) []string {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
	if len(l.errs) > 0 {
		t.Errorf("%d calls failed, the first with %v", len(l.errs), l.errs[0])
	}
	slices.Sort(l.took)
	p99, longest := l.took[len(l.took)*99/100], l.took[len(l.took)-1]
	t.Logf("%d calls: median %s, p99 %s, longest %s", len(l.took), l.took[len(l.took)/2], p99, longest)
	// One that waits for the stream waits for an acknowledgement's timeout, a second or more;
	// less is what a busy machine takes from a hundredth of the calls.
	if p99 > 500*time.Millisecond {
		t.Errorf("p99 of Publish is %s", p99)
	}
	return l.accepted
}

// checkOnce checks that the stream has exactly these turns, each once.
func (w *world) checkOnce(accepted []string) {
	w.t.Helper()
	got := w.stored()
	for _, k := range accepted {
		if got[k] != 1 {
			w.t.Errorf("%s is stored %d times", k, got[k])
		}
		delete(got, k)
	}
	if len(got) > 0 {
		w.t.Errorf("never accepted: %v", slices.Collect(maps.Keys(got)))
	}
}

func TestServerStopsUnderLoad(t *testing.T) {
	srv := servertest.NATSProcess(t) // nats-server 2.15 in process leaves goroutines of open batches behind
	w := &world{t: t}
	w.js = w.connect(srv.URL())
	w.ensure()
	p := w.publisher(nil)
	l := startLoad(p, 4, 200, 200*time.Microsecond)
	grows := func(n int) {
		from := l.count()
		servertest.Eventually(t, patience, "more turns", func() bool { return l.count() >= from+n })
	}
	for range 2 {
		grows(2000)
		srv.Stop()
		grows(6000)
		srv.Restart()
	}
	grows(2000)
	accepted := l.finish(t)
	closeNow(t, p)
	t.Logf("%+v", p.Stats())
	w.checkOnce(accepted)
}

func TestReconnectDoesNotWaitOutTheBackoff(t *testing.T) {
	w := newStreamWorld(t)
	p := w.publisher(func(c *publisher.Config) { c.RetryMin, c.RetryMax = time.Hour, time.Hour })
	waitStored(t, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})))
	if err := w.js.DeleteStream(t.Context(), stream.Turns); err != nil {
		t.Fatal(err)
	}
	r := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"}))
	servertest.Eventually(t, patience, "a refusal", func() bool { return r.Err() != nil })
	w.ensure()
	w.srv.Restart()
	waitStored(t, r)
}

func TestFullStreamHeals(t *testing.T) {
	w := newStreamWorld(t)
	const room, turns = 10, 35
	w.tune(func(c *jetstream.StreamConfig) { c.MaxMsgs = room })
	p := w.publisher(nil)
	var rs []*publisher.Receipt
	for range turns {
		rs = append(rs, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})))
	}
	seen := make(map[string]int)
	for round := 1; len(seen) < turns; round++ {
		want := min(round*room, turns)
		servertest.Eventually(t, patience, "the stream to fill", func() bool { return p.Stats().Stored >= uint64(want) })
		if want < turns {
			servertest.Eventually(t, patience, "the stream to refuse", func() bool { return p.Stats().Blocked > 0 })
		}
		for k, n := range w.stored() {
			seen[k] += n
		}
		w.purge()
	}
	waitStored(t, rs...)
	for k, n := range seen {
		if n != 1 {
			t.Errorf("%s stored %d times", k, n)
		}
	}
	if s := p.Stats(); s.Retries == 0 || s.Turns != 0 {
		t.Errorf("%+v", s)
	}
}

func TestMissingStreamIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	var lines syncBuffer
	p := w.publisher(func(c *publisher.Config) { c.Logger = slog.New(slog.NewTextHandler(&lines, nil)) })
	var rs []*publisher.Receipt
	for range 20 {
		rs = append(rs, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})))
	}
	servertest.Eventually(t, patience, "refusals", func() bool {
		return errors.Is(rs[0].Err(), jetstream.ErrNoStreamResponse) && p.Stats().Retries > 3
	})
	w.ensure()
	waitStored(t, rs...)
	closeNow(t, p)
	// An outage is two lines, however many turns and tries it had.
	log := lines.String()
	if n := strings.Count(log, "\n"); n != 2 || !strings.Contains(log, "level=WARN") || !strings.Contains(log, "level=INFO") {
		t.Errorf("log:\n%s", log)
	}
}

type syncBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestNoAnswerIsRetried(t *testing.T) {
	w := newWorld(t)
	// Somebody listens but never answers, so the acknowledgement does not come.
	sub, err := w.js.Conn().Subscribe(stream.TurnSubjects, func(*nats.Msg) {})
	if err != nil {
		t.Fatal(err)
	}
	p := w.publisher(func(c *publisher.Config) { c.AckTimeout = 50 * time.Millisecond })
	r := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"}))
	servertest.Eventually(t, patience, "a timeout", func() bool { return errors.Is(r.Err(), jetstream.ErrAsyncPublishTimeout) })
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	w.ensure()
	waitStored(t, r)
	if s := p.Stats(); s.Retries == 0 || s.Late == 0 || s.Acks == 0 {
		t.Errorf("%d retries, %d late acknowledgements and %d others counted", s.Retries, s.Late, s.Acks)
	}
}

func TestDuplicateCountsAsStored(t *testing.T) {
	w := newStreamWorld(t)
	p := w.publisher(nil)
	turn := transcript.Turn{SessionID: "s", ID: "x", Timestamp: time.Now(), User: "q"}
	waitStored(t, must(t)(p.Publish(t.Context(), turn)), must(t)(p.Publish(t.Context(), turn)))
	if s := p.Stats(); s.Duplicates != 1 || s.Stored != 2 {
		t.Errorf("%+v", s)
	}
	if n := len(w.messages()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// Another message under the id that a turn will have does not keep the turn out of the stream, whatever it is:
// by itself and in a batch. With the permission to publish alone the turn is published again.
func TestDecoysOfTurns(t *testing.T) {
	for name, decoy := range map[string]func(m *nats.Msg){
		"on the subject of another session": func(m *nats.Msg) { m.Subject = stream.TurnSubject("other") },
		"of another type":                   func(m *nats.Msg) { m.Header.Set(stream.HeaderType, "none") },
		"with another payload":              func(m *nats.Msg) { m.Data = []byte("{}") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newStreamWorld(t)
			at := time.Now().UTC().Truncate(time.Microsecond)
			makeTurn := func(id string) transcript.Turn {
				return transcript.Turn{SessionID: "s", ID: id, Timestamp: at, User: "q"}
			}
			for _, id := range []string{"alone", "batched"} {
				s, err := transcript.Decode([]byte(fmt.Sprintf(`{"session_id":"s","id":%q,"timestamp":%q,"user":"q"}`, id, at.Format(time.RFC3339Nano))), 0)
				if err != nil {
					t.Fatal(err)
				}
				m := &nats.Msg{Subject: stream.TurnSubject("s"), Header: nats.Header{stream.HeaderMsgID: {stream.MsgID(s.Payload())}}, Data: s.Payload()}
				decoy(m)
				if _, err := w.js.PublishMsg(t.Context(), m); err != nil {
					t.Fatal(err)
				}
			}
			p := w.publisher(nil)
			waitStored(t, must(t)(p.Publish(t.Context(), makeTurn("alone"))))
			waitStored(t, w.turns(p, 20, func(i int, turn *transcript.Turn) {
				if i == 10 {
					*turn = makeTurn("batched")
				}
			})...)
			genuine := make(map[string]int)
			for _, m := range w.messages() {
				turn, err := transcript.Decode(m.Data(), 0)
				if err == nil && m.Subject() == stream.TurnSubject(turn.SessionID) && m.Headers().Get(stream.HeaderType) == "" {
					genuine[turn.ID]++
				}
			}
			if genuine["alone"] != 1 || genuine["batched"] != 1 {
				t.Errorf("stored: %v", genuine)
			}
			if s := p.Stats(); s.Duplicates != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A publisher that may not read the stream cannot tell a decoy from its own turn, and stores it twice at worst.
func TestDuplicateThatCannotBeReadBack(t *testing.T) {
	w := newStreamWorld(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "all", Password: "all"}, {Username: "turns", Password: "turns", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{stream.TurnSubjects}}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}}}
		o.NoAuthUser = "all"
	})
	js := w.connect(strings.Replace(w.srv.URL(), "//", "//turns:turns@", 1))
	p := w.publisher(func(c *publisher.Config) { c.Conn = js.Conn() })
	const turns = 100 // more than are read back at one time
	for range 2 {
		var rs []*publisher.Receipt
		for i := range turns {
			rs = append(rs, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", ID: fmt.Sprint("x", i), Timestamp: time.Unix(int64(i), 0), User: "q"})))
		}
		waitStored(t, rs...)
	}
	if n := len(w.messages()); n != 2*turns {
		t.Errorf("%d messages", n)
	}
}

func TestTurnTooLargeForServerIsSetAside(t *testing.T) {
	w := newStreamWorld(t)
	p := w.publisher(nil)
	big := transcript.Turn{SessionID: "big", User: strings.Repeat("x", 200<<10)}
	small := transcript.Turn{SessionID: "small", User: "q"}
	waitStored(t, must(t)(p.Publish(t.Context(), small)))
	w.srv.Stop()
	first := must(t)(p.Publish(t.Context(), big))
	rest := make([]*publisher.Receipt, 50)
	for i := range rest {
		rest[i] = must(t)(p.Publish(t.Context(), small))
	}
	w.srv.Restart(servertest.MaxPayload(64 << 10))
	waitStored(t, rest...)
	servertest.Eventually(t, patience, "the refusal", func() bool { return errors.Is(first.Err(), nats.ErrMaxPayload) })
	if first.Level() != publisher.Buffered {
		t.Errorf("level %v", first.Level())
	}
	if s := p.Stats(); s.SetAside != 1 || s.Turns != 1 || s.Aside != 1 || !errors.Is(s.AsideWhy, nats.ErrMaxPayload) {
		t.Errorf("%+v", s)
	}
	var large *transcript.TooLargeError
	if _, err := p.Publish(t.Context(), big); !errors.As(err, &large) || large.Limit != stream.PayloadLimit(64<<10) {
		t.Errorf("a second one: %v", err)
	}
	w.srv.Restart(servertest.MaxPayload(1 << 20))
	waitStored(t, first)
	if s := p.Stats(); s.Aside != 0 || s.AsideWhy != nil {
		t.Errorf("%+v", s)
	}
}

// TestRefusedTurnHoldsUpNoOther has one turn refused for a reason that the
// publisher does not know, while others are taken.
func TestRefusedTurnHoldsUpNoOther(t *testing.T) {
	w := newStreamWorld(t)
	w.tune(func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject, c.DiscardNewPerSubject = 1, true })
	p := w.publisher(nil)
	waitStored(t, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "full", User: "q"})))
	stuck := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "full", User: "q"}))
	for i := range 100 {
		waitStored(t, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: fmt.Sprint("s", i), User: "q"})))
	}
	servertest.Eventually(t, patience, "it to be set aside", func() bool {
		must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: fmt.Sprint("t", time.Now().UnixNano()), User: "q"}))
		return p.Stats().SetAside == 1
	})
	if stuck.Err() == nil || stuck.Level() != publisher.Buffered {
		t.Errorf("%v %v", stuck.Level(), stuck.Err())
	}
	w.tune(func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject, c.DiscardNewPerSubject = -1, false })
	waitStored(t, stuck)
	closeNow(t, p)
}

// TestRefusedTurnInFrontIsOvertaken has the refused turn be the first to be
// tried after an outage.
func TestRefusedTurnInFrontIsOvertaken(t *testing.T) {
	w := newStreamWorld(t)
	w.tune(func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject, c.DiscardNewPerSubject = 1, true })
	p := w.publisher(func(c *publisher.Config) { c.Window = 1 })
	waitStored(t, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "full", User: "q"})))
	w.srv.Stop()
	must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "full", User: "q"}))
	var rs []*publisher.Receipt
	for i := range 100 {
		rs = append(rs, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: fmt.Sprint("s", i), User: "q"})))
	}
	w.srv.Restart()
	waitStored(t, rs...)
}

// TestHungServerHoldsUpNoCaller fills the socket of a server that stopped reading.
func TestHungServerHoldsUpNoCaller(t *testing.T) {
	w := newStreamWorld(t)
	proxy := newProxy(t, w.srv.Addr())
	w.js = w.connect("nats://" + proxy.listener.Addr().String())
	p := w.publisher(func(c *publisher.Config) { c.AckTimeout = time.Second })
	first := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"}))
	waitStored(t, first)
	proxy.freeze()
	l := startLoad(p, 2, 64<<10, time.Millisecond)
	servertest.Eventually(t, patience, "more than any socket buffers", func() bool { return l.count() > 500 })
	accepted := l.finish(t)
	proxy.thaw()
	closeNow(t, p)
	w.checkOnce(append(accepted, key("s", first.ID, 1)))
}

// proxy forwards TCP, and can stop doing so without closing anything.
type proxy struct {
	listener net.Listener
	target   string
	mu       sync.RWMutex // held while frozen
	wg       sync.WaitGroup

	connsMu sync.Mutex
	conns   []net.Conn
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target}
	p.wg.Go(p.serve)
	t.Cleanup(func() {
		l.Close()
		p.connsMu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.connsMu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) freeze() { p.mu.Lock() }
func (p *proxy) thaw()   { p.mu.Unlock() }

// cut closes every connection, whatever is on its way.
func (p *proxy) cut() {
	p.connsMu.Lock()
	defer p.connsMu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			in.Close()
			continue
		}
		p.connsMu.Lock()
		p.conns = append(p.conns, in, out)
		p.connsMu.Unlock()
		p.wg.Go(func() { p.copy(out, in) })
		p.wg.Go(func() { p.copy(in, out) })
	}
}

func (p *proxy) awaitThaw() {
	p.mu.RLock() // waits while frozen
	defer p.mu.RUnlock()
}

func (p *proxy) copy(dst io.WriteCloser, src io.ReadCloser) {
	defer dst.Close()
	defer src.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		p.awaitThaw()
		if _, werr := dst.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}
