package cache

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// Reader reads a part of a path through a transcript, from files or from the stream, and the
// version of the whole transcript. [transcript.ErrNoSession] says that there is none,
// [transcript.ErrNoTurn] that it does not have the leaf, and [transcript.ErrNoTranscripts] that there is no such
// source here. Every other error means that nobody knows; in particular, what could not be read whole
// and in time is never an empty history.
type Reader interface {
	Path(ctx context.Context, session string, q transcript.PathQuery) (transcript.Recent, error)
}

// ErrLate says that a reader did not answer in time.
var ErrLate = errors.New("no answer in time")

// boundedReader bounds a reader in time, even if it does not return, and in
// number, so that reads of a hung disk do not pile up.
type boundedReader struct {
	reader  Reader
	timeout time.Duration
	slots   chan struct{}
	late    atomic.Uint64
}

func newBoundedReader(r Reader, timeout time.Duration, slots int) *boundedReader {
	return &boundedReader{reader: r, timeout: timeout, slots: make(chan struct{}, slots)}
}

func (b *boundedReader) Path(ctx context.Context, session string, q transcript.PathQuery) (transcript.Recent, error) {
	rec, err := bounded(ctx, b.timeout, func(ctx context.Context) (transcript.Recent, error) {
		select {
		case b.slots <- struct{}{}:
		case <-ctx.Done():
			return transcript.Recent{}, context.Cause(ctx)
		}
		defer func() { <-b.slots }()
		return b.reader.Path(ctx, session, q)
	})
	switch {
	case err == nil:
		return rec, nil
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, transcript.ErrLate):
		b.late.Add(1)
		return transcript.Recent{}, fmt.Errorf("%w: %w", ErrLate, err)
	}
	return transcript.Recent{}, err
}
