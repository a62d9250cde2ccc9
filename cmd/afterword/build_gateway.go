package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/folder"
	"github.com/afterword-io/afterword/internal/gateway"
	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/metrics"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// blockedFor is how long the stream may take nothing before the service is not
// ready any more: a retry or two is no news.
const blockedFor = 10 * time.Second

// answer makes the publisher, the histories and what shows live turns.
func (b *builder) answer() error {
	cfg := b.o.publisher.config()
	cfg.Conn, cfg.JetStream, cfg.Logger, cfg.MaxMsgSize = b.js.Conn(), b.js, b.log, b.watching.MaxMsgSize
	cfg.SpoolDir, cfg.SpoolMaxBytes, cfg.SpoolTimeout = b.spoolDir(), b.o.spool.maxBytes, b.o.store.fileTimeout
	took := metrics.PublishDuration()
	cfg.OnStored = func(d time.Duration) { took.Observe(d.Seconds()) }
	if b.tracing != nil {
		cfg.Trace = b.tracing.Publish
	}
	if cfg.SpoolDir != "" {
		if err := checkSpool(cfg.SpoolDir); err != nil {
			return err
		}
	}
	p, err := publisher.New(cfg)
	if err != nil {
		switch {
		case diskTrouble(err):
			err = failed(fmt.Errorf("%w: started again it goes on when the disk of its spool works; without a spool (--spool-dir none) at once", err))
		case cfg.SpoolDir != "":
			err = fmt.Errorf("%w: see --spool-dir, which may be another folder, or none", err)
		}
		return err
	}
	b.publisher = p
	b.onStop(partPublisher, 70, p.Close)
	b.registry.MustRegister(took, metrics.Publish(p.Stats))
	b.parts.Publisher = p.Stats
	b.ready[partPublisher] = func(context.Context) error {
		blocked := p.Stats().Blocked
		if blocked <= blockedFor {
			return nil
		}
		if err := b.mayPublish(); err != nil {
			return fmt.Errorf("nothing has got through to the stream for %s: %w", blocked.Round(time.Second), err)
		}
		return fmt.Errorf("nothing has got through to the stream for %s: look at `afterword stream info`", blocked.Round(time.Second))
	}

	history := cache.HistoryConfig{
		Redis: b.redis, Stream: b.fromStream, Pending: p, Observe: p.Observe,
		Timeout: b.o.history, FileTimeout: b.o.store.fileTimeout, StreamTimeout: b.o.nats.request,
	}
	if b.store != nil {
		history.File = b.store
	} else {
		history.File = b.late
	}
	if err := b.share(nil); err != nil {
		return err
	}
	if b.shared != nil {
		b.shared.Wait(b.ctx)
		history.Trust = b.shared.Trust
	}
	h, err := cache.NewHistory(history)
	if err != nil {
		return err
	}
	b.history = h
	b.onStop(partHistory, 30, h.Close)
	b.registry.MustRegister(metrics.History(h.Stats))
	b.parts.History = h.Late

	feed, err := live.New(live.Config{
		JS: b.js, Clients: b.o.events.clients, PerClient: b.o.events.perClient, QueueTurns: b.o.events.queue, Resume: b.o.events.resume,
		RetryMax: b.o.events.retryMax, Logger: b.log,
	})
	if err != nil {
		return err
	}
	b.events = feed
	b.onStop(partEvents, 30, feed.Close)
	b.registry.MustRegister(metrics.Live(feed.Stats))
	return nil
}

// checkSpool refuses a folder that cannot be one.
func checkSpool(dir string) error {
	if err := refuseRoot("the spool", dir); err != nil {
		return err
	}
	err := folder.Check(dir)
	if err == nil {
		err = folder.Try(dir)
	}
	switch {
	case diskTrouble(err): // which passes: the publisher says so
		return nil
	case err != nil:
		return fmt.Errorf("--spool-dir: %w: give another folder, or none", err)
	}
	return nil
}

// spoolDir is where turns are kept that are not stored yet; "" is nowhere. An
// embedded server is no further away than a spool would be.
func (b *builder) spoolDir() string {
	switch {
	case b.o.spool.dir == noSpool, b.o.spool.dir == "" && b.server != nil:
		return ""
	case b.o.spool.dir == "":
		return filepath.Join(b.o.store.dir, "spool")
	}
	return b.o.spool.dir
}

// serveHTTP answers requests until the service stops.
func (b *builder) serveHTTP() {
	b.watchStreams()
	cfg := b.o.http.config()
	cfg.Guard, cfg.Exposed = b.guard, b.exposed
	cfg.Healthy, cfg.Ready, cfg.Registry, cfg.Logger = b.healthy, b.ready, b.registry, b.log
	cfg.LookupTimeout, cfg.Heartbeat, cfg.DrainTimeout = b.o.history, b.o.events.heartbeat, b.drain/4
	if b.streams.Load() != nil {
		b.ready[partStreams] = func(context.Context) error { return *b.streams.Load() }
	}
	if b.tracing != nil {
		cfg.Tracer = b.tracing.Tracer()
	}
	if b.publisher != nil {
		cfg.Publisher, cfg.History, cfg.Events = b.publisher, b.history, b.events
		cfg.Stream, cfg.MaxPayload = b.fromStream, b.publisher.MaxPayload
		cfg.BodyMemory = transcript.NewMemory(b.o.http.bodyMemory, b.o.store.readMemoryWait)
		cfg.Dead = consumer.DeadReader{JS: b.js}
		if b.store != nil {
			cfg.Store, cfg.Full = b.store, b.store.Full
		} else {
			cfg.Store = b.late
		}
		cfg.Transcripts = newEither(cfg.Store, b.fromStream)
	}
	if b.console != nil {
		cfg.Around = b.console.Around
	}
	g := gateway.New(cfg)
	b.parts.HTTP = g.Late
	b.registry.MustRegister(metrics.Timeouts(b.parts))
	b.background(partHTTP, 25, func(ctx context.Context) error { return g.Serve(ctx, b.listener) })
	b.log.Info("serving HTTP", "url", "http://"+b.listener.Addr().String())
}

// healthy reports what only a restart mends.
func (b *builder) healthy() error {
	if b.server != nil && !b.server.Running() {
		return errServerStopped
	}
	if b.store != nil {
		return b.store.Err()
	}
	return nil
}

// background runs fn until the service stops. If it fails before, so does the service.
func (b *builder) background(name string, share int, fn func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.ctx)) // parts stop in order, not all at the signal
	done := make(chan error, 1)
	go func() {
		err := fn(ctx)
		if err != nil && ctx.Err() == nil {
			b.fatal(err)
			err = nil
		}
		done <- err
	}()
	b.onStop(name, share, func(bound context.Context) error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-bound.Done():
			return fmt.Errorf("still busy after its share of --drain-timeout: %w", bound.Err())
		}
	})
}
