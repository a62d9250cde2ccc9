package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// turns publishes n of them while the server is down, so that they leave together
// when it is back.
func (w *world) turns(p *publisher.Publisher, n int, set func(i int, t *transcript.Turn)) []*publisher.Receipt {
	w.t.Helper()
	w.stop()
	list := make([]*publisher.Receipt, n)
	for i := range list {
		turn := transcript.Turn{SessionID: fmt.Sprint("s", i%7), User: "q"}
		if set != nil {
			set(i, &turn)
		}
		list[i] = must(w.t)(p.Publish(w.t.Context(), turn))
	}
	w.srv.Restart()
	return list
}

// stop stops the server and waits until the client knows.
func (w *world) stop() {
	w.t.Helper()
	w.srv.Stop()
	servertest.Eventually(w.t, patience, "the connection to be lost", func() bool { return !w.js.Conn().IsConnected() })
}

// batched returns how many messages of the stream came in a batch.
func (w *world) batched() (n int) {
	w.t.Helper()
	for _, m := range w.messages() {
		if m.Headers().Get("Nats-Batch-Id") != "" {
			n++
		}
	}
	return n
}

// once checks that the turns of all receipts are stored exactly once.
func (w *world) once(rs []*publisher.Receipt) {
	w.t.Helper()
	waitStored(w.t, rs...)
	ids := make(map[string]int)
	for k, n := range w.stored() {
		ids[strings.Split(k, "/")[1]] += n
	}
	for _, r := range rs {
		if ids[r.ID] != 1 {
			w.t.Errorf("%s is stored %d times", r.ID, ids[r.ID])
		}
	}
}

func TestTurnsThatWaitAreSentInBatches(t *testing.T) {
	w := newStreamWorld(t)
	type traceKey struct{}
	p := w.publisher(func(c *publisher.Config) {
		c.Trace = func(ctx context.Context) (string, func(error)) { s, _ := ctx.Value(traceKey{}).(string); return s, nil }
	})
	w.stop()
	var rs []*publisher.Receipt
	for i := range 1200 {
		ctx := t.Context()
		if i%2 == 0 {
			ctx = context.WithValue(ctx, traceKey{}, fmt.Sprint("trace-", i))
		}
		rs = append(rs, must(t)(p.Publish(ctx, transcript.Turn{SessionID: "s", User: "q"})))
	}
	w.srv.Restart()
	w.once(rs)
	if n := w.batched(); n < 1000 {
		t.Errorf("%d came in batches", n)
	}
	for i, m := range w.messages() { // in order, each with its own headers
		s, err := transcript.Decode(m.Data(), 0)
		if err != nil || s.ID != rs[i].ID {
			t.Fatalf("message %d is %s, want %s (%v)", i, s.ID, rs[i].ID, err)
		}
		want := ""
		if i%2 == 0 {
			want = fmt.Sprint("trace-", i)
		}
		if got := strings.Join(m.Headers()["traceparent"], ","); got != want {
			t.Fatalf("traceparent of message %d is %q, want %q", i, got, want)
		}
	}
	if s := p.Stats(); s.Retries != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

// A stream that is slow does not get a queue of turns by themselves, each of which costs
// it a sync: few are under way, and those that come meanwhile go together.
func TestTurnsGoTogetherWhereTheStreamIsSlow(t *testing.T) {
	srv := servertest.NATSProcess(t)
	w := worldOf(t, srv)
	p := w.publisher(nil)
	rs := []*publisher.Receipt{must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"}))}
	waitStored(t, rs...)
	srv.Hang()
	const turns = 150
	for range turns {
		spread(t, 4*time.Millisecond) // longer than a turn waits for others
		rs = append(rs, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})))
	}
	srv.Resume()
	w.once(rs)
	alone := len(rs) - w.batched()
	t.Logf("%d of %d turns by themselves, %+v", alone, len(rs), p.Stats())
	if alone > turns/4 { // the first of all, four while it hung, and what was left when it went on
		t.Errorf("%d of %d turns were sent by themselves", alone, len(rs))
	}
}

func TestBatchWithDuplicates(t *testing.T) {
	w := newStreamWorld(t)
	p := w.publisher(nil)
	again := transcript.Turn{SessionID: "again", ID: "x", Timestamp: time.Now(), User: "q"}
	twice := transcript.Turn{SessionID: "twice", ID: "y", Timestamp: time.Now(), User: "q"}
	waitStored(t, must(t)(p.Publish(t.Context(), again)))
	w.once(w.turns(p, 100, func(i int, turn *transcript.Turn) {
		switch i {
		case 50:
			*turn = again
		case 60, 70:
			*turn = twice
		}
	}))
	if s := p.Stats(); s.Duplicates != 2 || s.Turns != 0 {
		t.Errorf("%+v", s)
	}
	w.once(w.turns(p, 100, nil))
	if n := w.batched(); n != 100 {
		t.Errorf("%d came in batches afterwards", n)
	}
}

func TestBatchWithTurnThatIsRefused(t *testing.T) {
	w := newStreamWorld(t)
	w.tune(func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 })
	p := w.publisher(nil)
	rs := w.turns(p, 100, func(i int, turn *transcript.Turn) {
		if i == 50 {
			turn.User = strings.Repeat("x", 1000)
		}
	})
	big, rest := rs[50], slices.Delete(slices.Clone(rs), 50, 51)
	w.once(rest)
	var api *jetstream.APIError
	servertest.Eventually(t, patience, "the refusal", func() bool { return errors.As(big.Err(), &api) })
	if s := p.Stats(); s.SetAside != 1 || s.Turns != 1 {
		t.Errorf("%+v", s)
	}
	w.tune(func(c *jetstream.StreamConfig) { c.MaxMsgSize = -1 })
	w.once(rs)
}

func TestStreamWithoutAtomicBatches(t *testing.T) {
	w := newStreamWorld(t)
	w.tune(func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false })
	p := w.publisher(nil)
	w.once(w.turns(p, 100, nil))
	if retries := p.Stats().Retries; retries != 100 {
		t.Errorf("%d were sent again", retries)
	}
	// It is remembered while the connection lasts.
	var rs []*publisher.Receipt
	for range 300 {
		rs = append(rs, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})))
	}
	w.once(rs)
	if retries := p.Stats().Retries; retries != 100 {
		t.Errorf("%d were sent again", retries)
	}
	if n := w.batched(); n != 0 {
		t.Errorf("%d came in batches", n)
	}
	// And tried again after it.
	w.tune(func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = true })
	w.once(w.turns(p, 100, nil))
	if n := w.batched(); n != 100 {
		t.Errorf("%d came in batches", n)
	}
}

// TestServerThatKnowsNoBatches has somebody acknowledge each message of a batch
// as an old server does: as a message like any other.
func TestServerThatKnowsNoBatches(t *testing.T) {
	w := newWorld(t)
	sub, err := w.js.Conn().Subscribe("afterword.turns.*", func(m *nats.Msg) {
		if m.Reply != "" {
			m.Respond([]byte(`{"stream":"AFTERWORD_TURNS","seq":1}`))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	p := w.publisher(nil)
	rs := w.turns(p, 100, nil)
	waitStored(t, rs...)
	if s := p.Stats(); s.Retries != 100 {
		t.Errorf("a batch that was not acknowledged as one: %+v", s)
	}
}

func TestBatchTooLargeForServer(t *testing.T) {
	w := newStreamWorld(t, func(o *server.Options) { o.JetStreamLimits.MaxBatchSize = 40 })
	p := w.publisher(nil)
	w.once(w.turns(p, 3000, nil))
	if n := w.batched(); n < 500 {
		t.Errorf("%d came in batches", n)
	}
}

func TestBatchThatIsNotAnswered(t *testing.T) {
	w := newWorld(t)
	// Somebody listens but never answers, so the acknowledgement does not come.
	sub, err := w.js.Conn().Subscribe("afterword.turns.*", func(*nats.Msg) {})
	if err != nil {
		t.Fatal(err)
	}
	p := w.publisher(func(c *publisher.Config) { c.AckTimeout = 50 * time.Millisecond })
	rs := w.turns(p, 100, nil)
	servertest.Eventually(t, patience, "a timeout", func() bool {
		return errors.Is(rs[99].Err(), jetstream.ErrAsyncPublishTimeout)
	})
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	w.ensure()
	w.once(rs)
}

func TestServerIsKilledUnderLoad(t *testing.T) {
	srv := servertest.NATSProcess(t)
	w := worldOf(t, srv)
	p := w.publisher(nil)
	l := startLoad(p, 4, 200, 100*time.Microsecond)
	for range 4 {
		from := l.count()
		servertest.Eventually(t, patience, "more turns", func() bool { return l.count() >= from+3000 })
		time.Sleep(rand.N(50 * time.Millisecond)) // when exactly is chance
		srv.Kill9()
		from = l.count()
		servertest.Eventually(t, patience, "more turns", func() bool { return l.count() >= from+3000 })
		srv.Restart()
	}
	accepted := l.finish(t)
	closeNow(t, p)
	t.Logf("%d batched, %+v", w.batched(), p.Stats())
	w.checkOnce(accepted)
	w.checkOrder(accepted)
}

func TestConnectionIsCutUnderLoad(t *testing.T) {
	w := newStreamWorld(t)
	proxy := newProxy(t, w.srv.Addr())
	w.js = w.connect("nats://" + proxy.listener.Addr().String())
	p := w.publisher(nil)
	l := startLoad(p, 4, 200, 100*time.Microsecond)
	for range 8 {
		from := l.count()
		servertest.Eventually(t, patience, "more turns", func() bool { return l.count() >= from+1000 })
		time.Sleep(rand.N(20 * time.Millisecond)) // when exactly is chance
		proxy.cut()
	}
	accepted := l.finish(t)
	closeNow(t, p)
	t.Logf("%d batched, %+v", w.batched(), p.Stats())
	w.checkOnce(accepted)
	w.checkOrder(accepted)
}

// checkOrder checks that the turns of each session, ordered as a transcript is,
// are in the order in which they were accepted.
func (w *world) checkOrder(accepted []string) {
	w.t.Helper()
	want := make(map[string][]string)
	for _, k := range accepted {
		session, _, _ := strings.Cut(k, "/")
		want[session] = append(want[session], k)
	}
	got := make(map[string][]transcript.Snapshot)
	for _, m := range w.messages() {
		s, err := transcript.Decode(m.Data(), 0)
		if err != nil {
			w.t.Fatal(err)
		}
		got[s.SessionID] = append(got[s.SessionID], s)
	}
	for session, turns := range got {
		slices.SortFunc(turns, func(x, y transcript.Snapshot) int { return x.Compare(&y) })
		if !slices.EqualFunc(turns, want[session], func(s transcript.Snapshot, k string) bool { return key(s.SessionID, s.ID, s.Rev) == k }) {
			w.t.Errorf("the turns of %s are in another order", session)
		}
	}
}

func TestCloseWithBatchesInFlight(t *testing.T) {
	t.Run("drains", func(t *testing.T) {
		w := newStreamWorld(t)
		p := w.publisher(nil)
		rs := w.turns(p, 5000, nil)
		closeNow(t, p)
		w.once(rs)
	})
	t.Run("is bounded", func(t *testing.T) {
		srv := servertest.NATSProcess(t) // it ends in the middle of a batch
		proxy := newProxy(t, strings.TrimPrefix(srv.URL(), "nats://"))
		w := &world{t: t}
		w.js = w.connect("nats://" + proxy.listener.Addr().String())
		w.ensure()
		p := w.publisher(nil)
		waitStored(t, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})))
		proxy.freeze()
		defer proxy.thaw()
		for range 1000 {
			must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"}))
		}
		servertest.Eventually(t, patience, "batches in flight", func() bool { return p.Stats().InFlight > 100 })
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		err := p.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1000 turns") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// TestIdlePublisherSendsAtOnce compares with a plain publish in turns: nothing
// waits for others when there are none.
func TestIdlePublisherSendsAtOnce(t *testing.T) {
	w := newStreamWorld(t)
	p := w.publisher(nil)
	var plain, own []time.Duration
	for i := range 200 {
		began := time.Now()
		if _, err := w.js.Publish(t.Context(), "afterword.turns.s", []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		plain = append(plain, time.Since(began))
		began = time.Now()
		<-must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})).Stored()
		own = append(own, time.Since(began))
	}
	slices.Sort(plain)
	slices.Sort(own)
	// One that waits for others always does. A median of a busy machine is one of its delays,
	// and a turn changes goroutines more often than a plain publish.
	t.Logf("median: plain publish %s, publisher %s; p5: %s, %s", plain[100], own[100], plain[10], own[10])
	if own[10] > 2*plain[10]+time.Millisecond {
		t.Errorf("a single turn takes %s, a plain publish %s", own[10], plain[10])
	}
}
