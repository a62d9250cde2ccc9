package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// busyRetry is when turns of a locked session are tried again if no other batch
// comes before.
const busyRetry = 5 * time.Millisecond

// writeLoop appends batches to their tails. Turns of a session that somebody
// else holds go with the next batch.
func (p *pipeline) writeLoop(ctx context.Context) {
	defer close(p.written)
	for {
		b, ok := p.next()
		if !ok {
			return
		}
		p.pulse.begin(writing)
		b.group()
		b.stored = p.cfg.Store.Write(ctx, b.groups)
		p.sort(b)
		p.pulse.rest(writing)
		p.written <- b
	}
}

// next waits for a batch and puts what was carried over in front of it; ok is
// false when there will be none.
func (p *pipeline) next() (b *batch, ok bool) {
	carried := p.carry
	if carried == nil {
		b, ok = <-p.fetched
		return b, ok
	}
	timer := time.NewTimer(busyRetry)
	defer timer.Stop()
	fetched := p.fetched
	for b == nil {
		select {
		case b, ok = <-fetched:
			if !ok {
				fetched = nil // the last ones: wait for the timer
			}
		case <-timer.C:
			b = &batch{}
		}
	}
	p.carry = nil
	merged := &batch{items: append(carried.items, b.items...), at: b.at}
	p.track(merged)
	p.untrack(carried)
	p.untrack(b)
	return merged, true
}

// sort decides what becomes of every turn that was not written: locked sessions
// are carried over, a session at fault is tried again later, and when the
// environment is at fault everything goes back and fetching stops.
func (p *pipeline) sort(b *batch) {
	var kept, busy []item
	var of []int
	var trouble error
	var noRoom map[string][]item
	for i := range b.items {
		it := b.items[i]
		err := b.stored.Err(b.of[i])
		switch {
		case err == nil:
			kept, of = append(kept, it), append(of, b.of[i])
		case errors.Is(err, transcript.ErrBusy):
			busy = append(busy, it)
		case errors.Is(err, transcript.ErrFailed):
			p.stop(err)
		case errors.As(err, new(*transcript.SessionFullError)):
			if noRoom == nil {
				noRoom = make(map[string][]item)
			}
			noRoom[it.turn.SessionID] = append(noRoom[it.turn.SessionID], it)
		case transcript.SessionFault(err):
			p.setback(it, err)
		default:
			trouble = err
			p.giveBack(it)
		}
	}
	for _, items := range noRoom {
		p.overfill(items)
	}
	if trouble != nil {
		p.pause(trouble)
	}
	if len(busy) > 0 {
		p.carry = &batch{items: busy}
		p.track(p.carry)
	}
	if len(kept) < len(b.items) {
		p.mu.Lock()
		b.items, b.of = kept, of
		p.mu.Unlock()
	}
}

// syncLoop makes batches durable and acknowledges them.
func (p *pipeline) syncLoop(ctx context.Context) {
	for b := range p.written {
		p.pulse.begin(syncing)
		p.commit(ctx, b)
		p.untrack(b)
		p.pulse.rest(syncing)
	}
}

func (p *pipeline) commit(ctx context.Context, b *batch) {
	err := b.stored.Sync(ctx)
	if len(b.items) == 0 {
		return
	}
	if err != nil {
		err = fmt.Errorf("make a batch durable: %w", err)
		if errors.Is(err, transcript.ErrFailed) {
			p.stop(err) // not acknowledged: everything comes back to the next process
			return
		}
		for i := range b.items {
			p.giveBack(b.items[i])
		}
		p.pause(err)
		return
	}
	acked := 0
	for i := range b.items {
		if err := b.items[i].msg.Ack(); err == nil {
			acked++
		}
	}
	p.member.acked(b.items) // first: a member that says how many has their latencies
	p.stats.acked.Add(int64(acked))
	p.stats.batches.Add(1)
	if p.cfg.OnCommit != nil {
		p.cfg.OnCommit(b.committed(time.Now()))
	}
	if acked < len(b.items) {
		p.cfg.Logger.Warn("some acknowledgements could not be sent; the turns come again, which does no harm", "turns", len(b.items)-acked)
	}
	p.committed(ctx, b.at)
	p.tellTraced(b)
	if p.cfg.Cache != nil {
		sessions := make([]string, 0, len(b.groups))
		for i := range b.groups {
			if b.stored.Err(i) == nil {
				sessions = append(sessions, b.groups[i].SessionID)
			}
		}
		p.cfg.Cache.Changed(sessions...)
	}
}

// giveBack lets the server deliver a turn again, here or to another member.
func (p *pipeline) giveBack(it item) {
	p.stats.naked.Add(1)
	_ = it.msg.Nak() // without a connection AckWait does the same
}

// setback handles one session that cannot be written: later again, and after
// enough deliveries as a dead letter.
func (p *pipeline) setback(it item, cause error) {
	delivered := uint64(1)
	if meta, err := it.msg.Metadata(); err == nil {
		delivered = meta.NumDelivered
	}
	var bad *transcript.CorruptError
	if errors.As(cause, &bad) { // mended soon; a dead letter would be a turn lost to a damaged file
		p.damaged(transcript.Token(it.turn.SessionID), it.turn.SessionID)
	} else if delivered >= uint64(p.cfg.Deliveries) {
		p.bury(it.msg, unwritable+cause.Error())
		return
	}
	p.cfg.Logger.Warn("one session cannot be written; its turn is tried again", "session", transcript.Token(it.turn.SessionID), "delivery", delivered, "error", cause)
	p.stats.naked.Add(1)
	_ = it.msg.NakWithDelay(min(time.Second<<min(delivered-1, 5), 30*time.Second))
}
