package publisher_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

func TestBeginThenComplete(t *testing.T) {
	w := newStreamWorld(t)
	now := time.Date(2026, 11, 23, 15, 4, 5, 123456789, time.UTC)
	p := w.publisher(func(c *publisher.Config) { c.Now = func() time.Time { return now } })
	turn, begun, err := p.Begin(t.Context(), transcript.Turn{SessionID: "s", User: "q"})
	if err != nil {
		t.Fatal(err)
	}
	if turn.ID == "" || turn.Timestamp != now.Truncate(time.Microsecond) || turn.Status != transcript.Pending || turn.Rev != 1 {
		t.Errorf("%+v", turn)
	}
	turn.Assistant = "a"
	now = now.Add(-time.Hour) // the clock steps back; a turn does not end before it began
	done := must(t)(p.Complete(t.Context(), turn))
	if done.ID != begun.ID || done.Timestamp != begun.Timestamp || done.Rev != 2 {
		t.Errorf("%v after %v", done, begun)
	}
	waitStored(t, begun, done)
	got := p.Pending("s")
	if len(got) != 1 || got[0].Rev != 2 || got[0].Status != transcript.Complete || got[0].CompletedAt != begun.Timestamp || !got[0].Answered() {
		t.Errorf("pending %+v", got)
	}
	if got := w.stored(); len(got) != 2 {
		t.Errorf("stored %v", got)
	}
}

func TestCompleteAfterBeginFoundNoRoom(t *testing.T) {
	w := newWorld(t)
	p := w.publisher(func(c *publisher.Config) { c.BufferTurns = 1 })
	r := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"}))
	turn, _, err := p.Begin(t.Context(), transcript.Turn{SessionID: "s", User: "q"})
	if !errors.Is(err, publisher.ErrOverflow) {
		t.Fatal(err)
	}
	w.ensure()
	waitStored(t, r)
	turn.Assistant = "a"
	waitStored(t, must(t)(p.Complete(t.Context(), turn)))
}

func TestCompleteKeepsStatusAndTime(t *testing.T) {
	w := newWorld(t)
	p := w.publisher(nil)
	turn, _, err := p.Begin(t.Context(), transcript.Turn{SessionID: "s", User: "q"})
	if err != nil {
		t.Fatal(err)
	}
	turn.Status, turn.Assistant = transcript.Cancelled, "half"
	turn.CompletedAt = turn.Timestamp.Add(time.Minute)
	must(t)(p.Complete(t.Context(), turn))
	got := p.Pending("s")[0]
	if got.Status != transcript.Cancelled || got.CompletedAt != transcript.InstantOf(turn.CompletedAt) {
		t.Errorf("%+v", got)
	}
}

func TestFail(t *testing.T) {
	w := newWorld(t)
	p := w.publisher(nil)
	turn, _, err := p.Begin(t.Context(), transcript.Turn{SessionID: "s", User: "q"})
	if err != nil {
		t.Fatal(err)
	}
	// The text of an error is not always fit to be kept as it is.
	must(t)(p.Fail(t.Context(), turn, errors.New("bad \xff byte "+strings.Repeat("é", 4000))))
	s := p.Pending("s")[0]
	got, err := s.Turn()
	if err != nil {
		t.Fatal(err)
	}
	if got.Status != transcript.Failed || got.Rev != 2 || !strings.HasPrefix(got.Error, "bad \uFFFD byte é") || len(got.Error) > 4096 || got.CompletedAt.IsZero() {
		t.Errorf("%+v", got)
	}
}

func TestExchangeRefusesMalformed(t *testing.T) {
	w := newWorld(t)
	p := w.publisher(nil)
	for member, err := range map[string]error{
		"rev": func() error {
			_, _, err := p.Begin(t.Context(), transcript.Turn{SessionID: "s", User: "q", Rev: 2})
			return err
		}(),
		"id": func() error {
			_, err := p.Complete(t.Context(), transcript.Turn{SessionID: "s", User: "q"})
			return err
		}(),
		"timestamp": func() error {
			_, err := p.Fail(t.Context(), transcript.Turn{SessionID: "s", ID: "x", User: "q"}, nil)
			return err
		}(),
	} {
		var rule *transcript.RuleError
		if !errors.As(err, &rule) || rule.Member != member {
			t.Errorf("%v, want a rule error of %s", err, member)
		}
	}
}

// Every snapshot of a turn names what it follows and what it supersedes, a failure too, so that no branch is lost on
// the way; what cannot be named is refused, and so is a redaction with text in it.
func TestExchangesOfBranches(t *testing.T) {
	w := newWorld(t)
	p := w.publisher(nil)
	for _, parent := range []string{"", "first"} {
		for name, finish := range map[string]func(transcript.Turn) error{
			"begun":     func(transcript.Turn) error { return nil },
			"completed": func(turn transcript.Turn) error { _, err := p.Complete(t.Context(), turn); return err },
			"failed":    func(turn transcript.Turn) error { _, err := p.Fail(t.Context(), turn, errors.New("x")); return err },
		} {
			session := "s " + name + parent
			turn, _, err := p.Begin(t.Context(), transcript.Turn{SessionID: session, User: "q", Parent: &parent, Supersedes: "second"})
			if err != nil {
				t.Fatal(err)
			}
			turn.Assistant = "a"
			if err := finish(turn); err != nil {
				t.Fatal(err)
			}
			got := p.Pending(session)
			if len(got) != 1 || !got[0].HasParent || got[0].Parent != parent || got[0].Supersedes != "second" {
				t.Errorf("%s after %q: %+v", name, parent, got)
			}
		}
	}
	bad := "no id"
	for member, turn := range map[string]transcript.Turn{
		"parent":     {SessionID: "s", User: "q", Parent: &bad},
		"supersedes": {SessionID: "s", User: "q", Supersedes: bad},
		"user":       {SessionID: "s", ID: "r", Timestamp: time.Now(), Rev: transcript.RedactRev, Status: transcript.Redacted, User: "q"},
		"tool_calls": {SessionID: "s", ID: "r", Timestamp: time.Now(), Rev: transcript.RedactRev, Status: transcript.Redacted, ToolCalls: []transcript.ToolCall{{}}},
	} {
		var rule *transcript.RuleError
		if _, err := p.Publish(t.Context(), turn); !errors.As(err, &rule) || rule.Member != member {
			t.Errorf("%s: %v", member, err)
		}
	}
	if got := p.Pending("s"); len(got) > 0 {
		t.Errorf("accepted %+v", got)
	}
}
