package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

// Defaults of [Config].
const (
	DefaultClients    = 256
	DefaultPerClient  = 32
	DefaultQueueTurns = 1024
	DefaultQueueBytes = 8 << 20
	DefaultResume     = 10_000
	DefaultRetryMax   = 5 * time.Second
)

var (
	// ErrFull says that there are as many clients as there may be.
	ErrFull = errors.New("live: too many clients")
	// ErrBusy says that one who listens does so as often as one may.
	ErrBusy = errors.New("live: this client listens too often already")
	// ErrClosed says that the feed was closed.
	ErrClosed = errors.New("live: closed")
	// ErrResumed says that a client has got all that one may ask for of the past. It
	// comes again with the last sequence it has, for more.
	ErrResumed = errors.New("live: as many turns of the past were given as one client may have")
)

// Config says what to show. JS is asked for; zero means the default.
type Config struct {
	JS jetstream.JetStream
	// Clients bounds how many listen at a time.
	Clients int
	// PerClient bounds how many of them have the same [Want.Client], so that one cannot keep all others out.
	PerClient int
	// QueueTurns and QueueBytes (of payload) bound what waits for one client.
	QueueTurns int
	QueueBytes int64
	// Resume bounds how many turns of the past one client gets.
	Resume int
	// Request bounds each request to the server; zero means what JS was made with.
	Request time.Duration
	// RetryMax is the longest wait between two tries to reach the stream again.
	RetryMax time.Duration
	// Logger gets a line when the stream cannot be read any more. Nil discards it.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Clients = cmp.Or(c.Clients, DefaultClients)
	c.PerClient = cmp.Or(c.PerClient, DefaultPerClient)
	c.QueueTurns = cmp.Or(c.QueueTurns, DefaultQueueTurns)
	c.QueueBytes = cmp.Or(c.QueueBytes, DefaultQueueBytes)
	c.Resume = cmp.Or(c.Resume, DefaultResume)
	c.Request = stream.RequestBound(c.Request, c.JS)
	c.RetryMax = cmp.Or(c.RetryMax, DefaultRetryMax)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *Config) validate() error {
	if c.JS == nil {
		return errors.New("live: Config.JS is missing")
	}
	for _, f := range [...]struct {
		name  string
		value int64
	}{
		{"Clients", int64(c.Clients)}, {"PerClient", int64(c.PerClient)}, {"QueueTurns", int64(c.QueueTurns)}, {"QueueBytes", c.QueueBytes},
		{"Resume", int64(c.Resume)},
		{"Request", int64(c.Request)}, {"RetryMax", int64(c.RetryMax)},
	} {
		if f.value < 0 {
			return fmt.Errorf("live: Config.%s is negative", f.name)
		}
	}
	return nil
}

// Feed shows the stream to clients. It is safe for concurrent use.
type Feed struct {
	cfg Config

	mu      sync.Mutex
	closed  bool
	clients map[*Client]struct{}
	same    map[string]int // how many of them have a name
	round   *round         // nil while nobody listens
	rounds  sync.WaitGroup
	stats   Stats
}

// round is one reading of the stream, from the first client to the last.
type round struct {
	stop  context.CancelFunc
	began chan struct{} // closed when it reads, or could not begin
	err   error         // why it could not begin; read after began

	// Guarded by the feed's lock.
	last    uint64    // every turn up to here was given to who wants it
	created time.Time // when the stream was made
	away    error     // why the stream cannot be read now; nil while it can
}

// Stats is what a feed does and did.
type Stats struct {
	Clients int    // that listen now
	Turns   uint64 // put into the queues of clients, or read from the past for one
	Missed  uint64 // that left a queue because its client was too slow
	Refused uint64 // clients beyond a bound
}

// New makes a feed. It reads nothing before a client comes.
func New(cfg Config) (*Feed, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Feed{cfg: cfg, clients: make(map[*Client]struct{}), same: make(map[string]int)}, nil
}

// Stats returns the feed's figures.
func (f *Feed) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.stats
	s.Clients = len(f.clients)
	return s
}

// Listen adds a client, which its caller closes. It returns when the stream is being read,
// so that what is stored from then on is shown. Its error is [ErrFull], [ErrBusy], [ErrClosed], or why
// the stream cannot be read. ctx bounds Listen alone.
func (f *Feed) Listen(ctx context.Context, want Want) (*Client, error) {
	c, r, err := f.enter(want)
	if err != nil {
		return nil, err
	}
	select {
	case <-r.began:
	case <-ctx.Done():
		c.Close()
		return nil, context.Cause(ctx)
	}
	if r.err != nil {
		c.Close()
		return nil, r.err
	}
	f.mu.Lock()
	c.join(r)
	f.mu.Unlock()
	if err := c.resume(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// enter takes a place, and begins a round when it is the first.
func (f *Feed) enter(want Want) (*Client, *round, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, nil, ErrClosed
	case len(f.clients) >= f.cfg.Clients:
		f.stats.Refused++
		return nil, nil, ErrFull
	case want.Client != "" && f.same[want.Client] >= f.cfg.PerClient:
		f.stats.Refused++
		return nil, nil, ErrBusy
	}
	c := &Client{feed: f, want: want, wake: make(chan struct{}, 1)}
	f.clients[c] = struct{}{}
	f.same[want.Client]++
	if f.round == nil {
		ctx, cancel := context.WithCancel(context.Background())
		f.round = &round{stop: cancel, began: make(chan struct{})}
		r := f.round
		f.rounds.Go(func() { f.read(ctx, r) })
	}
	return c, f.round, nil
}

// leave gives a place back, and ends the round with the last one.
func (f *Feed) leave(c *Client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.clients, c)
	if f.same[c.want.Client]--; f.same[c.want.Client] == 0 {
		delete(f.same, c.want.Client)
	}
	if len(f.clients) == 0 {
		f.end()
	}
}

// end ends the round. The caller has the lock.
func (f *Feed) end() {
	if f.round != nil {
		f.round.stop()
		f.round = nil
	}
}

// Close ends all clients with [ErrClosed] and returns when nothing is read any
// more, or with an error when ctx ends before.
func (f *Feed) Close(ctx context.Context) error {
	f.mu.Lock()
	f.closed = true
	f.end()
	for c := range f.clients {
		c.signal()
	}
	f.mu.Unlock()
	done := make(chan struct{})
	go func() {
		f.rounds.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop reading stream %s: %w", stream.Turns, context.Cause(ctx))
	}
}
