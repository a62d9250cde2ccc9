package publisher

import (
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/afterword-io/afterword/transcript"
)

// TestClockKeepsOrder steps the wall clock by up to ten years either way: order is kept as
// long as the stream would take the turn.
func TestClockKeepsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const decade = int64(10 * 365 * 24 * time.Hour)
		now := time.Date(2026, 11, 23, 15, 4, 5, 123456789, time.UTC)
		c, err := newClock(func() time.Time { return now }, 8)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[string]transcript.Instant)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			session := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "session")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				now = now.Add(time.Duration(rapid.Int64Range(-decade, decade).Draw(t, "step")))
				if y := now.Year(); y < 1990 || y > 2180 {
					now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
				}
			case 1:
				at := transcript.InstantOf(now.Add(time.Duration(rapid.Int64Range(-decade, decade).Draw(t, "observed"))))
				c.observe(session, at)
				seen[session] = max(seen[session], min(at, transcript.InstantOf(now.Add(maxAhead))))
			default:
				at, err := c.stamp(session)
				if err != nil {
					t.Fatal(err)
				}
				want := max(transcript.InstantOf(now), seen[session]+1)
				if seen[session] > transcript.InstantOf(now.Add(transcript.MaxAhead)) { // the stream would refuse it
					want = transcript.InstantOf(now.Add(maxAhead))
				}
				if at != want {
					t.Fatalf("%v, want %v", at, want)
				}
				seen[session] = at
			}
		}
	})
}

func TestClockRange(t *testing.T) {
	if _, err := transcript.ParseInstant(lastInstant.String()); err != nil {
		t.Errorf("the last instant: %v", err)
	}
	if _, err := transcript.ParseInstant((lastInstant + 1).String()); err == nil {
		t.Error("lastInstant is not the last")
	}
	now := lastInstant.Time()
	c, err := newClock(func() time.Time { return now }, 8)
	if err != nil {
		t.Fatal(err)
	}
	c.observe("s", -1)
	c.observe("s", lastInstant+1) // would stop the clock of the session
	if at, err := c.stamp("s"); err != nil || at != lastInstant {
		t.Errorf("%v %v", at, err)
	}
	if _, err := c.stamp("s"); err == nil {
		t.Error("a stamp after the last instant")
	}
	if at, err := c.stamp("another"); err != nil || at != lastInstant {
		t.Errorf("another session: %v %v", at, err)
	}
}

// One turn dated far ahead moves its session's clock by an hour at most, however it is
// learned of, and stamps go on rising there.
func TestClockIsNotMovedFarAhead(t *testing.T) {
	now := time.Date(2026, 11, 23, 15, 4, 5, 0, time.UTC)
	c, err := newClock(func() time.Time { return now }, 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []transcript.Instant{lastInstant, transcript.InstantOf(now.Add(23 * time.Hour)), transcript.InstantOf(now.Add(2 * time.Hour))} {
		c.observe("s", at)
	}
	last := transcript.InstantOf(now.Add(maxAhead))
	for range 1000 { // within one microsecond
		at, err := c.stamp("s")
		if err != nil || at != last+1 {
			t.Fatalf("%v (%v) after %v", at, err, last)
		}
		last = at
	}
	now = now.Add(-48 * time.Hour) // it had been two days fast
	if at, err := c.stamp("s"); err != nil || at != transcript.InstantOf(now.Add(maxAhead)) {
		t.Errorf("after the clock was set right: %v (%v)", at, err)
	}
}

func TestClockForgetsWhatWasUsedLongAgo(t *testing.T) {
	now := time.Now()
	c, err := newClock(func() time.Time { return now }, 2)
	if err != nil {
		t.Fatal(err)
	}
	far := transcript.InstantOf(now) + 1e9
	c.observe("a", far)
	c.observe("b", far)
	if at, _ := c.stamp("a"); at != far+1 {
		t.Errorf("a: %v", at)
	}
	c.observe("c", far)
	if at, _ := c.stamp("a"); at != far+2 {
		t.Errorf("a, used last, was forgotten: %v", at)
	}
	if at, _ := c.stamp("b"); at != transcript.InstantOf(now) {
		t.Errorf("b was remembered: %v", at)
	}
}

func TestClockConcurrently(t *testing.T) {
	c, err := newClock(time.Now, 8)
	if err != nil {
		t.Fatal(err)
	}
	var seen sync.Map
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := transcript.Instant(0)
			for range 1000 {
				at, err := c.stamp("s")
				if err != nil || at <= last {
					t.Errorf("%v after %v (%v)", at, last, err)
				}
				last = at
				if _, twice := seen.LoadOrStore(at, true); twice {
					t.Errorf("%v twice", at)
				}
			}
		})
	}
	wg.Wait()
}
