package consumer

import (
	"sync/atomic"
	"time"
)

// The stages of the pipeline, each a loop.
const (
	fetching = iota
	writing
	syncing
	stageCount
)

// pulse knows since when each stage has been at one step.
type pulse struct {
	since [stageCount]atomic.Int64 // Unix time in nanoseconds; 0 while it waits for another stage
}

// begin says that a stage begins its next step.
func (p *pulse) begin(stage int) { p.since[stage].Store(time.Now().UnixNano()) }

// rest says that a stage waits for another one, or has ended.
func (p *pulse) rest(stage int) { p.since[stage].Store(0) }

// Stalled is how long the pipeline has not moved: the age of the oldest step under
// way, in which no file operation has ended either. Steps are bounded, so it stays
// within some tens of seconds (the bounds of the store and of a request, ProbeMax)
// whatever hangs around this process. If it does not, the process itself is at
// fault, and only a new one helps. It is for watchdogs.
func (c *Consumer) Stalled() time.Duration {
	var longest time.Duration
	now, moved := time.Now(), c.cfg.Store.Moved()
	for i := range c.pulse.since {
		at := c.pulse.since[i].Load()
		if at == 0 {
			continue
		}
		since := time.Unix(0, at)
		if moved.After(since) {
			since = moved
		}
		longest = max(longest, now.Sub(since))
	}
	return longest
}
