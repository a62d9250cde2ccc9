package publisher_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

func ids(turns []transcript.Snapshot) (list []string) {
	for _, s := range turns {
		list = append(list, fmt.Sprintf("%s/%d", s.ID, s.Rev))
	}
	return list
}

func TestPendingIsMergedAndOrdered(t *testing.T) {
	w := newWorld(t) // no stream: nothing gets stored
	p := w.publisher(nil)
	at := time.Now()
	for _, turn := range []transcript.Turn{
		{ID: "c", Timestamp: at.Add(2 * time.Second)},
		{ID: "a", Timestamp: at, Rev: 2},
		{ID: "a", Timestamp: at},
		{ID: "b", Timestamp: at, Status: transcript.Pending},
		{ID: "b", Timestamp: at},
	} {
		turn.SessionID, turn.User = "s", "q"
		must(t)(p.Publish(t.Context(), turn))
	}
	must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "other", User: "q"}))
	pending := p.Pending("s")
	if got := fmt.Sprint(ids(pending)); got != "[a/2 b/1 c/1]" || pending[1].Status != transcript.Complete {
		t.Fatalf("got %v %v", got, pending)
	}
	if len(p.Pending("nobody")) != 0 {
		t.Error("pending turns of nobody")
	}

	p.Settle("s", "a", 1) // the history is behind
	if got := fmt.Sprint(ids(p.Pending("s"))); got != "[a/2 b/1 c/1]" {
		t.Errorf("got %v", got)
	}
	p.Settle("s", "a", 2)
	p.Settle("s", "c", 9)
	if got := fmt.Sprint(ids(p.Pending("s"))); got != "[b/1]" {
		t.Errorf("got %v", got)
	}
	p.Settle("s", "b", 1)
	p.Settle("s", "b", 1)
	p.Settle("nobody", "b", 1)
	if got := p.Pending("s"); len(got) != 0 {
		t.Errorf("got %v", got)
	}

	// Settled is not stored: they still have to reach the stream.
	if n := p.Stats().Turns; n != 6 {
		t.Errorf("%d turns to store", n)
	}
	w.ensure()
	closeNow(t, p)
	if n := len(w.messages()); n != 6 {
		t.Errorf("%d messages", n)
	}
	if s := p.Stats(); s.Unsettled != 1 {
		t.Errorf("%+v", s)
	}
}

func TestLevel(t *testing.T) {
	w := newWorld(t)
	p := w.publisher(nil)
	turn, _, err := p.Begin(t.Context(), transcript.Turn{SessionID: "s", User: "q"})
	if err != nil {
		t.Fatal(err)
	}
	if l, ok := p.Level("s", turn.ID, 1); !ok || l != publisher.Buffered {
		t.Errorf("%v %v", l, ok)
	}
	if _, ok := p.Level("s", turn.ID, 2); ok {
		t.Error("rev 2 is known")
	}
	w.ensure()
	waitStored(t, must(t)(p.Complete(t.Context(), turn)))
	if l, ok := p.Level("s", turn.ID, 2); !ok || l != publisher.Stored {
		t.Errorf("%v %v", l, ok)
	}
	p.Settle("s", turn.ID, 2)
	if _, ok := p.Level("s", turn.ID, 2); ok {
		t.Error("a settled turn is still known")
	}
}

func TestPendingIsBounded(t *testing.T) {
	fill := func(t *testing.T, set func(*publisher.Config)) *publisher.Publisher {
		p := newStreamWorld(t).publisher(set)
		for range 50 {
			waitStored(t, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})))
		}
		return p
	}
	t.Run("by count", func(t *testing.T) {
		p := fill(t, func(c *publisher.Config) { c.SettleTurns = 10 })
		if got := len(p.Pending("s")); got != 10 || p.Stats().Unsettled != 10 {
			t.Errorf("%d pending", got)
		}
	})
	t.Run("by bytes", func(t *testing.T) {
		p := fill(t, func(c *publisher.Config) { c.SettleBytes = 1000 })
		if got := len(p.Pending("s")); got == 0 || got > 10 {
			t.Errorf("%d pending", got)
		}
	})
	t.Run("by time", func(t *testing.T) {
		p := fill(t, func(c *publisher.Config) { c.SettleFor = 50 * time.Millisecond })
		servertest.Eventually(t, patience, "them to be forgotten", func() bool { return len(p.Pending("s")) == 0 })
	})
}
