package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/metrics"
	"github.com/afterword-io/afterword/internal/stream"
)

// streamRetryMax is the longest wait between two looks at streams that cannot be reached.
const streamRetryMax = 5 * time.Second

// consume starts the consumer, and what keeps Redis up to date after it. It
// begins once the streams have been looked at, so that they are made with the
// limits that were asked for.
func (b *builder) consume() error {
	cfg := consumer.Config{
		JS: b.js, Store: b.store, Group: b.o.group, Rebind: b.o.rebind, Version: thisBuild().Version, Exposed: b.exposed,
		AckWait: b.o.ackWait, FileTimeout: b.o.store.fileTimeout, ProbeMax: b.o.probeMax, WalkEvery: b.o.walk, Drain: b.drain, Logger: b.log,
	}
	batches := metrics.NewBatches()
	cfg.OnCommit = batches.Committed
	if b.tracing != nil {
		cfg.OnTraced = func(t *consumer.TracedBatch) { b.tracing.Committed(t, b.redis != nil) }
	}
	if b.redis != nil {
		rcfg := cache.RefresherConfig{
			Redis: b.redis, Reader: b.store, StoreTimeout: b.o.store.fileTimeout, Logger: b.log,
			OnMissed: func() { b.consumer.WalkNow() }, // nothing changes before the consumer runs
		}
		if b.tracing != nil {
			rcfg.OnRefreshed = b.tracing.Refreshed
		}
		f, err := cache.NewRefresher(rcfg)
		if err != nil {
			return err
		}
		b.onStop(partRefresher, 95, f.Close)
		cfg.Cache = f
	}
	c, err := consumer.New(cfg)
	if err != nil {
		return err
	}
	b.consumer = c
	b.registry.MustRegister(batches, metrics.Consumer(c.Stats, c.Ready))
	b.parts.Consumer = c.Stats
	b.ready[partConsumer] = func(context.Context) error { return c.Ready() }
	b.background(partConsumer, 90, func(ctx context.Context) error {
		if err := b.ensureStreams(ctx); err != nil {
			return err
		}
		return c.Run(ctx)
	})
	return nil
}

// checkStreams makes the streams in the background.
func (b *builder) checkStreams() {
	b.background(partStreams, 75, b.ensureStreams)
}

// ensureStreams makes the streams where they do not exist, and tries again while
// NATS cannot be reached. What waiting does not mend is an error.
func (b *builder) ensureStreams(ctx context.Context) error {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(250*time.Millisecond),
		backoff.WithMaxInterval(streamRetryMax), backoff.WithMaxElapsedTime(0))
	said := false
	for {
		err := stream.Ensure(ctx, b.js, b.o.limits.config())
		switch {
		case err == nil:
			b.streams.Store(new(error))
			return nil
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, stream.ErrUnreachable):
			return err
		}
		why := fmt.Errorf("waiting for the streams: %w", err)
		b.streams.Store(&why)
		if !said {
			b.log.Warn("the streams cannot be reached, trying until they can", "error", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait.NextBackOff()):
		}
	}
}
