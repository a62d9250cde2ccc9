package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

func TestPublishStores(t *testing.T) {
	w := newStreamWorld(t)
	var took []time.Duration
	type traceKey struct{}
	p := w.publisher(func(c *publisher.Config) {
		c.OnStored = func(d time.Duration) { took = append(took, d) }
		c.Trace = func(ctx context.Context) (string, func(error)) { s, _ := ctx.Value(traceKey{}).(string); return s, nil }
	})
	ctx := context.WithValue(t.Context(), traceKey{}, "00-trace")
	r := must(t)(p.Publish(ctx, transcript.Turn{SessionID: "a/b *", User: "q", Assistant: "a"}))
	if r.ID == "" || r.Timestamp == 0 || r.Rev != 1 {
		t.Errorf("receipt %q %v %d", r.ID, r.Timestamp, r.Rev)
	}
	waitStored(t, r)
	if r.Level() != publisher.Stored || r.Err() != nil {
		t.Errorf("level %v, err %v", r.Level(), r.Err())
	}
	select {
	case <-r.Stored():
	default:
		t.Error("Stored is still open")
	}

	all := w.messages()
	if len(all) != 1 {
		t.Fatalf("%d messages", len(all))
	}
	m := all[0]
	if m.Subject() != "afterword.turns.a=2Fb=20=2A" {
		t.Errorf("subject %s", m.Subject())
	}
	if got := m.Headers().Get(stream.HeaderMsgID); got != stream.MsgID(m.Data()) {
		t.Errorf("message id %s", got)
	}
	if got := m.Headers()[stream.HeaderTraceparent]; len(got) != 1 || got[0] != "00-trace" {
		t.Errorf("traceparent %v", got)
	}
	s, err := transcript.Decode(m.Data(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != r.ID || s.Timestamp != r.Timestamp || s.SessionID != "a/b *" || s.Status != transcript.Complete || string(s.Payload()) != string(m.Data()) {
		t.Errorf("stored %s", m.Data())
	}
	if _, err := p.Publish(t.Context(), transcript.Turn{SessionID: "\n", User: "q"}); err == nil {
		t.Error("a bad session id is accepted")
	}
	if s := p.Stats(); s.Acks != 1 || s.Malformed != 1 {
		t.Errorf("%d acknowledgements and %d malformed turns counted", s.Acks, s.Malformed)
	}
	closeNow(t, p)
	if len(took) != 1 {
		t.Errorf("OnStored was told %v", took)
	}
}

func TestPublishDraftKeepsUnknownMembers(t *testing.T) {
	w := newStreamWorld(t)
	p := w.publisher(nil)
	d, err := transcript.ParseDraft([]byte(`{"user":"q","zeta":{"b":1e2,"a":[1.0]}}`))
	if err != nil {
		t.Fatal(err)
	}
	d.SessionID = "s"
	r := must(t)(p.PublishDraft(t.Context(), &d))
	waitStored(t, r)
	if data := string(w.messages()[0].Data()); !strings.Contains(data, `"zeta":{"b":1e2,"a":[1.0]}`) {
		t.Errorf("stored %s", data)
	}
}

func TestPublishKeepsWhatTheCallerGives(t *testing.T) {
	w := newWorld(t)
	p := w.publisher(nil)
	at := time.Now().Add(30 * time.Minute) // ahead, but not as far as a clock is not moved
	r := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", ID: "mine", Timestamp: at, User: "q"}))
	if r.ID != "mine" || r.Timestamp != transcript.InstantOf(at) {
		t.Errorf("receipt %q %v", r.ID, r.Timestamp)
	}
	if next := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})); next.Timestamp != r.Timestamp+1 {
		t.Errorf("after a supplied %v comes %v", r.Timestamp, next.Timestamp)
	}
	p.Observe("s", r.Timestamp+100)
	if next := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})); next.Timestamp != r.Timestamp+101 {
		t.Errorf("after an observed %v comes %v", r.Timestamp+100, next.Timestamp)
	}
}

func TestPublishRefusesMalformed(t *testing.T) {
	w := newWorld(t)
	p := w.publisher(func(c *publisher.Config) { c.MaxPayload = 500 })
	at := time.Now()
	for _, c := range []struct {
		member string
		turn   transcript.Turn
	}{
		{"session_id", transcript.Turn{User: "q"}},
		{"session_id", transcript.Turn{SessionID: "a\nb", User: "q"}},
		{"user", transcript.Turn{SessionID: "s", User: "\xff"}},
		{"id", transcript.Turn{SessionID: "s", ID: "a b", Timestamp: at, User: "q"}},
		{"timestamp", transcript.Turn{SessionID: "s", ID: "x", User: "q"}},
		{"timestamp", transcript.Turn{SessionID: "s", Timestamp: at.AddDate(300, 0, 0), User: "q"}},
		{"timestamp", transcript.Turn{SessionID: "s", Timestamp: at.Add(transcript.MaxAhead + time.Minute), User: "q"}},
		{"timestamp", transcript.Turn{SessionID: "s", ID: "x", Timestamp: at.AddDate(100, 0, 0), User: "q"}},
		{"completed_at", transcript.Turn{SessionID: "s", User: "q", CompletedAt: at.Add(transcript.MaxAhead + time.Minute)}},
		{"status", transcript.Turn{SessionID: "s", User: "q", Status: "done"}},
		{"id", transcript.Turn{SessionID: "s", User: "q", Rev: 2}},
	} {
		_, err := p.Publish(t.Context(), c.turn)
		var rule *transcript.RuleError
		if !errors.As(err, &rule) || rule.Member != c.member || !transcript.Malformed(err) {
			t.Errorf("%+v: got %v, want a rule error of %s", c.turn, err, c.member)
		}
	}
	var large *transcript.TooLargeError
	if _, err := p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: strings.Repeat("x", 500)}); !errors.As(err, &large) || large.Limit != 500 {
		t.Errorf("too large: %v", err)
	}
	d := &transcript.Draft{SessionID: "s", ID: "x", Rev: 1, Status: transcript.Complete}
	if _, err := p.PublishDraft(t.Context(), d); !transcript.Malformed(err) {
		t.Errorf("id without timestamp: %v", err)
	}
	if s := p.Stats(); s.Accepted != 0 {
		t.Errorf("accepted %d", s.Accepted)
	}
}

func TestPublishRefusesClockOutOfRange(t *testing.T) {
	w := newWorld(t)
	p := w.publisher(func(c *publisher.Config) {
		c.Now = func() time.Time { return time.Date(1969, 12, 31, 0, 0, 0, 0, time.UTC) }
	})
	_, err := p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})
	if !errors.Is(err, publisher.ErrClock) || transcript.Malformed(err) {
		t.Errorf("got %v", err)
	}
}

func TestOverflow(t *testing.T) {
	const turns = 5
	turn := transcript.Turn{SessionID: "s", User: strings.Repeat("q", 100)}
	size := func() int64 {
		d, err := turn.Draft()
		if err != nil {
			t.Fatal(err)
		}
		d.ID = "0198a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
		d.SetTimestamp(1)
		s, err := d.Snapshot(0)
		if err != nil {
			t.Fatal(err)
		}
		return int64(s.Size())
	}()
	for name, set := range map[string]func(*publisher.Config){
		"by count": func(c *publisher.Config) { c.BufferTurns = turns },
		"by bytes": func(c *publisher.Config) { c.MaxPayload, c.BufferBytes = 1000, turns*size+size/2 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newStreamWorld(t)
			p := w.publisher(set)
			w.srv.Stop()
			var rs []*publisher.Receipt
			for range turns {
				rs = append(rs, must(t)(p.Publish(t.Context(), turn)))
			}
			if _, err := p.Publish(t.Context(), turn); !errors.Is(err, publisher.ErrOverflow) {
				t.Fatalf("got %v", err)
			}
			if s := p.Stats(); s.Turns != turns || s.Bytes != turns*size || s.Overflows != 1 || s.Oldest <= 0 {
				t.Errorf("%+v", s)
			}
			servertest.Eventually(t, patience, "the loss to show", func() bool { return p.Stats().Blocked > 0 })
			w.srv.Restart()
			waitStored(t, rs...)
			waitStored(t, must(t)(p.Publish(t.Context(), turn)))
			if s := p.Stats(); s.Turns != 0 || s.Bytes != 0 || s.Oldest != 0 || s.Blocked != 0 || s.Stored != turns+1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestConcurrentPublishersKeepOrder(t *testing.T) {
	w := newStreamWorld(t)
	p := w.publisher(nil)
	const publishers, each, sessions = 8, 250, 4
	stamps := make([]map[transcript.Instant]bool, sessions)
	for i := range stamps {
		stamps[i] = make(map[transcript.Instant]bool)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range publishers {
		wg.Go(func() {
			last := make([]transcript.Instant, sessions)
			for i := range each {
				s := i % sessions
				r, err := p.Publish(t.Context(), transcript.Turn{SessionID: fmt.Sprint("s", s), User: "q"})
				if err != nil {
					t.Error(err)
					return
				}
				if r.Timestamp <= last[s] {
					t.Errorf("%v after %v", r.Timestamp, last[s])
				}
				last[s] = r.Timestamp
				mu.Lock()
				if stamps[s][r.Timestamp] {
					t.Errorf("two turns at %v", r.Timestamp)
				}
				stamps[s][r.Timestamp] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	closeNow(t, p)
	if n := len(w.stored()); n != publishers*each {
		t.Errorf("%d stored", n)
	}
}

func TestOneCallerIsSentInOrder(t *testing.T) {
	w := newStreamWorld(t)
	p := w.publisher(nil)
	var want []string
	for range 500 {
		want = append(want, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"})).ID)
	}
	closeNow(t, p)
	for i, m := range w.messages() {
		if s, err := transcript.Decode(m.Data(), 0); err != nil || s.ID != want[i] {
			t.Fatalf("message %d is %s, want %s (%v)", i, s.ID, want[i], err)
		}
	}
}

func TestClose(t *testing.T) {
	turn := transcript.Turn{SessionID: "s", User: "q"}
	t.Run("drains", func(t *testing.T) {
		w := newStreamWorld(t)
		p := w.publisher(nil)
		for range 1000 {
			must(t)(p.Publish(t.Context(), turn))
		}
		closeNow(t, p)
		if n := len(w.stored()); n != 1000 {
			t.Errorf("%d stored", n)
		}
		if _, err := p.Publish(t.Context(), turn); !errors.Is(err, publisher.ErrClosed) {
			t.Errorf("publish after close: %v", err)
		}
		closeNow(t, p) // a second one is harmless
	})
	t.Run("says how many are left", func(t *testing.T) {
		w := newWorld(t) // no stream
		p := w.publisher(nil)
		var r *publisher.Receipt
		for range 7 {
			r = must(t)(p.Publish(t.Context(), turn))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := p.Close(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "7 turns") {
			t.Errorf("got %v", err)
		}
		if err := r.Wait(t.Context(), publisher.Stored); !errors.Is(err, publisher.ErrClosed) {
			t.Errorf("wait after close: %v", err)
		}
	})
	t.Run("does not wait for a closed connection", func(t *testing.T) {
		w := newWorld(t)
		p := w.publisher(nil)
		must(t)(p.Publish(t.Context(), turn))
		w.js.Conn().Close()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := p.Close(ctx); !errors.Is(err, nats.ErrConnectionClosed) || !strings.Contains(err.Error(), "1 turn ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestWaitEnds(t *testing.T) {
	w := newWorld(t) // no stream
	p := w.publisher(nil)
	r := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "q"}))
	if err := r.Wait(t.Context(), publisher.Buffered); err != nil {
		t.Errorf("buffered: %v", err)
	}
	servertest.Eventually(t, patience, "a refusal", func() bool { return r.Err() != nil })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := r.Wait(ctx, publisher.Spooled)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "last try") {
		t.Errorf("stored: %v", err)
	}
	if err := r.Wait(t.Context(), publisher.Written); err == nil {
		t.Error("a receipt cannot know about written")
	}
}

func TestConfig(t *testing.T) {
	w := newWorld(t)
	for name, cfg := range map[string]publisher.Config{
		"no Conn":          {},
		"negative":         {Conn: w.js.Conn(), Window: -1},
		"retry":            {Conn: w.js.Conn(), RetryMin: time.Minute},
		"buffer too small": {Conn: w.js.Conn(), BufferBytes: 1000},
	} {
		if p, err := publisher.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
			closeNow(t, p)
		}
	}
}
