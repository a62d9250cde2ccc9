package live

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
)

// past is what a client gets before what is new: what the stream has behind the
// sequence that the client knows, up to where its queue begins.
type past struct {
	tape *stream.Reader // nil when there are no messages
	gap  *Item          // comes first
	to   uint64
	left int // messages that may still be read
}

// resume finds out what of the past the client is to get.
func (c *Client) resume(ctx context.Context) error {
	f := c.feed
	if !c.want.Resume {
		return nil
	}
	state, _, err := f.state(ctx)
	if err != nil {
		return err
	}
	f.mu.Lock()
	after, to := c.want.After, c.from
	switch {
	case after > state.LastSeq: // and so it was never given to anybody by this stream
		gap := Item{Sequence: to, Gap: &Gap{Reason: Reset, After: after}}
		c.queue = slices.Insert(c.queue, 0, gap)
		f.mu.Unlock()
		return nil
	case after >= to: // it was told by somebody who is further
		c.from = after
		c.queue = slices.DeleteFunc(c.queue, func(it Item) bool { return it.Gap == nil && it.Sequence <= after })
		c.bytes = 0
		for i := range c.queue {
			c.bytes += int64(c.queue[i].Turn.Size())
		}
		f.mu.Unlock()
		return nil
	}
	f.mu.Unlock()

	p := &past{to: to, left: f.cfg.Resume}
	if first := min(state.FirstSeq-1, to); first > after && state.FirstSeq > 0 {
		p.gap = &Item{Sequence: first, Gap: &Gap{Reason: Expired, Missed: first - after, After: after}}
		after = first
	}
	if after < to {
		subject := ""
		if c.want.Session != "" {
			subject = stream.TurnSubject(c.want.Session)
		}
		if p.tape, err = f.openTape(ctx, after, subject, pastBytes); err != nil {
			return err
		}
		if p.tape.Pending == 0 {
			p.end()
		}
	}
	if p.gap != nil || p.tape != nil {
		c.past = p
	}
	return nil
}

// nextPast returns the next item of the past that the client wants; ok is false at
// its end.
func (c *Client) nextPast(ctx context.Context) (it Item, ok bool, err error) {
	p := c.past
	if p.gap != nil {
		it, p.gap = *p.gap, nil
		c.show(it.Sequence, 0)
		return it, true, nil
	}
	for p.tape != nil {
		if p.left == 0 {
			return Item{}, false, ErrResumed
		}
		bound, cancel := context.WithTimeoutCause(ctx, c.feed.cfg.Request,
			fmt.Errorf("read stream %s: no message for %s", stream.Turns, c.feed.cfg.Request))
		m, meta, err := p.tape.Next(bound)
		late := context.Cause(bound)
		cancel()
		switch {
		case err != nil && ctx.Err() != nil:
			return Item{}, false, context.Cause(ctx)
		case errors.Is(err, context.DeadlineExceeded):
			return Item{}, false, late
		case err != nil:
			return Item{}, false, err
		case meta.Sequence.Stream > p.to:
			p.end()
			continue
		}
		p.left--
		if meta.NumPending == 0 || meta.Sequence.Stream == p.to {
			p.end()
		}
		turn, err := consumer.TurnOf(m, meta)
		if err != nil || !c.want.takes(turn.SessionID) {
			c.show(meta.Sequence.Stream, 0)
			continue
		}
		c.show(meta.Sequence.Stream, 1)
		return Item{Sequence: meta.Sequence.Stream, Stored: meta.Timestamp, Turn: turn}, true, nil
	}
	c.past = nil
	c.show(p.to, 0)
	return Item{}, false, nil
}

// show notes how far the client is, and how many turns it got.
func (c *Client) show(sequence, turns uint64) {
	c.feed.mu.Lock()
	defer c.feed.mu.Unlock()
	c.shown = max(c.shown, sequence)
	c.feed.stats.Turns += turns
}

// end is the end of what the stream has of it.
func (p *past) end() {
	if p.tape != nil {
		p.tape.Close()
		p.tape = nil
	}
}

func (c *Client) endPast() {
	if c.past != nil {
		c.past.end()
		c.past = nil
	}
}
