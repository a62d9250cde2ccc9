package cache

import (
	"context"
	"fmt"
	"sync"
)

// repopulation writes histories that Redis missed, in the background. It runs
// only while there are some.
type repopulation struct {
	redis *Redis
	max   int

	mu      sync.Mutex
	waiting map[string]missing
	idle    chan struct{} // closed while nothing runs
	closed  bool
	dropped uint64
}

type missing struct {
	entry  Entry
	forget bool // first: what is there does not parse, so its version means nothing
}

func newRepopulation(r *Redis, limit int) *repopulation {
	p := &repopulation{redis: r, max: limit, waiting: make(map[string]missing), idle: make(chan struct{})}
	close(p.idle)
	return p
}

// add returns at once.
func (p *repopulation) add(e Entry, forget bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, there := p.waiting[e.SessionID]
	switch {
	case there && old.entry.Recent.Version.Compare(e.Recent.Version) > 0:
		return
	case p.closed || !there && len(p.waiting) >= p.max:
		p.dropped++
		return
	}
	p.waiting[e.SessionID] = missing{e, forget || old.forget}
	select {
	case <-p.idle:
		p.idle = make(chan struct{})
		go p.run()
	default:
	}
}

// run ends when nothing waits. Every write is bounded by Redis' own bounds.
func (p *repopulation) run() {
	ctx := context.Background()
	for {
		p.mu.Lock()
		if len(p.waiting) == 0 {
			close(p.idle)
			p.mu.Unlock()
			return
		}
		batch := p.waiting
		p.waiting = make(map[string]missing)
		p.mu.Unlock()

		entries := make([]Entry, 0, len(batch))
		for _, m := range batch {
			if m.forget && p.redis.Forget(ctx, m.entry.SessionID) != nil {
				continue // the next Load finds it again
			}
			entries = append(entries, m.entry)
		}
		p.redis.RefreshMany(ctx, entries) // counted there; what fails is missed, and tried, again
	}
}

func (p *repopulation) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("write missed histories to Redis: %w", context.Cause(ctx))
	}
}
