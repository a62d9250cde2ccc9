package publisher

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/afterword-io/afterword/transcript"
)

// lastInstant is 2199-12-31T23:59:59.999999Z, the last that a turn can have.
const lastInstant transcript.Instant = 7258118399999999

// clock is a hybrid logical clock for each session: the wall clock, but always
// after every timestamp that was seen of the session. It remembers the sessions
// used last; one that was forgotten has the wall clock.
type clock struct {
	wall func() time.Time

	mu   sync.Mutex
	seen *simplelru.LRU[string, *transcript.Instant] // pointers: one look-up to read, advance and touch
}

func newClock(wall func() time.Time, sessions int) (*clock, error) {
	seen, err := simplelru.NewLRU[string, *transcript.Instant](sessions, nil)
	if err != nil {
		return nil, fmt.Errorf("clock: %w", err)
	}
	return &clock{wall: wall, seen: seen}, nil
}

// stamp returns the timestamp of a new turn, later than all before it.
func (c *clock) stamp(session string) (transcript.Instant, error) {
	at := transcript.InstantOf(c.wall())
	c.mu.Lock()
	defer c.mu.Unlock()
	last, ok := c.seen.Get(session)
	if ok && at <= *last {
		at = *last + 1
	}
	if !inRange(at) {
		return 0, errClock(at)
	}
	if ok {
		*last = at
	} else {
		first := at // at itself stays off the heap
		c.seen.Add(session, &first)
	}
	return at, nil
}

// after returns the wall clock, but not before at.
func (c *clock) after(at transcript.Instant) (transcript.Instant, error) {
	now := max(at, transcript.InstantOf(c.wall()))
	if !inRange(now) {
		return 0, errClock(now)
	}
	return now, nil
}

// observe makes every later stamp of the session later than at. What no turn
// can have is left out: it would stop the session's clock for good.
func (c *clock) observe(session string, at transcript.Instant) {
	if !inRange(at) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if last, ok := c.seen.Get(session); !ok {
		first := at
		c.seen.Add(session, &first)
	} else if at > *last {
		*last = at
	}
}

func inRange(at transcript.Instant) bool { return at >= 0 && at <= lastInstant }

func errClock(at transcript.Instant) error {
	return fmt.Errorf("the clock says %s, which is outside the years 1970 to 2199", at)
}
