package transcript

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/afterword-io/afterword/internal/folder"
)

// Defaults of a [Config].
const (
	DefaultFileTimeout = 5 * time.Second
	DefaultMaxOps      = 64
	DefaultFoldWorkers = 2
	DefaultTailLimit   = 64 << 10
	DefaultQuietAfter  = 2 * time.Second
	DefaultLargeAge    = 20 * time.Second
	DefaultLargeSize   = 256 << 10
)

// Config says where transcripts are and how they are kept. Only Dir is asked for.
type Config struct {
	// Dir is the transcripts folder. It is created, with its identity, unless ReadOnly.
	Dir string
	// Layout places the files; "" takes that of an existing folder, or else [Sharded].
	Layout Layout
	// ReadOnly opens for readers: nothing is created, locked or folded.
	ReadOnly bool

	// FileTimeout bounds every file operation that somebody waits for.
	FileTimeout time.Duration
	// MaxOps bounds file operations at one time, and so the goroutines that a
	// hung disk can hold.
	MaxOps int

	// Memory is what readers share with the other readers of the process; nil means a
	// bound of its own, with the defaults.
	Memory *Memory

	// SessionMaxBytes is the size in bytes past which a session takes no new turns; -1 is
	// no limit.
	SessionMaxBytes int64

	// FoldWorkers is how many groups of sessions are folded at one time.
	FoldWorkers int
	// TailLimit is the size in bytes past which a tail is emptied at its fold; a
	// smaller one is emptied once its session has been quiet for QuietAfter.
	TailLimit  int64
	QuietAfter time.Duration
	// LargeSize is the size in bytes past which a document waits to be folded
	// until its tail is 8 % of it, or LargeAge old.
	LargeSize int64
	LargeAge  time.Duration

	// Durability overrides how writes are made durable; "" asks the file system.
	Durability Durability

	// OnSync and OnFold, if set, are told how long each batch took to be made durable,
	// and each group of sessions to be folded. They return at once.
	OnSync, OnFold func(took time.Duration)

	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.FileTimeout = cmp.Or(c.FileTimeout, DefaultFileTimeout)
	c.MaxOps = cmp.Or(c.MaxOps, DefaultMaxOps)
	c.SessionMaxBytes = cmp.Or(c.SessionMaxBytes, DefaultSessionMaxBytes)
	c.FoldWorkers = cmp.Or(c.FoldWorkers, DefaultFoldWorkers)
	c.TailLimit = cmp.Or(c.TailLimit, DefaultTailLimit)
	c.QuietAfter = cmp.Or(c.QuietAfter, DefaultQuietAfter)
	c.LargeAge = cmp.Or(c.LargeAge, DefaultLargeAge)
	c.LargeSize = cmp.Or(c.LargeSize, DefaultLargeSize)
	if c.Memory == nil {
		c.Memory = NewMemory(0, 0)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, told := range []*func(time.Duration){&c.OnSync, &c.OnFold} {
		if *told == nil {
			*told = func(time.Duration) {}
		}
	}
	return c
}

func (c Config) validate() error {
	switch {
	case c.Dir == "":
		return errors.New("transcripts folder: no path given")
	case c.FileTimeout < 0 || c.QuietAfter < 0 || c.LargeAge < 0:
		return errors.New("transcript store: a time bound is negative")
	case c.MaxOps < 4 || c.FoldWorkers < 1:
		return fmt.Errorf("transcript store: at least 4 file operations and 1 fold worker are needed, not %d and %d", c.MaxOps, c.FoldWorkers)
	case c.MaxOps <= c.FoldWorkers:
		return fmt.Errorf("transcript store: %d file operations leave none beside %d fold workers", c.MaxOps, c.FoldWorkers)
	}
	return nil
}

var (
	// ErrLate says that the file system did not answer within the bound. The
	// operation may still happen; its session stays locked until it has ended.
	ErrLate = errors.New("no answer from the file system in time")
	// ErrBusy says that somebody else holds the session: try again.
	ErrBusy = errors.New("the session is locked by another operation")
	// ErrFailed says that making data durable failed. Nothing can be said of what
	// was written since the last success, and no retry can tell: the process has
	// to exit, so that its supervisor starts a new one and the events come back.
	ErrFailed = errors.New("the file system failed to make data durable")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("the transcript store is closed")
)

// Store keeps the transcripts of one folder. Its methods are safe for concurrent
// use, and so are several stores, in one process or many, on one folder.
type Store struct {
	cfg      Config
	log      *slog.Logger
	identity Identity

	place     atomic.Pointer[place]
	merged    atomic.Pointer[place] // where merges went that were not synced yet
	reopening sync.Mutex            // guards retired
	retired   []*place              // were replaced

	troubledMu sync.Mutex
	troubled   map[string]bool // folders for Probe to look at

	slots chan struct{} // one for every file operation under way
	locks locks
	sync  syncer
	dirty dirty
	full  fullSet
	known knownNames // not used with SyncFS

	failed    atomic.Pointer[error] // the fsync error after which nothing is trusted
	onCorrupt atomic.Pointer[func(session string)]
	closing   chan struct{}
	once      sync.Once
	workers   sync.WaitGroup
	stats     counters
}

// Open opens the transcripts folder, and creates it unless it is for reading
// only. Its errors say what to do: a folder that cannot be written, a newer
// schema, another layout.
func Open(cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if !cfg.ReadOnly {
		if err := folder.Make(cfg.Dir); err != nil {
			return nil, fmt.Errorf("create transcripts folder: %w", err)
		}
	}
	p, err := openPlace(&cfg)
	if err != nil {
		return nil, fmt.Errorf("open transcripts folder: %w", err)
	}
	s := &Store{
		cfg: cfg, log: cfg.Logger,
		slots:   make(chan struct{}, cfg.MaxOps),
		closing: make(chan struct{}),
	}
	s.locks.init()
	s.dirty.init()
	s.known.init()
	if s.identity, err = openIdentity(p, cfg); err != nil {
		p.close()
		return nil, err
	}
	p.shards.flat, p.shards.replaced = s.identity.Layout == Flat, s.forget
	s.place.Store(p)
	s.sync.store = s
	if !cfg.ReadOnly {
		for range cfg.FoldWorkers {
			s.workers.Go(s.foldLoop)
		}
		s.workers.Go(s.tendLoop)
		s.workers.Go(s.spaceLoop)
	}
	return s, nil
}

// Close folds what is dirty until ctx ends and closes the folder. What is not
// folded by then is durable in its tails and folded by the next store.
func (s *Store) Close(ctx context.Context) error {
	err := ErrClosed
	s.once.Do(func() {
		err = nil
		if !s.cfg.ReadOnly && s.Err() == nil {
			err = s.FoldAll(ctx)
		}
		close(s.closing)
		done := make(chan struct{})
		go func() {
			s.workers.Wait()
			close(done)
		}()
		select {
		case <-done:
			s.reopening.Lock()
			defer s.reopening.Unlock()
			for _, p := range append(s.retired, s.now()) {
				err = errors.Join(err, p.close())
			}
		case <-ctx.Done(): // a hung disk holds a worker; the process is about to end anyway
			err = errors.Join(err, fmt.Errorf("close transcripts folder: %w", context.Cause(ctx)))
		}
	})
	return err
}

// Err returns why the store can no longer be trusted, an [ErrFailed], or nil.
func (s *Store) Err() error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (s *Store) fail(op string, err error) error {
	failure := fmt.Errorf("%w: %s: %w", ErrFailed, op, err)
	if s.failed.CompareAndSwap(nil, &failure) {
		s.log.Error("transcripts can no longer be made durable; this process has to be restarted", "operation", op, "error", err)
	}
	return failure
}

// Identity tells which folder this is.
func (s *Store) Identity() Identity { return s.identity }

// Dir is the transcripts folder.
func (s *Store) Dir() string { return s.cfg.Dir }
