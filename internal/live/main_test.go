package live_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// world is a stream on a real server, with a feed of it.
type world struct {
	t    *testing.T
	srv  *servertest.NATSServer
	js   jetstream.JetStream
	feed *live.Feed
}

func newWorld(t *testing.T, set func(*live.Config)) *world {
	t.Helper()
	w := &world{t: t, srv: servertest.NATS(t)}
	nc, err := stream.Connect(t.Context(), stream.Config{URL: w.srv.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	w.ensure()
	cfg := live.Config{JS: w.js, RetryMax: 100 * time.Millisecond}
	if set != nil {
		set(&cfg)
	}
	if w.feed, err = live.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := w.feed.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) ensure() {
	w.t.Helper()
	if err := stream.Ensure(w.t.Context(), w.js, stream.StreamConfig{}); err != nil {
		w.t.Fatal(err)
	}
}

// publish stores turns n, n+1, … of a session and returns the last sequence.
func (w *world) publish(session string, from, count int) (last uint64) {
	w.t.Helper()
	for i := range count {
		turn := fmt.Sprintf(`{"id":"t%d","session_id":%q,"timestamp":"2026-01-31T12:00:00Z","user":"q","assistant":"a"}`, from+i, session)
		last = w.raw(stream.TurnSubject(session), turn)
	}
	return last
}

func (w *world) raw(subject, payload string) uint64 {
	w.t.Helper()
	ack, err := w.js.Publish(w.t.Context(), subject, []byte(payload))
	if err != nil {
		w.t.Fatal(err)
	}
	return ack.Sequence
}

func (w *world) listen(want live.Want) *live.Client {
	w.t.Helper()
	c, err := w.feed.Listen(w.t.Context(), want)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(c.Close)
	return c
}

// next returns what comes next.
func next(t *testing.T, c *live.Client) live.Item {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	it, err := c.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return it
}

// wants checks that these turns of a session come next, and nothing else.
func wants(t *testing.T, c *live.Client, session string, from, count int) {
	t.Helper()
	for i := range count {
		it := next(t, c)
		if id := fmt.Sprintf("t%d", from+i); it.Gap != nil || it.Turn.ID != id || it.Turn.SessionID != session || it.Stored.IsZero() {
			t.Fatalf("got turn %q of %q at %d with gap %+v, want %q of %q", it.Turn.ID, it.Turn.SessionID, it.Sequence, it.Gap, id, session)
		}
	}
}

// nothing checks that nothing is there yet.
func nothing(t *testing.T, c *live.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if it, err := c.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %+v, %v", it, err)
	}
}

func gap(t *testing.T, c *live.Client, reason string) live.Item {
	t.Helper()
	it := next(t, c)
	if it.Gap == nil || it.Gap.Reason != reason {
		t.Fatalf("got %+v, want a gap: %s", it, reason)
	}
	return it
}

// readers is how many consumers the stream has.
func (w *world) readers() int {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), stream.Turns)
	if err != nil {
		w.t.Fatal(err)
	}
	return s.CachedInfo().State.Consumers
}
