package consumer

import (
	"time"

	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go/jetstream"
)

// item is a message and the turn in it.
type item struct {
	msg    jetstream.Msg
	turn   transcript.Snapshot
	at     time.Time // when it was fetched
	stored time.Time // in the stream; zero when that is not known
}

// batch is what goes through the pipeline together.
type batch struct {
	items  []item
	groups []transcript.Group
	of     []int // items[i] is in groups[of[i]]
	stored *transcript.Batch
	at     position // the stream up to its last message
}

// group puts turns of one session together.
func (b *batch) group() {
	turns := make([]transcript.Snapshot, len(b.items))
	for i := range b.items {
		turns[i] = b.items[i].turn
	}
	b.groups = transcript.GroupBySession(turns)
	at := make(map[string]int, len(b.groups))
	for i := range b.groups {
		at[b.groups[i].SessionID] = i
	}
	b.of = make([]int, len(b.items))
	for i := range b.items {
		b.of[i] = at[b.items[i].turn.SessionID]
	}
}

// committed describes a batch that was acknowledged now.
func (b *batch) committed(now time.Time) Committed {
	c := Committed{Turns: len(b.items)}
	for i := range b.items {
		it := &b.items[i]
		c.Bytes += len(it.msg.Data())
		c.Took = max(c.Took, now.Sub(it.at))
		if !it.stored.IsZero() {
			c.Latency = max(c.Latency, now.Sub(it.stored))
		}
	}
	return c
}

// track keeps a batch alive on the server until it is done with.
func (c *Consumer) track(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight[b] = struct{}{}
}

func (c *Consumer) untrack(b *batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inFlight, b)
}

// keepAlive tells the server that slow turns are in progress, so that it does
// not give them to somebody else.
func (c *Consumer) keepAlive(done <-chan struct{}) {
	every := c.cfg.AckWait / 3
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-tick.C:
			for _, m := range c.slow(now.Add(-every)) {
				_ = m.InProgress() // a lost connection redelivers, which does no harm
			}
		}
	}
}

func (c *Consumer) slow(before time.Time) (msgs []jetstream.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for b := range c.inFlight {
		for i := range b.items {
			if b.items[i].at.Before(before) {
				msgs = append(msgs, b.items[i].msg)
			}
		}
	}
	return msgs
}
