package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

// Defaults of [SharedConfig].
const (
	// DefaultSharedEvery is how often the stream is looked at, on top of what it tells by itself.
	DefaultSharedEvery = time.Second
	// DefaultDoubtAfter is how long NATS may say nothing until Redis is doubted: a session
	// that Redis is behind with could be read from it for so long.
	DefaultDoubtAfter = 5 * time.Second
	// DefaultOrphanAfter is how long what a process is behind with stays as it was until that
	// process counts as gone. One that runs repeats it three times meanwhile.
	DefaultOrphanAfter = 6 * time.Second
	// DefaultSharedWait is how long [Shared.Wait] waits for the first answer.
	DefaultSharedWait = 2 * time.Second

	// sharedRest is the shortest time between two looks, and sharedFirst the longest until there was an answer:
	// while a service starts, its streams are made.
	sharedRest, sharedFirst = 50 * time.Millisecond, 100 * time.Millisecond
	// walkAgain is how often a walk is asked for that takes over what a process left.
	walkAgain = time.Minute
)

// SharedConfig says what a process shares with others that use the same Redis.
type SharedConfig struct {
	JS    jetstream.JetStream
	Redis *Redis
	// Refresher is that of this process; nil where nothing is refreshed.
	Refresher *Refresher
	// Walk asks for a walk soon, as [RefresherConfig.OnMissed] does: what a process that is gone was behind
	// with is refreshed by it. Only with a Refresher.
	Walk func()
	// Every, DoubtAfter and OrphanAfter are as their defaults say; zero means those. Wait bounds
	// the wait for the first answer.
	Every, DoubtAfter, OrphanAfter, Wait time.Duration
	// Logger gets a line when the others cannot be asked though NATS is there, and one when
	// they can again. Nil discards them.
	Logger *slog.Logger
}

func (c SharedConfig) withDefaults() SharedConfig {
	c.Every = cmp.Or(c.Every, DefaultSharedEvery)
	c.DoubtAfter = cmp.Or(c.DoubtAfter, DefaultDoubtAfter)
	c.OrphanAfter = cmp.Or(c.OrphanAfter, DefaultOrphanAfter)
	c.Wait = cmp.Or(c.Wait, DefaultSharedWait)
	if c.Walk == nil {
		c.Walk = func() {}
	}
	c.Logger = orDiscard(c.Logger)
	return c
}

// Shared is what the processes that share a Redis tell each other through a stream of NATS: the key
// that entries are signed with, which the first of them makes; and with which sessions Redis is
// behind, so that none of them reads those from Redis until they are refreshed.
//
// Nothing is sent while all is well, but one small request a second. What a process was behind with when
// it was killed stays in the stream until another one has refreshed it.
type Shared struct {
	cfg  SharedConfig
	id   string
	own  bool // the key was given, and is not taken from the stream
	wake chan struct{}
	sub  *nats.Subscription

	answered atomic.Int64 // when the stream was read last, in ns since start; 0 for never
	start    time.Time
	first    chan struct{} // closed when it was

	mu     sync.RWMutex
	others map[string]*state // by process; the empty ones are left out
	failed error             // why the stream could not be read or written last; nil when it could

	// Of the loop alone:
	lastSeq  uint64
	created  time.Time
	told     string // what this process said last
	toldAt   time.Time
	trouble  bool // was logged
	walkedAt time.Time

	cancel context.CancelFunc
	work   sync.WaitGroup
}

// NewShared starts to share. Until NATS has answered, Redis is doubted, and without a key not used
// at all. The caller closes it, after the refresher and before the connection.
func NewShared(cfg SharedConfig) (*Shared, error) {
	cfg = cfg.withDefaults()
	if cfg.JS == nil || cfg.Redis == nil {
		return nil, errors.New("cache: a Shared needs JS and Redis")
	}
	inner, cancel := context.WithCancel(context.Background())
	s := &Shared{
		cfg: cfg, id: uuid.NewString(), own: cfg.Redis.hasKey(), wake: make(chan struct{}, 1), start: time.Now(), first: make(chan struct{}),
		others: make(map[string]*state), cancel: cancel,
	}
	nc := cfg.JS.Conn()
	var err error
	if s.sub, err = nc.Subscribe(stream.CacheBehind, s.heard); err != nil {
		cancel()
		return nil, fmt.Errorf("listen to what Redis is behind with: %w", err)
	}
	s.work.Go(func() { s.run(inner) })
	return s, nil
}

// Wait waits for the first answer of NATS, when that is connected, for at most [SharedConfig.Wait]:
// so that the first histories can come from Redis.
func (s *Shared) Wait(ctx context.Context) {
	if !s.cfg.JS.Conn().IsConnected() {
		return
	}
	late := time.NewTimer(s.cfg.Wait)
	defer late.Stop()
	select {
	case <-s.first:
	case <-late.C:
	case <-ctx.Done():
	}
}

// Trust says how far Redis can be believed about a session. It asks nobody.
func (s *Shared) Trust(session string) Trust {
	trust := Trusted
	if s.cfg.Refresher != nil {
		trust = s.cfg.Refresher.trust(session)
	}
	s.mu.RLock()
	for _, o := range s.others {
		switch {
		case !o.behind(session):
		case o.silent:
			trust = Silent
		case trust == Trusted:
			trust = Refused
		}
	}
	s.mu.RUnlock()
	if trust != Trusted {
		return trust
	}
	if at := s.answered.Load(); at == 0 || time.Since(s.start)-time.Duration(at) > s.cfg.DoubtAfter {
		return Doubted
	}
	return Trusted
}

// Check returns nil, or a [*TroubleError] while histories do not come from Redis because NATS does not
// say what processes have to know of it.
func (s *Shared) Check(context.Context) error {
	s.mu.RLock()
	err := s.failed
	s.mu.RUnlock()
	at := s.answered.Load()
	if at != 0 && time.Since(s.start)-time.Duration(at) <= s.cfg.DoubtAfter {
		return nil
	}
	if err == nil {
		err = errors.New("NATS has not answered yet")
	}
	return &TroubleError{
		What: "Redis is not trusted", Why: reason(err), err: err,
		Do: "start NATS and the consumers, and let this NATS user use the stream " + stream.Cache,
	}
}

// Close says what Redis is behind with at the end, for others to take over, and stops.
func (s *Shared) Close(ctx context.Context) error {
	s.sub.Unsubscribe()
	s.cancel()
	s.work.Wait()
	if s.cfg.Refresher == nil || !s.cfg.JS.Conn().IsConnected() {
		return nil
	}
	return s.tell(ctx, s.stateOf(false))
}

func (s *Shared) run(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	var changed <-chan struct{}
	if s.cfg.Refresher != nil {
		changed = s.cfg.Refresher.stale.changed
	}
	for {
		began := time.Since(s.start)
		err := s.look(ctx)
		if err == nil {
			if s.answered.Swap(max(int64(began), 1)) == 0 {
				close(s.first)
			}
			err = s.announce(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		s.report(err)
		// Changes that come in a row are told together.
		rest.Reset(sharedRest)
		select {
		case <-ctx.Done():
			return
		case <-rest.C:
		}
		var soon <-chan time.Time
		if s.answered.Load() == 0 {
			rest.Reset(sharedFirst)
			soon = rest.C
		}
		select {
		case <-ctx.Done():
			return
		case <-soon:
		case <-tick.C:
		case <-s.wake:
		case <-changed:
		}
	}
}

// report logs that the stream cannot be used, once. That NATS is not there is said elsewhere, and
// streams that do not exist yet are made.
func (s *Shared) report(err error) {
	s.mu.Lock()
	s.failed = err
	s.mu.Unlock()
	switch {
	case err == nil && s.trouble:
		s.trouble = false
		s.cfg.Logger.Info("what processes share about Redis is known again")
	case err != nil && !s.trouble && s.cfg.JS.Conn().IsConnected() && !errors.Is(err, stream.ErrUnreachable) && !errors.Is(err, stream.ErrNoStream):
		s.trouble = true
		s.cfg.Logger.Warn("what processes share about Redis cannot be read or told, so histories come from elsewhere", "error", err,
			"do", "let this NATS user publish afterword.cache.>, subscribe to it, and use the stream "+stream.Cache)
	}
}

// look reads what has changed in the stream.
func (s *Shared) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DoubtAfter/2)
	defer cancel()
	st, err := stream.EnsureCache(ctx, s.cfg.JS)
	if err != nil {
		return err
	}
	info := st.CachedInfo()
	if info.State.LastSeq == s.lastSeq && info.Created.Equal(s.created) && s.cfg.Redis.hasKey() {
		return nil
	}
	if err := s.takeKey(ctx, st); err != nil {
		return err
	}
	if err := s.takeStates(ctx, st); err != nil {
		return err
	}
	s.lastSeq, s.created = info.State.LastSeq, info.Created
	return nil
}

// takeKey takes the key from the stream, and makes one if there is none: of several
// processes that do, the stream takes the first.
func (s *Shared) takeKey(ctx context.Context, st jetstream.Stream) error {
	if s.own {
		return nil
	}
	key, err := sharedKey(ctx, s.cfg.JS, st)
	if err != nil {
		return err
	}
	if old := s.cfg.Redis.key.Load(); old == nil || string(*old) != string(key) {
		s.cfg.Redis.SetKey(key)
	}
	return nil
}

// SharedKey is the key that processes on this NATS sign entries in Redis with. It is made where
// there is none.
func SharedKey(ctx context.Context, js jetstream.JetStream) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, stream.RequestTimeout(js))
	defer cancel()
	st, err := stream.EnsureCache(ctx, js)
	if err != nil {
		return nil, err
	}
	return sharedKey(ctx, js, st)
}

func sharedKey(ctx context.Context, js jetstream.JetStream, st jetstream.Stream) ([]byte, error) {
	for range 2 {
		msg, err := st.GetLastMsgForSubject(ctx, stream.CacheKey)
		if err == nil {
			if len(msg.Data) < KeySize {
				return nil, fmt.Errorf("the key in stream %s has %d bytes, less than %d: purge the subject %s", stream.Cache, len(msg.Data), KeySize, stream.CacheKey)
			}
			return msg.Data, nil
		}
		if !errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil, fmt.Errorf("read the key of the cache: %w", err)
		}
		if _, err := js.Publish(ctx, stream.CacheKey, NewKey(), jetstream.WithExpectLastSequencePerSubject(0)); err != nil && !stream.WrongLast(err) {
			return nil, fmt.Errorf("store the key of the cache: %w", err)
		}
	}
	return nil, errors.New("the key of the cache was stored and is not there")
}

// takeStates reads what all other processes are behind with.
func (s *Shared) takeStates(ctx context.Context, st jetstream.Stream) error {
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(stream.CacheBehind))
	if err != nil {
		return fmt.Errorf("list what Redis is behind with: %w", err)
	}
	now := time.Now()
	s.mu.RLock()
	since := make(map[string]state, len(s.others))
	for id, o := range s.others {
		since[id] = state{seq: o.seq, since: o.since}
	}
	s.mu.RUnlock()
	states := make(map[string]*state)
	for subject := range info.State.Subjects {
		id := strings.TrimPrefix(subject, stream.CacheBehindPrefix)
		if id == s.id {
			continue
		}
		msg, err := st.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // it has expired
		}
		if err != nil {
			return fmt.Errorf("read what Redis is behind with: %w", err)
		}
		o := parseState(msg.Data)
		if o.empty() {
			continue
		}
		o.seq, o.since = msg.Sequence, now
		if old, ok := since[id]; ok && old.seq == o.seq {
			o.since = old.since
		}
		states[id] = o
	}
	s.mu.Lock()
	s.others = states
	s.mu.Unlock()
	return nil
}

// heard takes what another process has just said, before the stream is asked.
func (s *Shared) heard(m *nats.Msg) {
	id := strings.TrimPrefix(m.Subject, stream.CacheBehindPrefix)
	if id == s.id {
		return
	}
	if o := parseState(m.Data); !o.empty() {
		o.since = time.Now()
		s.mu.Lock()
		s.others[id] = o // the stream is asked whether it is less
		s.mu.Unlock()
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
