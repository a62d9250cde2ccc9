package main

import (
	"cmp"
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

const (
	// recreateAfter is how long a stream is missing before it is made anew.
	recreateAfter = 5 * time.Second
	// checkAgain is when streams that could not be used are looked at again.
	checkAgain = time.Second
)

// streamRetryMax is the longest wait between two looks at streams that cannot be reached.
const streamRetryMax = 5 * time.Second

// consume starts the consumer, and what keeps Redis up to date after it. It
// begins once the streams have been looked at, so that they are made with the
// limits that were asked for.
func (b *builder) consume() error {
	cfg := consumer.Config{
		JS: b.js, Store: b.store, Group: b.o.group, Rebind: b.o.rebind, Version: thisBuild().Version, Exposed: b.exposed,
		AckWait: b.o.ackWait, FileTimeout: b.o.store.fileTimeout, ProbeMax: b.o.probeMax, LookEvery: b.o.watch, WalkEvery: b.o.walk, Drain: b.drain, Logger: b.log,
	}
	cfg.Streams = func(ctx context.Context) error { return stream.Check(ctx, b.js) } // keepStreams makes them
	batches := metrics.NewBatches()
	cfg.OnCommit = batches.Committed
	if b.tracing != nil {
		cfg.OnTraced = func(t *consumer.TracedBatch) { b.tracing.Committed(t, b.redis != nil) }
	}
	if b.redis != nil {
		rcfg := cache.RefresherConfig{
			Redis: b.redis, Reader: b.store, StoreTimeout: b.o.store.fileTimeout, Logger: b.log,
			OnMissed: func() { b.consumer.Walk(false) }, // nothing changes before the consumer runs
		}
		if b.tracing != nil {
			rcfg.OnRefreshed = b.tracing.Refreshed
		}
		f, err := cache.NewRefresher(rcfg)
		if err != nil {
			return err
		}
		if err := b.share(f); err != nil {
			return err
		}
		b.onStop(partRefresher, 95, f.Close)
		cfg.Cache, cfg.OnWalked = f, f.Walked
	}
	c, err := consumer.New(cfg)
	if err != nil {
		return err
	}
	b.consumer = c
	b.registry.MustRegister(batches, metrics.Consumer(c.Stats, c.Ready))
	b.parts.Consumer = c.Stats
	b.ready[partConsumer] = func(ctx context.Context) error {
		if err := cmp.Or(c.Ready(), b.mayConsume(), c.Unburied()); err != nil {
			return err
		}
		return b.store.Troubled(ctx)
	}
	made := b.keepStreams()
	b.background(partConsumer, 90, func(ctx context.Context) error {
		select {
		case <-made: // with the limits that were asked for
		case <-ctx.Done():
			return nil
		}
		return c.Run(ctx)
	})
	return nil
}

// keepStreams makes the streams in the background, and looks after them from then on. made is
// closed when they are there.
func (b *builder) keepStreams() (made <-chan struct{}) {
	done := make(chan struct{})
	b.background(partStreams, 75, func(ctx context.Context) error {
		if err := b.ensureStreams(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		close(done)
		b.watchOver(ctx)
		return nil
	})
	return done
}

// watchOver keeps readiness true of the streams, and makes anew those that were deleted. Who
// deletes one to restore it from a backup has recreateAfter to do so.
func (b *builder) watchOver(ctx context.Context) {
	var since time.Time // of trouble; zero while there is none
	wait := b.o.watch
	denied := false // fetching or acknowledging
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if now := b.consumer != nil && b.mayConsume() != nil; now != denied {
			if denied = now; !now {
				b.log.Info("turns can be fetched and acknowledged again")
			}
		}
		err := stream.Check(ctx, b.js)
		if errors.Is(err, stream.ErrNoStream) && !since.IsZero() && time.Since(since) >= recreateAfter {
			again := b.o.limits.config()
			again.Continued = true
			err = stream.Ensure(ctx, b.js, again)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if !since.IsZero() {
				b.log.Info("the streams are there again", "after", time.Since(since).Round(time.Millisecond))
			}
			since, wait = time.Time{}, b.o.watch
			b.streams.Store(new(error))
			continue
		case errors.Is(err, stream.ErrUnreachable) && !b.nc.IsConnected(): // that is not about the streams
		case since.IsZero():
			since = time.Now()
			if !stream.Denied(err) {
				b.log.Error("the streams cannot be used", "error", err)
			}
			fallthrough
		default:
			b.streams.Store(&err)
		}
		wait = min(b.o.watch, checkAgain)
	}
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
			if said {
				b.log.Info("the streams can be reached")
			}
			return nil
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, stream.ErrUnreachable):
			return err
		}
		why := fmt.Errorf("waiting for the streams: %w", err)
		b.streams.Store(&why)
		if !said && !stream.Denied(err) { // the connection names a missing permission
			b.log.Warn("the streams cannot be reached, trying until they can", "error", err)
		}
		said = true
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait.NextBackOff()):
		}
	}
}
