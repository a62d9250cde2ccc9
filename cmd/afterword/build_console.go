package main

import (
	"cmp"
	"context"
	"errors"
	"os"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/console"
	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/metrics"
	"github.com/afterword-io/afterword/internal/status"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// makeConsole makes the console, for serveHTTP to serve.
func (b *builder) makeConsole() error {
	if b.events == nil { // no gateway in this process
		feed, err := live.New(live.Config{JS: b.js, Logger: b.log})
		if err != nil {
			return err
		}
		b.events = feed
		b.registry.MustRegister(metrics.Live(feed.Stats))
		b.onStop(partEvents, 30, feed.Close)
	}
	cfg := console.Config{
		JS: b.js, Store: b.transcripts, Writable: b.openForReplay, Feed: b.events, Memory: b.memory, Scratch: b.scratch(),
		BasePath: b.o.console.basePath, ReadOnly: b.o.console.readOnly, Client: b.guard.Client,
		Version: thisBuild().Version, Logger: b.log,
		SampleEvery: b.o.console.sampleEvery, ReportEvery: b.o.console.reportEvery,
		LookupTimeout: b.o.console.lookup, ChangeTimeout: b.o.console.change, Quiet: b.o.console.quiet,
	}
	if b.redis != nil {
		cfg.Cache = b.redis
	}
	err := b.share(nil) // for the key of what Redis holds
	if err != nil {
		return err
	}
	if cfg.Status, err = b.makeStatus(); err != nil { // it closes nothing that is not its own
		return err
	}
	if b.console, err = console.New(cfg); err != nil {
		return err
	}
	b.registry.MustRegister(metrics.ConsoleReplays(b.console.ReplayStats))
	return nil
}

// makeStatus looks at everything that this process has at hand.
func (b *builder) makeStatus() (*status.Gatherer, error) {
	connected := b.ready[partNATS]
	cfg := status.Config{
		NATSURL:  stream.RedactURL(cmp.Or(b.o.nats.url, stream.DefaultURL)),
		Connect:  func(ctx context.Context) (jetstream.JetStream, error) { return b.js, connected(ctx) },
		Open:     func() (*transcript.Store, error) { return b.transcripts(), nil },
		Services: b.o.services,
		Exposed:  b.exposed,
	}
	if b.redis != nil {
		cfg.Redis = sharedRedis{b.redis, func(ctx context.Context) error {
			if b.shared == nil {
				return nil
			}
			return b.shared.Check(ctx)
		}}
	}
	if b.publisher != nil {
		cfg.Publisher = b.publisher.Stats
	}
	return status.New(cfg)
}

// runConsole keeps the console's figures. It ends before HTTP does, which waits for its
// streams of events.
func (b *builder) runConsole() { b.background(partConsole, 20, b.console.Run) }

// transcripts returns those of this machine; nil while there are none.
func (b *builder) transcripts() *transcript.Store {
	if b.store != nil {
		return b.store
	}
	return b.late.get()
}

// openForReplay returns the transcripts for a replay to write to.
func (b *builder) openForReplay() (*transcript.Store, func(context.Context) error, error) {
	if b.store != nil {
		return b.store, func(context.Context) error { return nil }, nil
	}
	if dir := b.o.store.transcripts(); !isTranscripts(dir) {
		return nil, nil, errors.New(dir + " is not a transcripts folder: start the console with the --data-dir that the consumer writes")
	}
	if err := b.o.store.checkData(); err != nil {
		return nil, nil, err
	}
	s, err := transcript.Open(b.storeConfig())
	if err != nil {
		return nil, nil, dataDirError(err)
	}
	return s, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, b.o.store.fileTimeout)
		defer cancel()
		return s.Close(ctx)
	}, nil
}

// scratch is where copies are compared: beside the transcripts, where that can be
// written, since a system may have no folder for temporary files.
func (b *builder) scratch() string {
	if b.store != nil {
		return b.o.store.dir
	}
	return os.TempDir()
}
