package publisher

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/afterword-io/afterword/transcript"
)

// lastInstant is 2199-12-31T23:59:59.999999Z, the last that a turn can have.
const lastInstant transcript.Instant = 7258118399999999

// maxAhead is how far what is observed moves a session's clock ahead of the wall clock.
// A turn dated further ahead, by a wrong clock or with intent, stays the last of its
// session, and new turns sort before it.
const maxAhead = time.Hour

// ErrClock says that this machine's clock is outside the years that a turn can have.
var ErrClock = errors.New("the clock is outside the years 1970 to 2199: set it")

// clock is a hybrid logical clock for each session: the wall clock, but after every
// timestamp that was seen of the session, up to maxAhead. It remembers the sessions
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
	switch {
	case ok && *last > at+transcript.Instant(transcript.MaxAhead.Microseconds()): // the wall clock was stepped back
		at += transcript.Instant(maxAhead.Microseconds())
	case ok && at <= *last:
		at = *last + 1
	}
	if !inRange(at) {
		return 0, fmt.Errorf("%w: it says %s", ErrClock, at)
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
		return 0, fmt.Errorf("%w: it says %s", ErrClock, now)
	}
	return now, nil
}

// observe makes every later stamp of the session later than at, if that is not more than
// maxAhead ahead of the wall clock, and later than the rest of the past otherwise.
func (c *clock) observe(session string, at transcript.Instant) {
	if at = min(at, transcript.InstantOf(c.wall().Add(maxAhead))); !inRange(at) {
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
