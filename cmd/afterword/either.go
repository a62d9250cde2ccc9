package main

import (
	"context"
	"errors"
	"sync"

	"github.com/afterword-io/afterword/internal/gateway"
	"github.com/afterword-io/afterword/transcript"
)

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

// View implements [gateway.Transcripts].
func (e *either) View(ctx context.Context, session string) (*transcript.View, error) {
	v, err := e.file.View(ctx, session)
	missing := errors.Is(err, transcript.ErrNoTranscripts) || errors.Is(err, transcript.ErrNoSession)
	if err != nil && !missing {
		return nil, err
	}
	// Files that must have all turns have what the stream has removed.
	whole := err == nil && !v.Partial || err != nil && !errors.Is(err, transcript.ErrNoTranscripts) && !errors.Is(err, transcript.ErrPartial)
	if whole && !missing && !e.isAhead(session) {
		return v, nil
	}
	stored, err := e.stream.View(ctx, session)
	if errors.Is(err, transcript.ErrPartial) && whole {
		err = transcript.ErrNoSession
	}
	switch {
	case errors.Is(err, transcript.ErrNoSession), errors.Is(err, transcript.ErrPartial) && !missing:
		if missing {
			return nil, err
		}
		return v, nil
	case err != nil:
		if v != nil {
			v.Close()
		}
		return nil, err
	case missing:
		stored.Partial = stored.Partial && !whole
		e.note(session, true)
		return stored, nil
	}
	changed, err := v.Merge(ctx, stored)
	if err != nil {
		v.Close()
		return nil, err
	}
	v.Partial = v.Partial && stored.Partial
	e.note(session, changed)
	return v, nil
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
