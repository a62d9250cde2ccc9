package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// cacheLife is how far back a walk looks for sessions whose cache may be stale:
// what is older has expired from the cache.
const cacheLife = 24 * time.Hour

// cacheBound is how long a walk waits for the cache to take what changed, in
// all. When it does not, the next walk looks as far back as this one did; files
// never wait for Redis.
const cacheBound = time.Minute

// walkLoop walks the folder at the start, then every now and then, and when asked.
func (c *Consumer) walkLoop(ctx context.Context) {
	tick := time.NewTicker(c.cfg.WalkEvery)
	defer tick.Stop()
	stale := time.Duration(0) // whoever was here before may have been killed just now
	for {
		if err := c.walk(ctx, stale); err == nil {
			stale = transcript.StaleTail
		} else if ctx.Err() == nil {
			c.cfg.Logger.Warn("the walk over the transcripts is not complete; the next one does it all", "error", err)
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
func (c *Consumer) walk(ctx context.Context, stale time.Duration) error {
	started := time.Now()
	cfg := transcript.WalkConfig{Stale: stale, Fault: func(token string, err error) {
		var bad *transcript.CorruptError
		if errors.As(err, &bad) {
			c.damaged(token, "") // the walk did not find out whose it is
			return
		}
		c.cfg.Logger.Warn("one session cannot be read", "session", token, "error", err)
	}}
	var err error
	if cfg.Since, err = c.cfg.Store.LastWalk(ctx); err != nil {
		return err
	}
	if floor := started.Add(-cacheLife); cfg.Since.Before(floor) {
		cfg.Since = floor
	}
	cctx, cancel := context.WithTimeout(ctx, cacheBound)
	defer cancel()
	var cacheErr error
	cfg.Changed = func(string) {} // without a cache too: it finds out what does not tell its session
	if c.cfg.Cache != nil {
		cfg.Changed = func(session string) {
			if cacheErr == nil {
				cacheErr = c.cfg.Cache.ChangedWait(cctx, session)
			}
		}
	}
	if err := c.cfg.Store.Walk(ctx, cfg); err != nil {
		return err
	}
	if c.cfg.Cache != nil && cacheErr == nil {
		cacheErr = c.cfg.Cache.Flush(cctx)
	}
	if cacheErr != nil {
		return fmt.Errorf("refresh the cache: %w", cacheErr)
	}
	if c.cfg.Cache != nil && c.cfg.OnWalked != nil {
		c.cfg.OnWalked(started)
	}
	c.stats.walks.Add(1)
	return c.cfg.Store.MarkWalk(ctx, started)
}
