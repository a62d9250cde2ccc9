package publisher_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := beSpooler(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// world is a real server with the project's streams, and a connection to it.
type world struct {
	t   *testing.T
	srv *servertest.NATSServer
	js  jetstream.JetStream
}

// newWorld starts a server without streams.
func newWorld(t *testing.T, opts ...servertest.NATSOption) *world {
	t.Helper()
	w := &world{t: t, srv: servertest.NATS(t, opts...)}
	w.js = w.connect(w.srv.URL())
	return w
}

// newStreamWorld starts a server with streams.
func newStreamWorld(t *testing.T, opts ...servertest.NATSOption) *world {
	t.Helper()
	w := newWorld(t, opts...)
	w.ensure()
	return w
}

// worldOf is a world whose server is a process of its own, with streams.
func worldOf(t *testing.T, srv *servertest.NATSNode) *world {
	t.Helper()
	w := &world{t: t}
	w.js = w.connect(srv.URL())
	w.ensure()
	return w
}

func (w *world) connect(url string) jetstream.JetStream {
	w.t.Helper()
	nc, err := stream.Connect(w.t.Context(), stream.Config{URL: url})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		w.t.Fatal(err)
	}
	return js
}

func (w *world) ensure() {
	w.t.Helper()
	if err := stream.Ensure(w.t.Context(), w.js, stream.StreamConfig{}); err != nil {
		w.t.Fatal(err)
	}
}

// publisher starts one that retries quickly; set changes its config. It is
// closed at the end of the test, drained or not.
func (w *world) publisher(set func(*publisher.Config)) *publisher.Publisher {
	w.t.Helper()
	cfg := publisher.Config{Conn: w.js.Conn(), RetryMin: 10 * time.Millisecond, RetryMax: 200 * time.Millisecond}
	if set != nil {
		set(&cfg)
	}
	p, err := publisher.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		p.Close(ctx)
	})
	return p
}

// tune changes the stream of turns.
func (w *world) tune(set func(*jetstream.StreamConfig)) {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), stream.Turns)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	set(&cfg)
	if _, err := w.js.UpdateStream(w.t.Context(), cfg); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) purge() {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), stream.Turns)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := s.Purge(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// messages returns everything in the stream.
func (w *world) messages() []jetstream.Msg {
	w.t.Helper()
	ctx := w.t.Context()
	s, err := w.js.Stream(ctx, stream.Turns)
	if err != nil {
		w.t.Fatal(err)
	}
	want := int(s.CachedInfo().State.Msgs)
	if want == 0 {
		return nil
	}
	c, err := s.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		w.t.Fatal(err)
	}
	var all []jetstream.Msg
	for len(all) < want {
		batch, err := c.Fetch(min(1000, want-len(all)), jetstream.FetchMaxWait(patience))
		if err != nil {
			w.t.Fatal(err)
		}
		n := len(all)
		for m := range batch.Messages() {
			all = append(all, m)
		}
		if batch.Error() != nil || len(all) == n {
			w.t.Fatalf("read the stream: %d of %d: %v", len(all), want, batch.Error())
		}
	}
	return all
}

// key tells turns apart.
func key(session, id string, rev int) string { return fmt.Sprintf("%s/%s/%d", session, id, rev) }

// stored returns the turns in the stream, and how often each is there.
func (w *world) stored() map[string]int {
	w.t.Helper()
	count := make(map[string]int)
	for _, m := range w.messages() {
		s, err := transcript.Decode(m.Data(), 0)
		if err != nil {
			w.t.Fatalf("in the stream: %v", err)
		}
		if m.Subject() != stream.TurnSubject(s.SessionID) {
			w.t.Errorf("a turn of %q is on %s", s.SessionID, m.Subject())
		}
		count[key(s.SessionID, s.ID, s.Rev)]++
	}
	return count
}

func waitStored(t *testing.T, rs ...*publisher.Receipt) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, r := range rs {
		if err := r.Wait(ctx, publisher.Stored); err != nil {
			t.Fatal(err)
		}
	}
}

// must returns a function, so that must(t)(p.Publish(…)) fails the test on an error.
func must(t *testing.T) func(*publisher.Receipt, error) *publisher.Receipt {
	return func(r *publisher.Receipt, err error) *publisher.Receipt {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func closeNow(t *testing.T, p *publisher.Publisher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// spread lets things run for a while. Nothing depends on how long that is.
func spread(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
