package publisher

import (
	"cmp"
	"errors"
	"sync"
	"time"
)

// ErrOverflow says that the buffer is full: the turn was not accepted.
var ErrOverflow = errors.New("publisher: the buffer is full")

// ErrClosed says that the publisher was closed.
var ErrClosed = errors.New("publisher: closed")

// takeAtOnce is how many turns are taken under one hold of the lock. Each is in
// memory that nobody touched for a while, so that one costs about 0.1 µs.
const takeAtOnce = 32

// buffer holds every turn from its acceptance until it is stored, and then
// until its session's history shows it. Its lock is the one that Publish needs, so
// it is held for memory operations only, and in bounded steps.
//
// A spool is a second reader of unstored, with a cursor of its own beside
// unsent: it writes what it takes, raises the receipts to Spooled, and learns
// from markStored what it may forget. What is spooled and not sent yet may leave
// memory; it comes back through ready.
type buffer struct {
	maxTurns    int
	maxBytes    int64
	settleFor   time.Duration
	settleTurns int
	settleBytes int64
	wake        *bell // tells the sender that there is something to take

	mu         sync.Mutex
	closed     bool
	seq        uint64
	unstored   queue
	unsent     *entry // first of unstored that the sender has not taken yet
	unsettled  queue  // stored, and still in Pending
	sessions   map[string]*entry
	accepted   uint64
	overflows  uint64
	overflowed time.Time // when last; zero is never
	stored     uint64

	spool     *spool // nil without one; the rest is empty then
	unspooled *entry // first of unstored that the spool has not taken yet
	ready     queue  // read back from the spool, and not taken by the sender yet
	spooled   int    // turns that are spooled and not stored
	away      int    // of these, those that are not in memory
	awayBytes int64
	taken     int // turns that the sender has, and that cannot leave memory
	takenSize int64
}

func newBuffer(cfg *Config) *buffer {
	return &buffer{
		maxTurns: cfg.BufferTurns, maxBytes: cfg.BufferBytes,
		settleFor: cfg.SettleFor, settleTurns: cfg.SettleTurns, settleBytes: cfg.SettleBytes,
		wake:     newBell(),
		sessions: make(map[string]*entry),
	}
}

// add accepts e, or refuses it with ErrOverflow or ErrClosed.
func (b *buffer) add(e *entry) error {
	b.mu.Lock()
	switch {
	case b.closed:
		b.mu.Unlock()
		return ErrClosed
	case b.unstored.turns+b.ready.turns >= b.maxTurns || b.unstored.bytes+b.ready.bytes+e.size > b.maxBytes:
		b.overflows++
		b.overflowed = time.Now()
		b.mu.Unlock()
		return ErrOverflow
	}
	b.seq++
	b.accepted++
	e.seq = b.seq
	b.unstored.push(e)
	if b.unsent == nil {
		b.unsent = e
	}
	first := b.spool != nil && b.unspooled == nil
	if first {
		b.unspooled = e
	}
	b.link(e)
	b.mu.Unlock()
	b.wake.ring()
	if first {
		b.spool.hurry()
	}
	return nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// take appends to dst up to n turns that were never sent, oldest first: those that
// were read back from the spool before the others.
func (b *buffer) take(dst []*entry, n int) []*entry {
	for n > 0 {
		b.mu.Lock()
		step := min(n, takeAtOnce)
		for ; step > 0; step-- {
			e := cmp.Or(b.ready.front, b.unsent)
			if e == nil || b.spool != nil && b.handsFull(e) {
				break
			}
			if e == b.ready.front {
				b.ready.remove(e)
				b.unstored.pushFront(e)
			} else {
				b.unsent = e.next
			}
			b.taken++
			b.takenSize += e.size
			dst = append(dst, e)
			n--
		}
		low := b.away > 0 && b.spool.wants(&b.ready)
		b.mu.Unlock()
		if low {
			b.spool.hurry()
		}
		if step > 0 {
			break
		}
	}
	return dst
}

// handsFull reports whether the sender has so much that e stays with the spool: the
// other half of the buffer is for what comes and goes.
func (b *buffer) handsFull(e *entry) bool {
	return b.taken > 0 && (b.taken >= b.maxTurns/2 || b.takenSize+e.size > b.maxBytes/2)
}

// markStored lets go of turns that the stream has, as far as sending goes.
// Those that no history has shown yet stay in Pending.
func (b *buffer) markStored(entries []*entry, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		if e == b.unspooled {
			b.unspooled = e.next
		}
		b.unstored.remove(e)
		b.taken--
		b.takenSize -= e.size
		if e.seg != nil {
			b.landed(e)
		}
		b.stored++
		e.stored, e.storedAt = true, now
		if !e.shown {
			b.unsettled.push(e)
		}
	}
	for b.unsettled.turns > b.settleTurns || b.unsettled.bytes > b.settleBytes {
		b.forget(b.unsettled.front)
	}
}

// expire forgets turns that were stored long ago, at most a thousand at a time;
// more is true when there are others.
func (b *buffer) expire(now time.Time) (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range 1000 {
		e := b.unsettled.front
		if e == nil || now.Sub(e.storedAt) < b.settleFor {
			return false
		}
		b.forget(e)
	}
	return true
}

// forget takes e out of Pending.
func (b *buffer) forget(e *entry) {
	if e.shown {
		return
	}
	if e.stored {
		b.unsettled.remove(e)
	}
	b.unlink(e)
	e.shown = true
}

// close makes every later add fail.
func (b *buffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// left returns what is not stored yet, and how many of these turns are spooled.
func (b *buffer) left() (turns int, bytes int64, spooled int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unstored.turns + b.ready.turns + b.away, b.unstored.bytes + b.ready.bytes + b.awayBytes, b.spooled
}
