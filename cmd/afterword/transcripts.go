package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/afterword-io/afterword/internal/gateway"
	"github.com/afterword-io/afterword/transcript"
)

// identityFile makes a folder a transcripts folder.
const identityFile = ".afterword"

// checkpointFile is where a replay that was interrupted has noted how far it came.
const checkpointFile = ".afterword-replay"

// lookEvery is how often a gateway looks for transcripts that are not there yet.
const lookEvery = 2 * time.Second

// errNoTranscripts says that this machine has no transcripts, or not yet.
var errNoTranscripts = errors.New("no transcripts on this machine")

// isTranscripts reports whether dir is a transcripts folder; what else there may be
// is for whoever opens it.
func isTranscripts(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, identityFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// dataDirError adds what to do about a folder that cannot be used.
func dataDirError(err error) error {
	var newer *transcript.SchemaError
	var errno syscall.Errno
	switch {
	case errors.As(err, &newer):
		return fmt.Errorf("%w: run the version that wrote it, or a newer one", err)
	case errors.As(err, &errno):
		return fmt.Errorf("%w: choose a folder that this user can write with --data-dir", err)
	}
	return err
}

// diskTrouble reports whether err is of a disk that is full, read-only or failing,
// which passes, rather than of a folder that is the wrong one.
func diskTrouble(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EIO)
}

// withTranscripts calls fn with the transcripts folder, opened for reading.
func withTranscripts(ctx context.Context, o storeOptions, fn func(context.Context, *transcript.Store) error) error {
	s, err := transcript.Open(transcript.Config{
		Dir: o.transcripts(), ReadOnly: true, FileTimeout: o.fileTimeout,
		Logger: slog.New(slog.DiscardHandler), // what goes wrong is returned
	})
	if err != nil {
		return fmt.Errorf("%w: give the folder that the consumer writes with --data-dir", err)
	}
	return errors.Join(fn(ctx, s), s.Close(context.WithoutCancel(ctx)))
}

// withWritableTranscripts is withTranscripts for writing into a folder that is there.
func withWritableTranscripts(ctx context.Context, o storeOptions, fn func(context.Context, *transcript.Store) error) error {
	if dir := o.transcripts(); !isTranscripts(dir) {
		return fmt.Errorf("%s is not a transcripts folder: give the folder that the consumer writes with --data-dir", dir)
	}
	s, err := transcript.Open(transcript.Config{Dir: o.transcripts(), FileTimeout: o.fileTimeout, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return dataDirError(err)
	}
	err = fn(ctx, s)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.fileTimeout)
	defer cancel()
	if cerr := s.Close(end); ctx.Err() == nil {
		err = errors.Join(err, cerr)
	}
	return err
}

// lateStore reads transcripts that may appear later: a gateway and the consumer of
// its machine start at the same time. Until then it has no session.
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
// than they do. It waits for a look that is under way, until that is late. Without
// transcripts it returns missing.
func (l *lateStore) wait(ctx context.Context, missing error) (*transcript.Store, error) {
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
	return nil, missing
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

// Read implements [gateway.Transcripts].
func (l *lateStore) Read(ctx context.Context, session string) (*transcript.Document, error) {
	s, err := l.wait(ctx, transcript.ErrNoSession)
	if err != nil {
		return nil, err
	}
	return s.Read(ctx, session)
}

// Recent implements [cache.Reader].
func (l *lateStore) Recent(ctx context.Context, session string, n int) (transcript.Recent, error) {
	s, err := l.wait(ctx, transcript.ErrNoSession)
	if err != nil {
		return transcript.Recent{}, err
	}
	return s.Recent(ctx, session, n)
}

// List implements [gateway.Store].
func (l *lateStore) List(ctx context.Context, prefix, cursor string, limit int) (transcript.Page, error) {
	s, err := l.wait(ctx, errNoTranscripts)
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

// either reads a transcript from the file, or else from the stream: a consumer
// may not have written it yet, or writes on another machine. A consumer may write
// turns in another order than they were stored in. So a session that was shown from the
// stream is shown from both, until its file has all of it: what was shown stays.
type either struct {
	file, stream gateway.Transcripts

	mu    sync.Mutex
	ahead map[string]bool // sessions of which the stream may have shown more than the file has
}

// maxAhead bounds these; past it some are forgotten.
const maxAhead = 10_000

func newEither(file, stream gateway.Transcripts) *either {
	return &either{file: file, stream: stream, ahead: make(map[string]bool)}
}

// Read implements [gateway.Transcripts].
func (e *either) Read(ctx context.Context, session string) (*transcript.Document, error) {
	doc, err := e.file.Read(ctx, session)
	missing := errors.Is(err, transcript.ErrNoSession)
	if err != nil && !missing {
		return nil, err
	}
	if !missing && !e.isAhead(session) {
		return doc, nil
	}
	stored, err := e.stream.Read(ctx, session)
	switch {
	case errors.Is(err, transcript.ErrNoSession):
		if missing {
			return nil, err
		}
		return doc, nil
	case err != nil:
		return nil, err
	case missing:
		e.note(session, true)
		return stored, nil
	}
	turns, err := stored.Turns()
	if err != nil {
		return nil, err
	}
	changed, err := doc.Merge(turns...)
	if err != nil {
		return nil, err
	}
	e.note(session, changed)
	return doc, nil
}

func (e *either) isAhead(session string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ahead[session]
}

func (e *either) note(session string, ahead bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !ahead {
		delete(e.ahead, session)
		return
	}
	for other := range e.ahead {
		if len(e.ahead) < maxAhead {
			break
		}
		delete(e.ahead, other)
	}
	e.ahead[session] = true
}
