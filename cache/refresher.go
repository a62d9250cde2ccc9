package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

// Defaults of [RefresherConfig].
const (
	DefaultWorkers      = 2
	DefaultMaxStale     = 100_000
	DefaultStoreTimeout = 5 * time.Second
	DefaultRetryAfter   = time.Second
	DefaultRetryMax     = time.Minute
)

// RefresherConfig says what a [Refresher] refreshes. Redis and Reader are
// required; the zero value of every other member means its default.
type RefresherConfig struct {
	Redis  *Redis
	Reader Reader // the transcript store
	// Workers read and write at the same time.
	Workers int
	// MaxStale bounds the sessions that wait. What does not fit is only known as
	// "something was missed".
	MaxStale int
	// StoreTimeout bounds one read of the store, even if it does not return.
	StoreTimeout time.Duration
	// RetryAfter is when a session is tried again that Redis did not take or the
	// store did not give. While the store fails it doubles, up to RetryMax.
	RetryAfter, RetryMax time.Duration
	// OnMissed is called once after sessions have been missed, when Redis takes
	// writes and there is room again, so that a walk over all sessions (see
	// [Refresher.ChangedWait]) catches up. It must not block. Nil means that
	// nobody catches up.
	OnMissed func()
	// OnRefreshed, if set, is told of each session that Redis took, or did not take now. It must
	// not block.
	OnRefreshed func(session string, err error)
	// Logger gets trouble of the store, once per session and trouble. Nil discards it.
	Logger *slog.Logger
}

func (c RefresherConfig) withDefaults() RefresherConfig {
	c.Workers = cmp.Or(c.Workers, DefaultWorkers)
	c.MaxStale = cmp.Or(c.MaxStale, DefaultMaxStale)
	c.StoreTimeout = cmp.Or(c.StoreTimeout, DefaultStoreTimeout)
	c.RetryAfter = cmp.Or(c.RetryAfter, DefaultRetryAfter)
	c.RetryMax = cmp.Or(c.RetryMax, DefaultRetryMax)
	c.Logger = orDiscard(c.Logger)
	return c
}

func (c RefresherConfig) validate() error {
	switch {
	case c.Redis == nil:
		return errors.New("cache: a Refresher needs a Redis")
	case c.Reader == nil:
		return errors.New("cache: a Refresher needs a Reader")
	case c.Workers < 1 || c.MaxStale < 1:
		return errors.New("cache: Workers and MaxStale must be 1 or more")
	case c.StoreTimeout < 0 || c.RetryAfter < 0 || c.RetryMax < c.RetryAfter:
		return errors.New("cache: StoreTimeout and RetryAfter must not be negative, nor RetryAfter over RetryMax")
	}
	return nil
}

// Refresher keeps Redis at what the store says. Whoever changes a session says
// so with [Refresher.Changed] and goes on; each session is then read from the
// store and written to Redis, in batches. What cannot be read or written stays
// in a bounded set until it can be: after an outage of Redis every session that
// changed meanwhile becomes right without new turns.
type Refresher struct {
	cfg    RefresherConfig
	store  *boundedReader
	stale  *staleSet
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// NewRefresher starts a Refresher. The caller closes it, before its Redis.
func NewRefresher(cfg RefresherConfig) (*Refresher, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Refresher{
		cfg:    cfg,
		store:  newBoundedReader(cfg.Reader, cfg.StoreTimeout, 2*cfg.Workers),
		stale:  newStaleSet(cfg.MaxStale),
		cancel: cancel,
	}
	cfg.Redis.OnRecover(f.stale.hurry)
	cfg.Redis.onTrip(f.stale.tell)
	for range cfg.Workers {
		f.work.Go(func() { f.worker(ctx) })
	}
	return f, nil
}

// Changed says that transcripts have changed. It returns at once, whatever
// Redis and the store do. A session that waits already is not added again.
func (f *Refresher) Changed(sessions ...string) { f.stale.add(sessions) }

// ChangedWait is Changed for a walk over many sessions: it waits for room
// instead of missing any.
func (f *Refresher) ChangedWait(ctx context.Context, sessions ...string) error {
	for _, s := range sessions {
		if err := f.stale.addWait(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// Waiting is how many sessions are still to be refreshed, and whether others
// were missed since.
func (f *Refresher) Waiting() (sessions int, missed bool) { return f.stale.size() }

// Behind reports whether Redis is known to be behind with a session: a refresh of it has failed,
// or waits for a Redis that takes no writes.
func (f *Refresher) Behind(session string) bool {
	return f.stale.isBehind(session, f.cfg.Redis.Writable())
}

// trust is what [Refresher.Behind] means for a reader.
func (f *Refresher) trust(session string) Trust {
	switch {
	case !f.Behind(session):
		return Trusted
	case f.cfg.Redis.writes.quiet.Load():
		return Silent
	}
	return Refused
}

// Walked says that a walk over all sessions that have changed (see [RefresherConfig.OnMissed]) is
// complete, and when it began: what was missed before is not any more. all says that it was about all
// that can be in Redis, not only about what has changed since the walk before.
func (f *Refresher) Walked(began time.Time, all bool) { f.stale.walkedSince(began, all) }

// Flush waits until nothing is stale.
func (f *Refresher) Flush(ctx context.Context) error {
	select {
	case <-f.stale.emptied():
		return nil
	case <-ctx.Done():
		n, _ := f.stale.size()
		return fmt.Errorf("%s %s not refreshed: %w", plural.Of(n, "session"), plural.Are(n), context.Cause(ctx))
	}
}

// Close tries each session that waits once more, ends when ctx does at the
// latest, and says how many were left. Those are stale in Redis until their next
// turn or a walk.
func (f *Refresher) Close(ctx context.Context) error {
	f.stale.close()
	done := make(chan struct{})
	go func() {
		f.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	f.cancel()
	<-done // what the workers wait for ends with their context
	if n, _ := f.stale.size(); n > 0 {
		return fmt.Errorf("%s %s not refreshed in Redis", plural.Of(n, "session"), plural.Are(n))
	}
	return nil
}

func (f *Refresher) worker(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		batch, next, last := f.stale.take(f.cfg.Redis.cfg.Pipeline, f.cfg.Redis.Writable(), time.Now())
		if last {
			return
		}
		if len(batch) > 0 {
			f.refresh(ctx, batch)
			continue
		}
		var due <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-f.stale.wake:
		case <-f.stale.stop:
		case <-due:
		}
	}
}

// refresh reads a batch and writes it. After a late read the rest of the batch
// waits too: the store is in trouble, not the session.
func (f *Refresher) refresh(ctx context.Context, batch []string) {
	entries := make([]Entry, 0, len(batch))
	size := 0
	late := false
	for _, s := range batch {
		if late {
			f.stale.retry(s, time.Now().Add(f.cfg.RetryAfter), false)
			continue
		}
		rec, err := f.store.Path(ctx, s, transcript.PathQuery{Limit: f.cfg.Redis.Limit()})
		switch {
		case errors.Is(err, transcript.ErrNoSession):
			// Erased. The script cannot say so, since nothing has a version.
			f.written(s, f.cfg.Redis.Forget(ctx, s))
		case err != nil:
			late = errors.Is(err, ErrLate)
			f.unread(s, err)
		default:
			entries = append(entries, Entry{s, rec})
			for i := range rec.Turns {
				size += rec.Turns[i].Size()
			}
		}
		if size > f.cfg.Redis.cfg.PipelineBytes {
			f.write(ctx, entries)
			entries, size = entries[:0:0], 0
		}
	}
	f.write(ctx, entries)
	if f.stale.caughtUp() && f.cfg.OnMissed != nil {
		f.cfg.OnMissed()
	}
}

func (f *Refresher) write(ctx context.Context, entries []Entry) {
	if len(entries) == 0 {
		return
	}
	refused := 0
	for i, err := range f.cfg.Redis.RefreshMany(ctx, entries) {
		f.written(entries[i].SessionID, err)
		if err != nil {
			refused++
		}
	}
	if refused == len(entries) { // out of memory, read-only: the others fare no better
		f.stale.pause(time.Now().Add(f.cfg.RetryAfter))
	}
}

func (f *Refresher) written(session string, err error) {
	if f.cfg.OnRefreshed != nil {
		f.cfg.OnRefreshed(session, err)
	}
	if err != nil {
		f.stale.retry(session, time.Now().Add(f.cfg.RetryAfter), true)
		return
	}
	f.stale.done(session)
}

func (f *Refresher) unread(session string, err error) {
	tries := f.stale.failed(session)
	wait := f.cfg.RetryAfter
	for range tries - 1 {
		if wait *= 2; wait >= f.cfg.RetryMax {
			wait = f.cfg.RetryMax
			break
		}
	}
	if tries == 1 {
		f.cfg.Logger.Warn("transcript cannot be read for the cache, trying again", "session", session, "error", err)
	}
	f.stale.retry(session, time.Now().Add(wait), false)
}
