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
// never wait for Redis. A walk over all that the cache can hold waits for as long as walks are apart.
const cacheBound = time.Minute

// cacheMargin is how much further back than the last walk the next one looks: a Redis that was restored may
// lack what was refreshed shortly before that.
const cacheMargin = time.Minute

// walkLoop walks the folder at the start, then every now and then, and when asked.
func (c *Consumer) walkLoop(ctx context.Context) {
	tick := time.NewTicker(c.cfg.WalkEvery)
	defer tick.Stop()
	stale := time.Duration(0) // whoever was here before may have been killed just now
	for {
		all := c.walkAll.Swap(false)
		if err := c.walk(ctx, stale, all); err == nil {
			stale = transcript.StaleTail
		} else if ctx.Err() == nil {
			c.walkAll.CompareAndSwap(false, all)
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
// last walk that got all of it into the cache, or of all that it can hold.
func (c *Consumer) walk(ctx context.Context, stale time.Duration, all bool) error {
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
	bound, floor := cacheBound, started.Add(-cacheLife)
	cfg.Since = cfg.Since.Add(-cacheMargin)
	if all {
		bound = max(bound, c.cfg.WalkEvery)
	}
	if all || cfg.Since.Before(floor) {
		cfg.Since, all = floor, true
	}
	cctx, cancel := context.WithTimeout(ctx, bound)
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
		c.cfg.OnWalked(started, all)
	}
	c.stats.walks.Add(1)
	return c.cfg.Store.MarkWalk(ctx, started)
}
