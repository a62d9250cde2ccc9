package consumer

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/afterword-io/afterword/transcript"
	"golang.org/x/sync/errgroup"
)

const (
	// A stream has the turns of all sessions in turn, and a document should be
	// written once. So messages are put apart by session into so many parts, each of
	// which fits into memory, and the parts are merged one by one. They are the folders in
	// which documents are, so that a sync has few of those to write.
	spillParts = 256
	// spillBuffer is how much of a part is gathered before it goes to the scratch:
	// 4 MiB in all parts.
	spillBuffer = 16 << 10
	// spillSlice is how much is merged at one time: several parts, or some of a large one.
	spillSlice = 4 << 20
	// spillHead is what stands before a message: its length, that of its token, its
	// sequence, and when it was stored.
	spillHead = 4 + 2 + 8 + 8
)

// spill puts messages apart by session.
type spill struct {
	store   *transcript.Store
	scratch *transcript.Scratch // nil until a buffer is full
	parts   [spillParts]part
	size    int64

	buffer, slice int // spillBuffer and spillSlice
}

type part struct {
	buffer []byte
	chunks []chunk // in the scratch, in order
}

type chunk struct {
	at     int64
	length int
}

func newSpill(store *transcript.Store) *spill {
	return &spill{store: store, buffer: spillBuffer, slice: spillSlice}
}

// add takes the payload of a message that came under a token and was stored at a time.
func (s *spill) add(ctx context.Context, token string, seq uint64, stored time.Time, data []byte) error {
	p := &s.parts[transcript.Shard(token)]
	length := spillHead + len(token) + len(data)
	if len(p.buffer) > 0 && len(p.buffer)+length > s.buffer {
		if err := s.flush(ctx, p); err != nil {
			return err
		}
	}
	var head [spillHead]byte
	binary.LittleEndian.PutUint32(head[0:], uint32(len(data)))
	binary.LittleEndian.PutUint16(head[4:], uint16(len(token)))
	binary.LittleEndian.PutUint64(head[6:], seq)
	binary.LittleEndian.PutUint64(head[14:], uint64(stored.UnixNano()))
	if p.buffer == nil {
		p.buffer = make([]byte, 0, s.buffer)
	}
	p.buffer = append(append(append(p.buffer, head[:]...), token...), data...)
	s.size += int64(length)
	return nil
}

func (s *spill) flush(ctx context.Context, p *part) (err error) {
	if s.scratch == nil {
		if s.scratch, err = s.store.Scratch(ctx); err != nil {
			return err
		}
	}
	at, err := s.scratch.Append(ctx, p.buffer)
	if err != nil {
		return err
	}
	p.chunks = append(p.chunks, chunk{at, len(p.buffer)})
	p.buffer = p.buffer[:0]
	if cap(p.buffer) > 2*s.buffer { // a long turn
		p.buffer = nil
	}
	return nil
}

func (s *spill) close() {
	if s.scratch != nil {
		s.scratch.Close()
	}
}

// spilled is a message of a part.
type spilled struct {
	token   []byte
	seq     uint64
	stored  time.Time
	payload []byte
}

// drain gives out all that was added, in slices that hold all messages of a
// session where they fit, several at a time, and is empty then. Small parts go
// together, because every slice costs syncs.
func (s *spill) drain(ctx context.Context, fn func(ctx context.Context, slice []spilled) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4 * runtime.GOMAXPROCS(0)) // most of them wait for the disk
	for from := 0; from < spillParts && gctx.Err() == nil; {
		to, size := from, 0
		for to < spillParts && (to == from || size+s.parts[to].size() <= s.slice) {
			size += s.parts[to].size()
			to++
		}
		parts := s.parts[from:to]
		from = to
		g.Go(func() error { return s.drainParts(gctx, parts, fn) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	s.size = 0
	if s.scratch == nil {
		return nil
	}
	return s.scratch.Empty(ctx)
}

func (p *part) size() int {
	n := len(p.buffer)
	for _, c := range p.chunks {
		n += c.length
	}
	return n
}

// drainParts gives out some parts, as one slice if they fit.
func (s *spill) drainParts(ctx context.Context, parts []part, fn func(ctx context.Context, slice []spilled) error) error {
	var data []byte
	give := func() error {
		slice, err := parseSpilled(data)
		data = nil
		if err != nil || len(slice) == 0 {
			return err
		}
		return fn(ctx, slice)
	}
	for i := range parts {
		p := &parts[i]
		for _, c := range p.chunks {
			if len(data) > 0 && len(data)+c.length > s.slice {
				if err := give(); err != nil {
					return err
				}
			}
			from := len(data)
			data = slices.Grow(data, c.length)[:from+c.length]
			if err := s.scratch.ReadAt(ctx, data[from:], c.at); err != nil {
				return err
			}
		}
		data = append(data, p.buffer...)
		p.buffer, p.chunks = p.buffer[:0], p.chunks[:0]
	}
	return give()
}

// parseSpilled returns the messages of a slice.
func parseSpilled(data []byte) (slice []spilled, err error) {
	for len(data) > 0 {
		if len(data) < spillHead {
			return nil, fmt.Errorf("the scratch file has changed: %d bytes are left over", len(data))
		}
		length, token := int(binary.LittleEndian.Uint32(data)), int(binary.LittleEndian.Uint16(data[4:]))
		seq := binary.LittleEndian.Uint64(data[6:])
		stored := time.Unix(0, int64(binary.LittleEndian.Uint64(data[14:])))
		data = data[spillHead:]
		if len(data) < token+length {
			return nil, fmt.Errorf("the scratch file has changed: a message of %d bytes has %d", token+length, len(data))
		}
		slice = append(slice, spilled{token: data[:token:token], seq: seq, stored: stored, payload: data[token : token+length : token+length]})
		data = data[token+length:]
	}
	return slice, nil
}
