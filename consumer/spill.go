package consumer

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"runtime"

	"github.com/afterword-io/afterword/transcript"
	"golang.org/x/sync/errgroup"
)

const (
	// A stream has the turns of all sessions in turn, and a document should be
	// written once. So messages are put apart by session into so many parts, each of
	// which fits into memory, and the parts are merged one by one.
	spillParts = 256
	// spillBuffer is how much of a part is gathered before it goes to the scratch
	// file: 4 MiB in all parts.
	spillBuffer = 16 << 10
	// spillSlice is how much of a part is merged at one time. Parts have 4 MiB each
	// unless sessions are very uneven.
	spillSlice = 16 << 20
	// spillHead is what stands before a message: its length, that of its token, and
	// its sequence.
	spillHead = 4 + 2 + 8
)

// spill puts messages apart by session.
type spill struct {
	store   *transcript.Store
	scratch *transcript.Scratch // nil until a buffer is full
	seed    maphash.Seed
	parts   [spillParts]part
	size    int64

	buffer, slice int // spillBuffer and spillSlice
}

type part struct {
	buffer []byte
	chunks []chunk // in the scratch file, in order
}

type chunk struct {
	at     int64
	length int
}

func newSpill(store *transcript.Store) *spill {
	return &spill{store: store, seed: maphash.MakeSeed(), buffer: spillBuffer, slice: spillSlice}
}

// add takes the payload of a message that came under a token.
func (s *spill) add(ctx context.Context, token string, seq uint64, data []byte) error {
	p := &s.parts[maphash.String(s.seed, token)%spillParts]
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
	payload []byte
}

// drain gives out all that was added, in slices that hold all messages of a
// session where they fit, several at a time, and is empty then.
func (s *spill) drain(ctx context.Context, fn func(ctx context.Context, slice []spilled) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.GOMAXPROCS(0)) // half of them wait for the disk
	for i := range s.parts {
		p := &s.parts[i]
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return s.drainPart(gctx, p, fn) })
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

func (s *spill) drainPart(ctx context.Context, p *part, fn func(ctx context.Context, slice []spilled) error) error {
	for chunks, last := p.chunks, false; !last; {
		n, size := 0, 0
		for n < len(chunks) && (n == 0 || size+chunks[n].length <= s.slice) {
			size += chunks[n].length
			n++
		}
		some := chunks[:n]
		chunks = chunks[n:]
		last = len(chunks) == 0
		data := make([]byte, 0, size+len(p.buffer))
		for _, c := range some {
			from := len(data)
			data = data[:from+c.length]
			if err := s.scratch.ReadAt(ctx, data[from:], c.at); err != nil {
				return err
			}
		}
		if last {
			data = append(data, p.buffer...)
		}
		slice, err := parseSpilled(data)
		if err != nil {
			return err
		}
		if len(slice) > 0 {
			if err := fn(ctx, slice); err != nil {
				return err
			}
		}
	}
	p.buffer, p.chunks = p.buffer[:0], p.chunks[:0]
	return nil
}

// parseSpilled returns the messages of a slice.
func parseSpilled(data []byte) (slice []spilled, err error) {
	for len(data) > 0 {
		if len(data) < spillHead {
			return nil, fmt.Errorf("the scratch file has changed: %d bytes are left over", len(data))
		}
		length, token := int(binary.LittleEndian.Uint32(data)), int(binary.LittleEndian.Uint16(data[4:]))
		seq := binary.LittleEndian.Uint64(data[6:])
		data = data[spillHead:]
		if len(data) < token+length {
			return nil, fmt.Errorf("the scratch file has changed: a message of %d bytes has %d", token+length, len(data))
		}
		slice = append(slice, spilled{token: data[:token:token], seq: seq, payload: data[token : token+length : token+length]})
		data = data[token+length:]
	}
	return slice, nil
}
