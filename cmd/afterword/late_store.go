package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// lookEvery is how often a gateway looks for transcripts that are not there yet.
const lookEvery = 2 * time.Second

// lateStore reads transcripts that may appear later: a gateway and the consumer of
// its machine start at the same time. Until then it is no source: [transcript.ErrNoTranscripts].
type lateStore struct {
	cfg transcript.Config
	log *slog.Logger

	mu     sync.Mutex
	store  *transcript.Store
	looked time.Time     // when the last look ended
	under  chan struct{} // closed when the look that is under way ends; nil without one
	began  time.Time     // when that one began
	failed error         // of the last look: there is a folder, and it cannot be opened
	closed bool
}

// get returns the store, nil while it is not there. It never waits: the disk may hang.
func (l *lateStore) get() *transcript.Store {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lookAgain()
	return l.store
}

func (l *lateStore) lookAgain() {
	if l.store == nil && l.under == nil && !l.closed && time.Since(l.looked) >= lookEvery {
		l.under, l.began = make(chan struct{}), time.Now()
		go l.look()
	}
}

// wait is get for who has to know whether there are transcripts: the stream may hold less
// than they do. It waits for a look that is under way, until that is late.
func (l *lateStore) wait(ctx context.Context) (*transcript.Store, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lookAgain()
	if under := l.under; under != nil {
		left := l.cfg.FileTimeout - time.Since(l.began)
		l.mu.Unlock()
		late := time.NewTimer(left)
		select {
		case <-under:
		case <-late.C:
		case <-ctx.Done():
		}
		late.Stop()
		l.mu.Lock()
	}
	switch {
	case l.store != nil:
		return l.store, nil
	case l.failed != nil:
		return nil, l.failed
	case l.under != nil:
		return nil, fmt.Errorf("look for transcripts in %s: the disk does not answer", l.cfg.Dir)
	}
	return nil, transcript.ErrNoTranscripts
}

// look opens the folder once it is there.
func (l *lateStore) look() {
	s, err := l.open()
	switch {
	case err != nil:
		l.log.Warn("the transcripts cannot be opened", "error", err)
	case s != nil:
		l.log.Info("found the transcripts", "folder", l.cfg.Dir)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.under)
	l.under, l.looked, l.failed = nil, time.Now(), err
	if l.closed && s != nil {
		s.Close(context.Background()) // for reading only, so there is nothing to wait for
		return
	}
	l.store = s
}

// open opens the folder if it is there.
func (l *lateStore) open() (*transcript.Store, error) {
	if !isTranscripts(l.cfg.Dir) {
		return nil, nil
	}
	return transcript.Open(l.cfg)
}

// View implements [gateway.Transcripts].
func (l *lateStore) View(ctx context.Context, session string) (*transcript.View, error) {
	s, err := l.wait(ctx)
	if err != nil {
		return nil, err
	}
	return s.View(ctx, session)
}

// Turn implements [gateway.Turns].
func (l *lateStore) Turn(ctx context.Context, session, id string) (turn transcript.Snapshot, ok bool, err error) {
	s, err := l.wait(ctx)
	if err != nil {
		return turn, false, err
	}
	return s.Turn(ctx, session, id)
}

// Path implements [cache.Reader].
func (l *lateStore) Path(ctx context.Context, session string, q transcript.PathQuery) (transcript.Recent, error) {
	s, err := l.wait(ctx)
	if err != nil {
		return transcript.Recent{}, err
	}
	return s.Path(ctx, session, q)
}

// List implements [gateway.Store].
func (l *lateStore) List(ctx context.Context, prefix, cursor string, limit int) (transcript.Page, error) {
	s, err := l.wait(ctx)
	if err != nil {
		return transcript.Page{}, err
	}
	return s.List(ctx, prefix, cursor, limit)
}

// Close closes what was opened.
func (l *lateStore) Close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.store == nil {
		return nil
	}
	return l.store.Close(ctx)
}
