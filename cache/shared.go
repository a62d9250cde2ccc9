package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// DefaultDoubtAfter is how long NATS, or a process that refreshes, may say nothing until Redis is doubted:
	// a session that Redis is behind with could be read from it for so long.
	DefaultDoubtAfter = 6 * time.Second

	// Parts of it: how often NATS and the marks in Redis are looked at, on top of what is told
	// without asking, and how long [Shared.Wait] waits.
	everyPart, waitPart = 6, 3
	// tellAgain is after how many times OrphanAfter a process stores again what it has said, with the last mark:
	// a Redis that was restored while nobody was there is known by it.
	tellAgain = 3

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
	// Group is the consumer group of the refresher. Redis is trusted when all consumers of one
	// group write to it.
	Group string
	// Fresh says that Redis was empty when this process started, and that no process before
	// it can have written to it: it is embedded.
	Fresh bool
	// Walk asks for a walk soon, as [RefresherConfig.OnMissed] does: what a process that is gone was behind
	// with is refreshed by it; all says that it has to be about all sessions that Redis can hold. Only
	// with a Refresher.
	Walk func(all bool)
	// DoubtAfter is as its default says. Every, OrphanAfter and Wait are how often is looked, after which time
	// without a word a process is gone, and the bound of [Shared.Wait]; zero means a part of DoubtAfter.
	DoubtAfter, Every, OrphanAfter, Wait time.Duration
	// Logger gets a line when histories do not come from Redis though it answers, and one when
	// they do again. Nil discards them.
	Logger *slog.Logger
}

func (c SharedConfig) withDefaults() SharedConfig {
	c.DoubtAfter = cmp.Or(c.DoubtAfter, DefaultDoubtAfter)
	c.OrphanAfter = cmp.Or(c.OrphanAfter, c.DoubtAfter)
	c.Every = cmp.Or(c.Every, max(c.DoubtAfter/everyPart, time.Millisecond))
	c.Wait = cmp.Or(c.Wait, c.DoubtAfter/waitPart)
	if c.Walk == nil {
		c.Walk = func(bool) {}
	}
	c.Logger = orDiscard(c.Logger)
	return c
}

// Shared is what the processes that share a Redis tell each other through NATS: the key
// that entries are signed with, which the first of them makes; whether what is refreshed gets into the Redis
// that is read; and with which sessions Redis is behind, so that none of them reads those from Redis until
// they are refreshed.
//
// A process that refreshes says every few seconds that it is there, and which mark its Redis has (see
// [mark]). What it was behind with when it was killed stays in the stream until another one has refreshed it.
type Shared struct {
	cfg  SharedConfig
	id   string
	own  bool // the key was given, and is not taken from the stream
	wake chan struct{}
	look chan struct{} // gets something when the marks have to be looked at
	sub  *nats.Subscription

	answered atomic.Int64 // when the stream was read last, in ns since start; 0 for never
	start    time.Time
	first    chan struct{} // closed when it was, and Redis had been looked at or did not answer

	marked  atomic.Int64 // the last mark that Redis has taken from this process; 0 for none
	beatNow atomic.Bool

	mu       sync.RWMutex
	others   map[string]*state // by process; the empty ones are left out
	failed   error             // why the stream could not be read or written last; nil when it could
	lookedAt time.Time         // when Redis was asked for the marks last, with an answer; zero for never

	// Of the loop that speaks to NATS alone:
	lastSeq     uint64
	created     time.Time
	told        string // what this process said last
	toldAt      time.Time
	beatAt      time.Time
	asked       bool // others were asked to say that they are there
	walkedAt    time.Time
	began       time.Time // when the stream was read for the first time
	noted       string    // the trouble that was logged
	troubleFrom time.Time // zero while there is none

	// Of the loop that speaks to Redis alone:
	markedAt    time.Time
	lastMark    int64  // as marked; 0 again when Redis has lost it
	connections uint64 // of the last mark

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
		cfg: cfg, id: uuid.NewString(), own: cfg.Redis.hasKey(), wake: make(chan struct{}, 1), look: make(chan struct{}, 1),
		start: time.Now(), first: make(chan struct{}), others: make(map[string]*state), cancel: cancel,
	}
	if cfg.Refresher != nil {
		cfg.Refresher.stale.takeUnmarked() // they are kept from now on
	}
	nc := cfg.JS.Conn()
	var err error
	if s.sub, err = nc.Subscribe(stream.CacheTold, s.listen); err != nil {
		cancel()
		return nil, fmt.Errorf("listen to what Redis is behind with: %w", err)
	}
	onConnect := s.connected
	cfg.Redis.onConnect.Store(&onConnect)
	s.work.Go(func() { s.run(inner) })
	s.work.Go(func() { s.watch(inner) })
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

// Close says what Redis is behind with at the end, for others to take over, and stops.
func (s *Shared) Close(ctx context.Context) error {
	s.sub.Unsubscribe()
	s.cfg.Redis.onConnect.Store(nil)
	s.cancel()
	s.work.Wait()
	if s.cfg.Refresher == nil || !s.cfg.JS.Conn().IsConnected() {
		return nil
	}
	if s.lastMark > 0 && !s.hasLost() {
		s.markedAt = time.Time{}
		s.writeMark(ctx)
		if s.markedAt.IsZero() {
			s.cfg.Refresher.stale.lose() // perhaps what was written since the last mark
		}
	}
	return s.tell(ctx, s.stateOf(false, true))
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
		err := s.exchange(ctx)
		switch {
		case err == nil:
			if s.answered.Swap(max(int64(began), 1)) == 0 {
				s.began = time.Now()
				s.hurry(s.look)
			}
		case stream.Denied(err):
			s.answered.Store(0) // nothing is known that could be doubted later
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
		if !s.started() {
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

// exchange reads what others have said, and tells them what has changed here. What may not be told, or not be heard,
// is refused without an answer.
func (s *Shared) exchange(ctx context.Context) error {
	err := s.read(ctx)
	if err == nil {
		err = s.announce(ctx)
	}
	if denied := stream.CheckDenied(s.cfg.JS.Conn(), s.cfg.DoubtAfter, stream.CachePrefix); denied != nil {
		s.asked, s.beatAt = false, time.Time{} // they are said again, to see whether they pass now
		return denied
	}
	return err
}

// started reports whether it was found out how far Redis can be trusted, or that takes too long.
func (s *Shared) started() bool {
	select {
	case <-s.first:
		return true
	default:
	}
	now := time.Now()
	if s.answered.Load() == 0 || now.Sub(s.began) < sharedFirst && (!s.looked(now) || s.distrusted(now) != nil) {
		return false
	}
	close(s.first)
	return true
}

func (s *Shared) hurry(loop chan struct{}) {
	select {
	case loop <- struct{}{}:
	default:
	}
}

// read reads what has changed in the stream.
func (s *Shared) read(ctx context.Context) error {
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
	s.hurry(s.look)
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
