package live_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// However many listen, the stream is read once, and not at all when nobody does.
func TestOneReader(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("s", 0, 3) // before anybody listens
	if n := w.readers(); n != 0 {
		t.Fatalf("%d readers before anybody listens", n)
	}
	var clients []*live.Client
	for range 5 {
		clients = append(clients, w.listen(live.Want{}))
	}
	if n := w.readers(); n != 1 {
		t.Errorf("%d readers for %d clients", n, len(clients))
	}
	last := w.publish("s", 3, 20)
	for _, c := range clients {
		wants(t, c, "s", 3, 20)
		if got := c.Position(); got != last {
			t.Errorf("position %d, want %d", got, last)
		}
		nothing(t, c)
		c.Close()
		c.Close()
	}
	servertest.Eventually(t, patience, "no reader", func() bool { return w.readers() == 0 })
	if s := w.feed.Stats(); s.Clients != 0 || s.Turns != 100 || s.Missed != 0 {
		t.Errorf("%+v", s)
	}
	// And again.
	c := w.listen(live.Want{})
	w.publish("s", 23, 1)
	wants(t, c, "s", 23, 1)
}

func TestWants(t *testing.T) {
	w := newWorld(t, nil)
	one, some := w.listen(live.Want{Session: "a/1"}), w.listen(live.Want{Prefix: "a/"})
	w.publish("a/1", 0, 1)
	w.publish("a/2", 1, 1)
	w.raw(stream.TurnSubject("a/1"), "no turn")
	w.raw(stream.TurnSubject("a/1"), `{"id":"t","session_id":"other","timestamp":"2026-01-31T12:00:00Z","user":"q"}`)
	last := w.publish("b", 2, 1)
	wants(t, one, "a/1", 0, 1)
	wants(t, some, "a/1", 0, 1)
	wants(t, some, "a/2", 1, 1)
	nothing(t, one)
	nothing(t, some)
	// Who comes again with this need not look through what it did not want.
	servertest.Eventually(t, patience, "the position", func() bool { return one.Position() == last })
}

// A client that does not take its turns misses the oldest, is told how many, and
// holds up nobody; their end is never missed.
func TestSlowClient(t *testing.T) {
	w := newWorld(t, func(c *live.Config) { c.QueueTurns = 10 })
	slow, quick := w.listen(live.Want{}), w.listen(live.Want{})
	first := w.publish("s", 0, 1)
	wants(t, slow, "s", 0, 1)
	wants(t, quick, "s", 0, 1)
	for i := range 100 {
		w.publish("s", 1+i, 1)
		wants(t, quick, "s", 1+i, 1)
	}
	g := gap(t, slow, live.Slow)
	if g.Gap.Missed != 90 || g.Gap.After != first || g.Sequence != first+90 {
		t.Errorf("%d %+v", g.Sequence, g.Gap)
	}
	wants(t, slow, "s", 91, 10)
	nothing(t, slow)
	if s := w.feed.Stats(); s.Missed != 90 {
		t.Errorf("%+v", s)
	}
	// What it missed, it can still have.
	again := w.listen(live.Want{Resume: true, After: g.Gap.After})
	wants(t, again, "s", 1, 100)
}

func TestQueueBytes(t *testing.T) {
	w := newWorld(t, func(c *live.Config) { c.QueueBytes = 300 }) // two turns or so
	c := w.listen(live.Want{})
	w.publish("s", 0, 50)
	servertest.Eventually(t, patience, "missed turns", func() bool { return w.feed.Stats().Turns == 50 })
	if g := gap(t, c, live.Slow); g.Gap.Missed < 40 || g.Gap.Missed > 49 {
		t.Errorf("%+v", g.Gap)
	}
}

// What came while a client was away comes first, then what is new, each once.
func TestResume(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("s", 0, 1)
	w.publish("other", 0, 5)
	w.publish("s", 1, 100)
	all := w.listen(live.Want{Resume: true, Session: "s"})
	wants(t, all, "s", 0, 101)
	part := w.listen(live.Want{Resume: true, After: 6, Prefix: "s"})
	last := w.publish("s", 101, 10)
	wants(t, part, "s", 1, 110)
	nothing(t, part)
	wants(t, all, "s", 101, 10)
	w.listen(live.Want{Resume: true, After: last}) // nothing of the past
	none := w.listen(live.Want{Resume: true, Session: "nobody"})
	nothing(t, none)
	if got := none.Position(); got != last {
		t.Errorf("position %d, want %d", got, last)
	}
}

// The past is given in pieces; with the last sequence of one, a client gets the next.
func TestResumeInPieces(t *testing.T) {
	w := newWorld(t, func(c *live.Config) { c.Resume = 40 })
	w.publish("s", 0, 100)
	after, got := uint64(0), 0
	for range 3 {
		c := w.listen(live.Want{Resume: true, After: after})
		n := min(40, 100-got)
		wants(t, c, "s", got, n)
		got += n
		if after = c.Position(); after != uint64(got) {
			t.Fatalf("position %d after %d turns", after, got)
		}
		if n == 40 {
			if _, err := c.Next(t.Context()); !errors.Is(err, live.ErrResumed) {
				t.Fatal(err)
			}
		} else {
			nothing(t, c)
		}
		c.Close()
	}
}

func TestExpiredPast(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("s", 0, 20)
	s, err := w.js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	purge := func(below uint64) {
		t.Helper()
		if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(below)); err != nil {
			t.Fatal(err)
		}
	}
	purge(11)
	c := w.listen(live.Want{Resume: true, After: 4})
	if g := gap(t, c, live.Expired); g.Sequence != 10 || g.Gap.Missed != 6 || g.Gap.After != 4 {
		t.Errorf("%d %+v", g.Sequence, g.Gap)
	}
	wants(t, c, "s", 10, 10)
	purge(21) // everything
	c = w.listen(live.Want{Resume: true, After: 4})
	if g := gap(t, c, live.Expired); g.Sequence != 20 || g.Gap.Missed != 16 {
		t.Errorf("%d %+v", g.Sequence, g.Gap)
	}
	w.publish("s", 20, 1)
	wants(t, c, "s", 20, 1)
}

// A server that restarts is waited for, and nothing is missed.
func TestServerRestarts(t *testing.T) {
	w := newWorld(t, nil)
	c := w.listen(live.Want{})
	w.publish("s", 0, 1)
	wants(t, c, "s", 0, 1)
	w.srv.Stop()
	w.srv.Restart()
	servertest.Eventually(t, patience, "the connection", func() bool { return w.js.Conn().IsConnected() })
	servertest.Eventually(t, patience, "the stream", func() bool {
		_, err := w.js.Publish(t.Context(), stream.TurnSubject("s"), []byte(`{"id":"t1","session_id":"s","timestamp":"2026-01-31T12:00:00Z","user":"q"}`))
		return err == nil
	})
	wants(t, c, "s", 1, 1)
	servertest.Eventually(t, patience, "reading", func() bool { return c.Waiting() == nil })
}

// Sequences of a stream that was made again say nothing about the old one.
func TestStreamMadeAgain(t *testing.T) {
	w := newWorld(t, nil)
	c := w.listen(live.Want{})
	last := w.publish("s", 0, 5)
	wants(t, c, "s", 0, 5)
	if err := w.js.DeleteStream(t.Context(), stream.Turns); err != nil {
		t.Fatal(err)
	}
	w.ensure()
	if g := gap(t, c, live.Reset); g.Gap.After != last || g.Sequence != 0 {
		t.Errorf("%d %+v", g.Sequence, g.Gap)
	}
	w.publish("s", 7, 1)
	wants(t, c, "s", 7, 1)
	late := w.listen(live.Want{Resume: true, After: last})
	if g := gap(t, late, live.Reset); g.Gap.After != last {
		t.Errorf("%+v", g.Gap)
	}
	w.publish("s", 8, 1)
	wants(t, late, "s", 8, 1)
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, func(c *live.Config) { c.Clients = 2 })
	a, _ := w.listen(live.Want{}), w.listen(live.Want{})
	if _, err := w.feed.Listen(t.Context(), live.Want{}); !errors.Is(err, live.ErrFull) {
		t.Errorf("%v", err)
	}
	if s := w.feed.Stats(); s.Clients != 2 || s.Refused != 1 {
		t.Errorf("%+v", s)
	}
	a.Close()
	b := w.listen(live.Want{})
	if err := w.feed.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Next(t.Context()); !errors.Is(err, live.ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := w.feed.Listen(t.Context(), live.Want{}); !errors.Is(err, live.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// Who comes while the stream cannot be read is told so, and leaves nothing behind.
func TestUnreachable(t *testing.T) {
	w := newWorld(t, func(c *live.Config) { c.Request = 300 * time.Millisecond })
	w.srv.Stop()
	for range 3 {
		if _, err := w.feed.Listen(t.Context(), live.Want{}); err == nil {
			t.Fatal("listens to nothing")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.feed.Listen(ctx, live.Want{}); err == nil {
		t.Error("listens to nothing")
	}
	if s := w.feed.Stats(); s.Clients != 0 {
		t.Errorf("%+v", s)
	}
	w.srv.Restart()
	var c *live.Client
	servertest.Eventually(t, patience, "the stream", func() (ok bool) {
		var err error
		c, err = w.feed.Listen(t.Context(), live.Want{})
		return err == nil
	})
	defer c.Close()
	w.publish("s", 0, 1)
	wants(t, c, "s", 0, 1)
}
