package publisher

import (
	"context"
	"fmt"
	"sync"

	"github.com/afterword-io/afterword/transcript"
)

// Level says how safe an accepted turn is.
type Level int8

// The levels, in the order in which a turn reaches them. A publisher sees a turn up
// to [Stored]; Written and Dead are for those who report what became of it later.
const (
	Buffered Level = iota // in the publisher's memory; kill -9 loses it
	Spooled               // fsynced on the publisher's disk
	Stored                // acknowledged by the stream
	Written               // durable in the transcript store
	Dead                  // could not be processed; kept in the dead-letter stream
)

func (l Level) String() string {
	switch l {
	case Buffered:
		return "buffered"
	case Spooled:
		return "spooled"
	case Stored:
		return "stored"
	case Written:
		return "written"
	case Dead:
		return "dead"
	}
	return fmt.Sprintf("Level(%d)", int8(l))
}

// Receipt is what the caller keeps of an accepted turn. It is safe for
// concurrent use.
type Receipt struct {
	ID        string
	Timestamp transcript.Instant
	Rev       int

	ended <-chan struct{} // closed when the publisher has ended
	wake  *bell           // of the sender

	mu      sync.Mutex
	level   Level
	refusal error
	reached [Stored + 1]chan struct{} // made when somebody asks
}

// Level returns how safe the turn is now.
func (r *Receipt) Level() Level {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.level
}

// Err returns why the last try to store the turn failed; nil before the first failure and once it is stored.
func (r *Receipt) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refusal
}

// Stored returns a channel that is closed when the stream has the turn.
func (r *Receipt) Stored() <-chan struct{} { return r.at(Stored) }

// Wait returns nil once the turn has reached level, which is at most [Stored].
// Otherwise it ends with ctx, or with [ErrClosed] when the publisher ended before; in both cases the
// turn may still have reached the stream.
func (r *Receipt) Wait(ctx context.Context, level Level) error {
	if level > Stored {
		return fmt.Errorf("wait for %s: a publisher sees a turn only until it is %s", level, Stored)
	}
	reached := r.at(level)
	select {
	case <-reached:
		return nil
	default:
	}
	var err error
	select {
	case <-reached:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-r.ended:
		if r.Level() >= level { // the last turns become stored just before the end
			return nil
		}
		err = ErrClosed
	}
	if last := r.Err(); last != nil {
		return fmt.Errorf("wait until the turn is %s: %w; last try: %w", level, err, last)
	}
	return fmt.Errorf("wait until the turn is %s: %w", level, err)
}

func (r *Receipt) at(level Level) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.level >= level {
		return closedChan()
	}
	if r.reached[level] == nil {
		r.reached[level] = make(chan struct{})
		r.wake.insist() // who waits is not kept waiting for the sender's next look
	}
	return r.reached[level]
}

func closedChan() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// raise lifts the turn to level and wakes those who wait for that or less.
func (r *Receipt) raise(level Level) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if level <= r.level {
		return
	}
	for l := r.level + 1; l <= level; l++ {
		if r.reached[l] != nil {
			close(r.reached[l])
			r.reached[l] = nil
		}
	}
	r.level = level
	if level >= Stored {
		r.refusal = nil
	}
}

func (r *Receipt) refused(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusal = err
}
