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
	waiting map[string]Entry
	idle    chan struct{} // closed while nothing runs
	closed  bool
	dropped uint64
}

func newRepopulation(r *Redis, limit int) *repopulation {
	p := &repopulation{redis: r, max: limit, waiting: make(map[string]Entry), idle: make(chan struct{})}
	close(p.idle)
	return p
}

// add returns at once.
func (p *repopulation) add(e Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, there := p.waiting[e.SessionID]
	switch {
	case there && old.Recent.Version.Compare(e.Recent.Version) > 0:
		return
	case p.closed || !there && len(p.waiting) >= p.max:
		p.dropped++
		return
	}
	p.waiting[e.SessionID] = e
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
		p.waiting = make(map[string]Entry)
		p.mu.Unlock()

		entries := make([]Entry, 0, len(batch))
		for _, e := range batch {
			entries = append(entries, e)
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
