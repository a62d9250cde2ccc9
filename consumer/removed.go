package consumer

import (
	"context"
	"fmt"
	"sync"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// removed is what a stream has removed: by age, size or count, or because somebody purged it.
type removed struct {
	nothing bool // since it was made, and it took no other one's place

	// What it has removed is all older than what it holds. Then every removed message has a sequence below
	// first, and every removed turn a timestamp of until at the latest.
	oldest bool
	first  uint64
	until  transcript.Instant
}

// removed asks the stream what it has removed. Asked after turns were read, the answer is about those too.
func (r *StreamReader) removed(ctx context.Context) (removed, error) {
	s := r.stream.Load()
	if s == nil { // gone meanwhile
		return removed{}, fmt.Errorf("read stream %s: it was looked up and is gone", stream.Turns)
	}
	rctx, cancel := context.WithTimeout(ctx, r.request)
	defer cancel()
	info, err := (*s).Info(rctx)
	if err != nil {
		r.stream.Store(nil)
		return removed{}, stream.ReadError(stream.Turns, err)
	}
	if info.Config.Mirror != nil { // it is being made anew, and does not have all yet
		return removed{}, nil
	}
	made := stream.Made(info)
	r.made.CompareAndSwap(nil, &made)
	if info.Config.Metadata[stream.MetaContinued] != "" || !r.made.Load().Equal(made) {
		return removed{}, nil
	}
	state := info.State
	return removed{
		nothing: stream.Whole(info),
		oldest:  state.Msgs > 0 && state.Msgs == state.LastSeq-state.FirstSeq+1, // an empty one has no first time
		first:   state.FirstSeq,
		until:   transcript.InstantOf(state.FirstTime.Add(transcript.MaxAhead)),
	}, nil
}

// maxBeginnings bounds the sessions of which a reader remembers where they begin; past it some are forgotten.
const maxBeginnings = 10_000

// beginnings are the sequences of the first turns of sessions that were read while the stream had
// removed nothing: what is removed later is known to be of others.
type beginnings struct {
	mu  sync.Mutex
	seq map[string]uint64
}

// whole reports whether all turns of a session are among those that were read from the stream, of which the first
// has that sequence.
func (b *beginnings) whole(session string, first uint64, gone removed) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !gone.nothing {
		seq, known := b.seq[session]
		return known && gone.oldest && seq >= gone.first
	}
	if b.seq == nil {
		b.seq = make(map[string]uint64)
	}
	for other := range b.seq {
		if len(b.seq) < maxBeginnings {
			break
		}
		delete(b.seq, other)
	}
	b.seq[session] = first
	return true
}
