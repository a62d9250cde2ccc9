package publisher

import (
	"time"
	"weak"

	"github.com/cenkalti/backoff/v4"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// entry is one accepted snapshot, in one allocation together with its receipt.
type entry struct {
	receipt     Receipt
	snap        transcript.Snapshot
	size        int64 // of the payload
	traceparent string
	traced      func(error) // nil when nobody follows it
	accepted    time.Time

	// Owned by the buffer and guarded by its lock.
	seq           uint64    // order of acceptance
	prev, next    *entry    // in unstored, later in unsettled
	newer, older  *entry    // of the same session
	stored, shown bool      // shown: not (any more) in its session's chain
	storedAt      time.Time // zero until stored
	seg           *segment  // where it is spooled; nil while it is not
	line          int       // of seg
	origin        *Receipt  // what the caller keeps, when the entry was read back from the spool

	// Owned by the sender.
	msgID       string                      // "" before the first try
	sent        time.Time                   // when the last try by itself began; zero while a repetition is read back
	due         time.Time                   // when the next may begin; zero means at once
	failedAfter uint64                      // how many turns were stored when it last failed
	failures    int                         // since the last reconnect
	overtaken   int                         // failures between which other turns were stored
	own         *backoff.ExponentialBackOff // once it is refused while others are taken
	aside       bool                        // it was, and is not stored yet
}

// messageID returns the id that makes the server drop a repetition.
func (e *entry) messageID() string {
	if e.msgID == "" {
		e.msgID = stream.MsgID(e.snap.Payload())
	}
	return e.msgID
}

// raise lifts the turn to level, in every receipt of it.
func (e *entry) raise(level Level) {
	e.receipt.raise(level)
	if e.origin != nil {
		e.origin.raise(level)
	}
}

// refused notes why a try failed, in every receipt of the turn.
func (e *entry) refused(err error) {
	e.receipt.refused(err)
	if e.origin != nil {
		e.origin.refused(err)
	}
}

// weak returns the receipt of a turn that leaves memory.
func (e *entry) weak() weak.Pointer[Receipt] { return weak.Make(&e.receipt) }

// queue is a list of entries in the order in which they were added.
type queue struct {
	front, back *entry
	turns       int
	bytes       int64
}

func (q *queue) push(e *entry) {
	e.prev, e.next = q.back, nil
	if q.back != nil {
		q.back.next = e
	} else {
		q.front = e
	}
	q.back = e
	q.turns++
	q.bytes += e.size
}

func (q *queue) pushFront(e *entry) {
	e.prev, e.next = nil, q.front
	if q.front != nil {
		q.front.prev = e
	} else {
		q.back = e
	}
	q.front = e
	q.turns++
	q.bytes += e.size
}

func (q *queue) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		q.front = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		q.back = e.prev
	}
	e.prev, e.next = nil, nil
	q.turns--
	q.bytes -= e.size
}
