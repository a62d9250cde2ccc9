package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/console"
	"github.com/afterword-io/afterword/internal/embedded"
	"github.com/afterword-io/afterword/internal/gateway"
	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/metrics"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/internal/tracing"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// Parts of a service, as the log names them.
const (
	partHTTP      = "http"
	partPublisher = "publisher"
	partConsumer  = "consumer"
	partHistory   = "history"
	partEvents    = "events"
	partTracing   = "tracing"
	partRefresher = "refresher"
	partStore     = "store"
	partRedis     = "redis"
	partShared    = "shared"
	partNATS      = "nats"
	partStreams   = "streams"
	partWatch     = "watch"
	partConsole   = "console"
)

// builder puts the parts of a service together, each from its options, in one
// place. The steps are called in the order in which parts depend on each other.
type builder struct {
	*service
	o    serviceOptions
	name string

	guard         *httpio.Guard
	exposed       []string // addresses that other machines may reach
	listener      net.Listener
	store         *transcript.Store // nil on a gateway
	late          *lateStore        // of a gateway, which only reads
	server        *embedded.NATS
	nc            *nats.Conn
	js            jetstream.JetStream
	watching      *stream.Watch
	fromStream    *consumer.StreamReader // transcripts, where no files are at hand
	memory        *transcript.Memory     // of all that read transcripts
	redis         *cache.Redis           // nil without a cache
	shared        *cache.Shared          // nil without a cache
	embeddedRedis bool                   // it runs in this process, and is empty at the start
	publisher     *publisher.Publisher
	history       *cache.History
	events        *live.Feed
	tracing       *tracing.Tracing // nil when nobody traces
	consumer      *consumer.Consumer
	console       *console.Console // nil on a gateway and a consumer

	streams  atomic.Pointer[error] // what keeps the streams from being used; a nil error when nothing does
	ready    map[string]gateway.Check
	registry *prometheus.Registry
	parts    metrics.Parts // that have waits
}

func newBuilder(s *service, o serviceOptions, name string) *builder {
	b := &builder{service: s, o: o, name: name, guard: httpio.NewGuard(o.http.hosts, o.http.origins), ready: make(map[string]gateway.Check), registry: prometheus.NewRegistry()}
	b.memory = transcript.NewMemory(o.store.readMemory, o.store.readMemoryWait)
	build := thisBuild()
	b.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		metrics.Build(build.Version, build.Commit), metrics.ReadMemory(b.memory.Stats))
	notYet := errors.New("the streams were not looked at yet")
	b.streams.Store(&notYet)
	return b
}

// check refuses, before anything is made, what no server and no folder has to be there for: URLs, certificates,
// credentials, and a spool that cannot be.
func (b *builder) check() error {
	if !b.o.redis.none() {
		r, err := b.o.redis.open(nil)
		if err != nil {
			return err
		}
		r.Close()
	}
	if err := b.o.nats.config(b.name, b.log).Check(); err != nil {
		return err
	}
	if dir := b.o.spool.dir; dir != "" && dir != noSpool {
		return checkSpool(dir)
	}
	return nil
}

// listen takes the port first of all, so that a second service does not get far.
func (b *builder) listen() error {
	ln, err := b.open("--listen", b.o.listen, defaultListen)
	if err != nil {
		return err
	}
	b.listener = ln
	b.onStop(partHTTP, 25, func(context.Context) error { ln.Close(); return nil }) // Serve closes it too
	return nil
}

// openStore opens the transcripts for writing.
func (b *builder) openStore() error {
	if err := b.o.store.checkData(); err != nil {
		return err
	}
	cfg := b.storeConfig()
	cfg.Layout = transcript.Layout(b.o.store.layout)
	times := metrics.NewStoreTimes()
	cfg.OnSync, cfg.OnFold = times.Synced, times.Folded
	s, err := transcript.Open(cfg)
	switch {
	case diskTrouble(err): // a supervisor should start it anew, until the disk works
		return failed(fmt.Errorf("%w: started again it goes on when its disk works", err))
	case err != nil:
		return dataDirError(err)
	}
	b.store = s
	b.registry.MustRegister(times, metrics.Store(s.Stats))
	b.parts.Store = s.Stats
	b.onStop(partStore, 100, s.Close)
	return nil
}

// lookForStore reads the transcripts, when this machine has them.
func (b *builder) lookForStore() error {
	if err := b.o.store.checkData(); err != nil {
		return err
	}
	l := &lateStore{cfg: b.storeConfig(), log: b.log}
	l.cfg.ReadOnly = true
	var err error
	if l.store, err = l.open(); err != nil {
		return dataDirError(err)
	}
	if l.store == nil {
		b.log.Info("no transcripts here, histories come from Redis and the stream", "folder", l.cfg.Dir)
	}
	b.late = l
	b.onStop(partStore, 100, l.Close)
	return nil
}

func (b *builder) storeConfig() transcript.Config {
	return transcript.Config{Dir: b.o.store.transcripts(), FileTimeout: b.o.store.fileTimeout, Memory: b.memory, SessionMaxBytes: b.o.store.sessionMax, Logger: b.log}
}

// connect makes the connections to NATS and Redis, where they are not made yet. Neither server has to be there.
func (b *builder) connect() error {
	if err := b.connectRedis(); err != nil {
		return err
	}
	return b.connectNATS()
}

// connectGiven connects to the servers that a URL was given for: one that refuses does so before folders are made.
func (b *builder) connectGiven() error {
	if b.o.redis.url != "" {
		if err := b.connectRedis(); err != nil {
			return err
		}
	}
	if b.o.nats.url != "" {
		return b.connectNATS()
	}
	return nil
}

func (b *builder) connectNATS() error {
	if b.nc != nil {
		return nil
	}
	cfg := b.o.nats.config(b.name, b.log)
	cfg.Wait, cfg.OnClosed = true, b.fatal
	nc, err := stream.Connect(b.ctx, cfg)
	if err != nil {
		return err
	}
	b.nc = nc
	b.onStop(partNATS, 100, func(context.Context) error { nc.Close(); return nil })
	b.ready[partNATS] = func(context.Context) error {
		if !nc.IsConnected() {
			return fmt.Errorf("not connected to %s", stream.RedactURL(cmp.Or(b.o.nats.url, stream.DefaultURL)))
		}
		return nil
	}
	if b.js, err = stream.JetStream(nc, cfg.API); err != nil {
		return err
	}
	b.fromStream = consumer.NewStreamReader(b.js, 0)
	b.fromStream.Memory = b.memory
	b.watching = stream.NewWatch(stream.WatchConfig{JS: b.js, Every: b.o.watch, Logger: b.log})
	b.registry.MustRegister(metrics.NATS(nc.IsConnected))
	return nil
}

// watchStreams looks at the streams now and then, for /metrics.
func (b *builder) watchStreams() {
	b.registry.MustRegister(metrics.Streams(b.watching.Last))
	b.parts.Streams = b.watching.Last
	b.background(partWatch, 25, b.watching.Run)
}

// natsDir is where an embedded NATS server keeps the stream.
func (b *builder) natsDir() string { return filepath.Join(b.o.store.dir, "nats") }
