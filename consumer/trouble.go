package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	firstDelay = 250 * time.Millisecond
	// storeCheck is how late a failed sync of a fold is noticed.
	storeCheck = time.Second
)

func newBackoff(longest time.Duration) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(min(firstDelay, longest)),
		backoff.WithMaxInterval(longest),
		backoff.WithMaxElapsedTime(0))
}

// pause stops fetching: what comes next could not be written either.
func (c *Consumer) pause(cause error) {
	c.mu.Lock()
	first := c.unwritable == nil
	c.unwritable = fmt.Errorf("paused, the transcripts cannot be written: %w", cause)
	c.mu.Unlock()
	if first {
		c.stats.pauses.Add(1)
		c.cfg.Logger.Error("transcripts cannot be written; fetching stops until they can", "folder", c.cfg.Store.Dir(), "error", cause)
	}
}

func (c *Consumer) isUnwritable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unwritable != nil
}

// waitUntilHealthy probes the folder with growing delay until it can be written
// or ctx ends.
func (c *Consumer) waitUntilHealthy(ctx context.Context) error {
	for wait := newBackoff(c.cfg.ProbeMax); ; {
		c.pulse.begin(fetching)
		if !sleep(ctx, wait.NextBackOff()) {
			return ctx.Err()
		}
		err := c.cfg.Store.Probe(ctx)
		if err == nil {
			c.mu.Lock()
			c.unwritable = nil
			c.mu.Unlock()
			c.cfg.Logger.Info("transcripts can be written again; fetching goes on")
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.pause(err)
	}
}

// sleep waits; it is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// watchStore ends the consumer when its store can no longer be trusted, even if
// no batch comes that would find out.
func (p *pipeline) watchStore(done <-chan struct{}) {
	tick := time.NewTicker(storeCheck)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			if err := p.cfg.Store.Err(); err != nil {
				p.stop(err)
				return
			}
		}
	}
}
