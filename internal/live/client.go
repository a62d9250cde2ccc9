package live

import (
	"context"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/transcript"
)

// Want says what a client listens for. The zero value is every turn from now on.
type Want struct {
	Session string // only this session's turns; "" means all
	Prefix  string // only those of sessions that begin so
	// Resume asks for what the stream has behind the sequence After, before what is new.
	Resume bool
	After  uint64
	// Client is who listens: an address, say. "" is nobody in particular, and not bounded by itself.
	Client string
}

func (w *Want) takes(session string) bool {
	return (w.Session == "" || session == w.Session) && strings.HasPrefix(session, w.Prefix)
}

// Reasons of a gap.
const (
	Slow    = "slow"    // the client took turns more slowly than they came
	Expired = "expired" // the stream does not have them any more
	Reset   = "reset"   // the stream was made again or set back: its sequences begin anew
)

// Item is a stored turn, or a gap.
type Item struct {
	// Sequence is the turn's place in the stream. Of a gap it is the sequence to go on
	// from: everything up to it was shown or is missed.
	Sequence uint64
	Stored   time.Time // when the stream got the turn
	Turn     transcript.Snapshot
	// Gap, if it is not nil, says that this is none.
	Gap *Gap
}

// Gap is what a client will not be shown.
type Gap struct {
	Reason string
	// Missed is how many turns that were meant for the client are missing; of a gap that is not [Slow],
	// how many messages of whatever sessions, and 0 when nobody knows.
	Missed uint64
	After  uint64 // the last sequence before it
}

// Client is one who listens. It belongs to one goroutine.
type Client struct {
	feed *Feed
	want Want
	wake chan struct{}
	past *past // what is to come first; nil when there is nothing
	gone bool  // Close was called

	// Guarded by the feed's lock.
	round  *round // nil until it has joined
	queue  []Item
	bytes  int64
	missed uint64
	from   uint64 // turns up to here are none of the queue's business
	shown  uint64 // the sequence that Next came to
}

// join makes the client hear what the round reads from now on. The caller has the lock.
func (c *Client) join(r *round) {
	c.round, c.from = r, r.last
	c.shown = r.last
	if c.want.Resume {
		c.shown = c.want.After
	}
}

// Next returns what comes next, when it comes. Its error is [ErrClosed], [ErrResumed], that of
// ctx, or why the past cannot be read; nothing comes after one that is not ctx's.
func (c *Client) Next(ctx context.Context) (Item, error) {
	if c.past != nil {
		it, ok, err := c.nextPast(ctx)
		if err != nil || ok {
			return it, err
		}
	}
	for {
		if it, ok, err := c.take(); ok || err != nil {
			return it, err
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return Item{}, context.Cause(ctx)
		}
	}
}

// take takes the first of the queue.
func (c *Client) take() (it Item, ok bool, err error) {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	switch {
	case c.feed.closed:
		return Item{}, false, ErrClosed
	case c.missed > 0: // what is left in the queue follows it
		it = Item{Sequence: c.queue[0].Sequence - 1, Gap: &Gap{Reason: Slow, Missed: c.missed, After: c.shown}}
		c.missed = 0
	case len(c.queue) > 0:
		it = c.pop()
	default:
		return Item{}, false, nil
	}
	c.shown = it.Sequence
	return it, true, nil
}

// pop takes the oldest out of the queue. The caller has the lock.
func (c *Client) pop() Item {
	it := c.queue[0]
	c.queue[0] = Item{} // let go of its payload
	if c.queue = c.queue[1:]; len(c.queue) == 0 {
		c.queue = nil
	}
	c.bytes -= int64(it.Turn.Size())
	return it
}

// push adds what came, and drops the oldest when there is no room. The caller has the lock.
func (c *Client) push(it Item) {
	switch {
	case it.Gap != nil && it.Gap.Reason == Reset:
		c.from = it.Sequence
	case it.Gap != nil:
	case it.Sequence <= c.from || !c.want.takes(it.Turn.SessionID):
		return
	default:
		c.feed.stats.Turns++
	}
	c.queue = append(c.queue, it)
	c.bytes += int64(it.Turn.Size())
	for len(c.queue) > 1 && (len(c.queue) > c.feed.cfg.QueueTurns || c.bytes > c.feed.cfg.QueueBytes) {
		n := uint64(1)
		if out := c.pop(); out.Gap != nil {
			n = max(n, out.Gap.Missed)
		}
		c.missed += n
		c.feed.stats.Missed += n
	}
	c.signal()
}

func (c *Client) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Position is the sequence that the client may go on from when it comes again: of what it
// wants, all up to there was returned by Next.
func (c *Client) Position() uint64 {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	if c.past == nil && len(c.queue) == 0 && c.round != nil {
		c.shown = max(c.shown, c.round.last)
	}
	return c.shown
}

// Waiting returns why the stream cannot be read now; nil while it can.
func (c *Client) Waiting() error {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	switch {
	case c.round == nil:
		return nil
	case !c.feed.cfg.JS.Conn().IsConnected():
		return nats.ErrDisconnected
	}
	return c.round.away
}

// Close ends listening.
func (c *Client) Close() {
	if c.gone {
		return
	}
	c.gone = true
	c.endPast()
	c.feed.leave(c)
}
