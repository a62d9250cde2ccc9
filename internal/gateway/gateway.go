package gateway

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// Defaults of [Config].
const (
	DefaultMaxWait           = 30 * time.Second
	DefaultRetryAfter        = time.Second
	DefaultLookupTimeout     = 7 * time.Second
	DefaultCheckTimeout      = 2 * time.Second
	DefaultHeartbeat         = 15 * time.Second
	DefaultReadHeaderTimeout = 5 * time.Second
	DefaultReadTimeout       = 30 * time.Second
	DefaultSendTimeout       = 30 * time.Second
	DefaultIdleTimeout       = 2 * time.Minute
	DefaultMaxHeaderBytes    = 64 << 10
	DefaultMaxConnections    = 4096
	DefaultMaxBatchBytes     = 64 << 20
	DefaultBodyMemory        = 256 << 20
	DefaultMaxBatchTurns     = 10_000
	DefaultMaxKeys           = 100_000
	DefaultDrainTimeout      = 20 * time.Second
)

// Publisher takes turns in, as [publisher.Publisher] does.
type Publisher interface {
	PublishDraft(ctx context.Context, d *transcript.Draft) (*publisher.Receipt, error)
	// Stamp gives the timestamp of a turn that comes now.
	Stamp(session string) (transcript.Instant, error)
	// Level and Pending tell of turns that perhaps nobody else knows yet.
	Level(session, id string, rev int) (level publisher.Level, ok bool)
	Pending(session string) []transcript.Snapshot
	// Away returns how many accepted turns they cannot tell of now.
	Away() int
}

// History loads recent histories, as [cache.History] does.
type History interface {
	Load(ctx context.Context, session string, limit int) (cache.Result, error)
	Path(ctx context.Context, session string, q transcript.PathQuery) (cache.Result, error)
}

// Transcripts reads whole transcripts. [transcript.ErrNoSession] says that there
// is none; every other error, that nobody knows.
type Transcripts interface {
	View(ctx context.Context, session string) (*transcript.View, error)
}

// Store is the transcript store, as [transcript.Store] is. What it holds is written.
type Store interface {
	Transcripts
	Turns
	List(ctx context.Context, prefix, cursor string, limit int) (transcript.Page, error)
}

// Turns looks for one turn. ok is false when it is certainly not there.
type Turns interface {
	Turn(ctx context.Context, session, id string) (s transcript.Snapshot, ok bool, err error)
}

// Check reports why something is not ready, and what to do about it. Its text is
// shown to whoever asks /readyz, so it holds no secrets.
type Check func(ctx context.Context) error

// Config says what a gateway serves. A source that is absent is a nil interface;
// what depends on it is 501. Zero durations and sizes mean their defaults.
type Config struct {
	// Publisher takes turns in. Without one nothing under /v1 is served: that is
	// the server of a process that only needs /healthz, /readyz and /metrics.
	Publisher Publisher
	History   History
	// Store is the transcript store, where it is at hand.
	Store Store
	// Transcripts answers for whole transcripts, from the stream perhaps; nil means Store.
	Transcripts Transcripts
	// Full, if it is set, tells of sessions that have no room for new turns, as far as that is
	// known: a turn of one would become a dead letter.
	Full func(session string) bool
	// Stream and Dead look for turns that are stored, and for dead letters.
	Stream, Dead Turns
	// Events shows turns as they are stored.
	Events Events

	// Guard says who may ask; nil means one that answers for this machine's addresses alone.
	Guard *httpio.Guard
	// Exposed are the addresses on which this process listens and which other machines may reach, for
	// /readyz to show: nobody is asked for credentials there.
	Exposed []string

	// Around, if it is set, stands in front of all that is served here, and passes on
	// what is not its own: the console.
	Around func(http.Handler) http.Handler

	// Healthy reports a fault that only a restart mends; nil means never.
	Healthy func() error
	// Ready are the named checks of /readyz.
	Ready map[string]Check
	// Registry is what /metrics shows. [New] adds the HTTP figures to it, so it
	// belongs to one gateway. Nil means one with nothing else in it.
	Registry *prometheus.Registry
	// Logger gets one line per failed request; others at debug. Nil discards them.
	Logger *slog.Logger

	// Tracer makes spans of requests; nil makes none.
	Tracer trace.Tracer

	// MaxPayload returns the longest encoding of a turn that Publisher accepts now, in bytes. Nil
	// means [transcript.MaxPayload].
	MaxPayload func() int
	// MaxBody bounds the text of a turn as it was sent, in bytes; 0 means what the longest turn
	// takes when all of it is written with \u escapes, and some white space.
	MaxBody int64
	// BodyMemory bounds what all requests that are being read hold of their bodies; nil has no bound.
	BodyMemory *transcript.Memory
	// MaxBatchBytes and MaxBatchTurns bound a batch of turns.
	MaxBatchBytes int64
	MaxBatchTurns int
	// MaxKeys is how many turns that came with an Idempotency-Key are remembered.
	MaxKeys int
	// MaxWait caps what "Prefer: wait=N" may ask for.
	MaxWait time.Duration
	// RetryAfter is what a 503 advises, in whole seconds.
	RetryAfter time.Duration
	// LookupTimeout bounds the reads of one request.
	LookupTimeout time.Duration
	// CheckTimeout bounds each check of /readyz, even one that does not return.
	CheckTimeout time.Duration

	// Heartbeat is how often a client that listens to events hears something, when there are none.
	Heartbeat time.Duration

	// ReadHeaderTimeout, ReadTimeout (the body included), SendTimeout (of an answer, once
	// a request was read and has waited as long as it may; of each event) and IdleTimeout bound connections.
	ReadHeaderTimeout, ReadTimeout, SendTimeout, IdleTimeout time.Duration
	MaxHeaderBytes                                           int
	// MaxConnections is how many may be open; see [httpio.Connections].
	MaxConnections int
	// DrainTimeout bounds how long [Gateway.Serve] waits for requests when it is told to stop.
	DrainTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.Transcripts == nil && c.Store != nil {
		c.Transcripts = c.Store
	}
	if c.Healthy == nil {
		c.Healthy = func() error { return nil }
	}
	if c.Guard == nil {
		c.Guard = httpio.NewGuard(nil, nil)
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MaxPayload == nil {
		c.MaxPayload = func() int { return transcript.MaxPayload }
	}
	c.MaxBatchBytes = cmp.Or(c.MaxBatchBytes, DefaultMaxBatchBytes)
	c.MaxBatchTurns = cmp.Or(c.MaxBatchTurns, DefaultMaxBatchTurns)
	c.MaxKeys = cmp.Or(c.MaxKeys, DefaultMaxKeys)
	c.MaxWait = cmp.Or(c.MaxWait, DefaultMaxWait)
	c.RetryAfter = cmp.Or(c.RetryAfter, DefaultRetryAfter)
	c.LookupTimeout = cmp.Or(c.LookupTimeout, DefaultLookupTimeout)
	c.CheckTimeout = cmp.Or(c.CheckTimeout, DefaultCheckTimeout)
	c.Heartbeat = cmp.Or(c.Heartbeat, DefaultHeartbeat)
	c.ReadHeaderTimeout = cmp.Or(c.ReadHeaderTimeout, DefaultReadHeaderTimeout)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, DefaultReadTimeout)
	c.SendTimeout = cmp.Or(c.SendTimeout, DefaultSendTimeout)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, DefaultIdleTimeout)
	c.MaxHeaderBytes = cmp.Or(c.MaxHeaderBytes, DefaultMaxHeaderBytes)
	c.MaxConnections = cmp.Or(c.MaxConnections, DefaultMaxConnections)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, DefaultDrainTimeout)
	return c
}

// maxBody bounds the text of a turn now.
func (c *Config) maxBody() int64 {
	return cmp.Or(c.MaxBody, longestEscape*int64(c.MaxPayload())+bodySpace)
}

const (
	longestEscape = 6         // \u0041 for a letter
	bodySpace     = 256 << 10 // white space
)

// Gateway answers HTTP. It is safe for concurrent use.
type Gateway struct {
	cfg     Config
	log     *slog.Logger
	routes  routes
	metrics *httpMetrics
	checks  []*check
	names   *names

	lateBodies, lateChecks atomic.Uint64
	connections            atomic.Pointer[httpio.Connections] // of the last Serve; nil before

	failingMu sync.Mutex
	failing   string // checks that failed when readiness was asked last

	stopOnce sync.Once
	stopping chan struct{} // closed when Serve is told to stop
}

// New makes a gateway. It starts nothing.
func New(cfg Config) *Gateway {
	cfg = cfg.withDefaults()
	g := &Gateway{cfg: cfg, log: cfg.Logger, names: newNames(cfg.MaxKeys), stopping: make(chan struct{})}
	g.metrics = newMetrics(cfg.Registry, g.counts)
	g.checks = newChecks(cfg.Ready)
	g.routes = routes{
		newRoute(http.MethodGet, "/healthz", g.health),
		newRoute(http.MethodGet, "/readyz", g.ready),
		newRoute(http.MethodGet, "/metrics", serveMetrics(cfg.Registry)),
	}
	if cfg.Publisher != nil {
		g.routes = append(g.routes,
			newRoute(http.MethodPost, "/v1/sessions/{id}/turns", g.postTurn),
			newRoute(http.MethodPost, "/v1/turns", g.postBatch),
			newRoute(http.MethodGet, "/v1/sessions/{id}/turns/{turn}", g.getTurn),
			newRoute(http.MethodGet, "/v1/sessions/{id}/history", g.getHistory),
			newRoute(http.MethodGet, "/v1/sessions/{id}/transcript", g.getTranscript),
			newRoute(http.MethodGet, "/v1/sessions", g.listSessions),
			newRoute("", "/v1/sessions/{id}", nil),
			newRoute(http.MethodGet, "/v1/events", g.getEvents),
			newRoute(http.MethodGet, describedAt, describe),
		)
	}
	return g
}

// Late counts since the start the requests whose body did not come within ReadTimeout,
// and the checks of /readyz that took longer than CheckTimeout.
func (g *Gateway) Late() (bodies, checks uint64) { return g.lateBodies.Load(), g.lateChecks.Load() }

// Handler returns what answers requests. The guard comes first.
func (g *Gateway) Handler() http.Handler {
	inner := g.inner()
	return httpio.Drain(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := g.cfg.Guard.Check(w, r, shared(r)); p != nil {
			g.turnAway(w, r, p)
			return
		}
		inner.ServeHTTP(w, r)
	}), g.stopping)
}

// shared reports whether pages of the origins that may use the API may use a path.
func shared(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/v1/") || r.URL.Path == describedAt
}

// inner answers what the guard lets pass.
func (g *Gateway) inner() http.Handler {
	if g.cfg.Around == nil {
		return http.HandlerFunc(g.serve)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, passed := time.Now(), false
		rec := &recorder{ResponseWriter: w}
		g.cfg.Around(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			passed = true
			g.serve(w, r)
		})).ServeHTTP(rec, r)
		if !passed {
			g.metrics.answered(aroundRoute, r.Method, rec.answered(), time.Since(start))
		}
	})
}

// aroundRoute is the route of everything that [Config.Around] answers itself, in figures.
const aroundRoute = "/console/"
