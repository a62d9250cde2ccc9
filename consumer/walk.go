package consumer

import (
	"context"
	"fmt"
	"time"
)

// cacheLife is how far back a walk looks for sessions whose cache may be stale:
// what is older has expired from the cache.
const cacheLife = 24 * time.Hour

// flushBound is how long a walk waits for the cache to take what changed. When
// it does not, the next walk looks as far back as this one did.
const flushBound = time.Minute

// walkLoop walks the folder at the start, then every now and then, and when asked.
func (c *Consumer) walkLoop(ctx context.Context) {
	tick := time.NewTicker(c.cfg.WalkEvery)
	defer tick.Stop()
	for {
		if err := c.walk(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Logger.Warn("the walk over the transcripts was cut short; the next one starts anew", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.walkNow:
		}
	}
}

// walk folds what nobody folds and refreshes the cache of what changed since the
// last walk that got all of it into the cache.
func (c *Consumer) walk(ctx context.Context) error {
	store := c.cfg.Store
	started := time.Now()
	since, err := store.LastWalk(ctx)
	if err != nil {
		return err
	}
	if floor := started.Add(-cacheLife); since.Before(floor) {
		since = floor
	}
	var changed func(session string) error
	if c.cfg.Cache != nil {
		changed = func(session string) error {
			return c.cfg.Cache.ChangedWait(ctx, session)
		}
	}
	err = store.Walk(ctx, since, changed, func(token string, err error) {
		c.cfg.Logger.Warn("one session cannot be read", "session", token, "error", err)
	})
	if err != nil {
		return err
	}
	if c.cfg.Cache != nil {
		fctx, cancel := context.WithTimeout(ctx, flushBound)
		defer cancel()
		if err := c.cfg.Cache.Flush(fctx); err != nil {
			return fmt.Errorf("refresh the cache: %w", err)
		}
	}
	c.stats.walks.Add(1)
	return store.MarkWalk(ctx, started)
}
