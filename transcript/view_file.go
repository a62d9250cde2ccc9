package transcript

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
)

const (
	// pieceSize is how much of a document is read at a time: one bounded file operation.
	pieceSize = 128 << 10
	// viewMemory is what a view holds beside the turns that are not in the document: a
	// piece of that, and a buffer to write to.
	viewMemory = pieceSize + 64<<10
	// trailerSize is how much of a document's end is read at first for its last line.
	trailerSize = 4 << 10
)

// View returns the transcript of a session: what its document and its tail hold. It is Partial when the
// folder lacks turns ([Store.Unread]). It is [ErrNoSession] when there is neither, and [ErrPartial] too when the folder lacks turns; every other error means that the answer is not
// known, [ErrMemory] that there are too many readers now.
func (s *Store) View(ctx context.Context, session string) (*View, error) {
	var v *View
	var foreign bool
	held, err := s.withMemory(ctx, viewMemory, func(h *Held) error {
		var opened *View // an operation that is late must not touch ours; its file is closed with the garbage
		var other bool
		err := s.visit(ctx, "read", session, h, func(dir *os.Root, tail []Snapshot) (err error) {
			opened = &View{SessionID: session}
			if opened.Partial, err = s.lacks(); err != nil {
				return err
			}
			if opened.base, err = s.openBase(dir, session); err != nil {
				return err
			}
			if opened.base == nil || !opened.base.foreign {
				opened.add(tail)
				return nil
			}
			// Another layout: it is read whole.
			b := opened.base
			opened.base = nil
			defer b.close()
			if err := h.take(2 * b.size); err != nil {
				return err
			}
			data, err := readSize(b.file, b.size)
			if err != nil {
				return err
			}
			doc, err := ParseDocument(session, data)
			if err != nil {
				return named(err, b.name)
			}
			turns, err := doc.Turns()
			if err != nil {
				return err
			}
			other, opened.kept = doc.foreign, doc.kept
			opened.add(append(turns, tail...))
			return nil
		})
		if err == nil {
			v, foreign = opened, other
		}
		return err
	})
	if err == nil {
		v.held = []*Held{held}
		if err = v.ready(ctx, foreign); err != nil {
			v = nil
		}
	}
	if err != nil {
		s.corrupted(session, err)
	}
	return v, err
}

// Turn returns a turn of a session; ok is false when it is certainly not there.
func (s *Store) Turn(ctx context.Context, session, id string) (turn Snapshot, ok bool, err error) {
	v, err := s.View(ctx, session)
	if errors.Is(err, ErrNoSession) && !errors.Is(err, ErrPartial) {
		return turn, false, nil
	}
	if err != nil {
		return turn, false, err
	}
	defer v.Close()
	if turn, ok, err = v.Turn(ctx, id); err == nil && !ok && v.Partial {
		err = ErrPartial
	}
	return turn, ok, err
}

// base is a document in its file, of which the ends were read.
type base struct {
	trailer
	session string
	name    string
	size    int64
	at      int64  // where the last line begins
	end     int64  // of what the sum is of
	member  []byte // afterword's own
	foreign bool   // another layout; nothing of it was read
	file    *os.File
	read    func(ctx context.Context, data []byte, at int64) (int, error)
	close   func() error
}

// openBase opens the document of a session; nil is none. It is one file operation, made by the caller.
func (s *Store) openBase(dir *os.Root, session string) (*base, error) {
	name := Token(session) + documentSuffix
	f, info, err := openFile(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := &base{session: session, name: name, size: info.Size(), file: f, close: f.Close}
	if b.size <= pieceSize { // all of it at once
		data, err := readSize(f, b.size)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
		b.read = func(_ context.Context, into []byte, at int64) (int, error) {
			return bytes.NewReader(data).ReadAt(into, at)
		}
	} else {
		// Each piece is an operation of its own: the file may be long, and who reads slow.
		b.read = func(ctx context.Context, into []byte, at int64) (int, error) {
			var n atomic.Int64 // one that is late still sets it
			err := s.one(ctx, "read "+name, func() error {
				got, err := f.ReadAt(into, at)
				n.Store(int64(got))
				return err
			})
			if err != nil && err != io.EOF {
				return 0, err
			}
			return int(n.Load()), err
		}
	}
	if err := b.ends(session); err != nil {
		f.Close()
		return nil, named(err, name)
	}
	return b, nil
}

// direct reads without a bound of its own, for operations that have one.
func (b *base) direct() {
	b.read = func(_ context.Context, into []byte, at int64) (int, error) { return b.file.ReadAt(into, at) }
}

// ends reads the first and the last line.
func (b *base) ends(session string) error {
	first := make([]byte, min(b.size, trailerSize))
	if _, err := b.file.ReadAt(first, 0); err != nil && err != io.EOF {
		return err
	}
	first, _, _ = bytes.Cut(first, []byte{'\n'})
	if !bytes.HasPrefix(first, []byte(documentHead)) || !bytes.HasSuffix(first, []byte(messagesHead[1:])) {
		b.foreign = true
		return nil
	}
	if got, err := headSession(first); err != nil {
		return corrupt("%v", err)
	} else if got != session {
		return corrupt("it belongs to another session")
	}
	for length := min(b.size, trailerSize); ; length = min(b.size, 4*length) {
		last := make([]byte, length)
		if _, err := b.file.ReadAt(last, b.size-length); err != nil && err != io.EOF {
			return err
		}
		whole := bytes.LastIndexByte(last[:length-1], '\n') >= 0
		if !whole && length < b.size {
			continue
		}
		at, t, err := parseTrailer(last)
		if err != nil {
			return err
		}
		b.trailer = t
		b.at, b.end = b.size-length+int64(at), b.size-length+int64(t.summed)
		b.member = bytes.Clone(last[t.summed+len(ownHead) : length-2])
		return nil
	}
}

// lines calls fn with every message, in order. With check it reads on to the end, whatever fn
// makes of the messages, and fails unless the sum is right.
func (b *base) lines(ctx context.Context, held *Held, check bool, fn func(l *line) error) error {
	r := &lineReader{base: b, ctx: ctx, held: held, buf: make([]byte, min(pieceSize, max(b.size, 1)))}
	if check {
		r.sum = sha256.New()
	}
	if _, err := r.next(); err != nil { // the head
		return named(err, b.name)
	}
	n := 0
	for r.at() < b.at {
		raw, err := r.next()
		if err != nil {
			return named(err, b.name)
		}
		if r.at() < b.at {
			raw = bytes.TrimSuffix(raw, []byte{','})
		}
		n++
		l, ok := parseLine(raw)
		if !ok {
			return named(corrupt("message %d is not readable", n), b.name)
		}
		if err := fn(&l); err != nil {
			return named(err, b.name)
		}
	}
	if !check {
		return nil
	}
	if n != b.count {
		return named(corrupt("it holds %d messages and says %d", n, b.count), b.name)
	}
	if err := r.rest(); err != nil {
		return named(err, b.name)
	}
	if hex.EncodeToString(r.sum.Sum(nil)) != b.own.SHA256 {
		return named(corrupt("its sha256 differs"), b.name)
	}
	return nil
}

// copy writes the file as it is.
func (b *base) copy(ctx context.Context, w io.Writer) (done int64, err error) {
	buf := make([]byte, min(pieceSize, b.size))
	for done < b.size {
		n, err := b.read(ctx, buf[:min(int64(len(buf)), b.size-done)], done)
		if n == 0 {
			if err == nil || err == io.EOF {
				err = corrupt("it is cut short")
			}
			return done, named(err, b.name)
		}
		if n, err = w.Write(buf[:n]); err != nil {
			return done + int64(n), err
		}
		done += int64(n)
	}
	return done, nil
}

// lineReader reads the lines of a document one after the other.
type lineReader struct {
	*base
	ctx  context.Context
	held *Held
	buf  []byte
	from int // buf[from:to] was read and not yet given out
	to   int
	off  int64 // in the file, of what comes after buf[:to]
	sum  hash.Hash
}

// at is where the next line begins.
func (r *lineReader) at() int64 { return r.off - int64(r.to-r.from) }

// next returns a line without its newline, good until the next call.
func (r *lineReader) next() ([]byte, error) {
	for seen := 0; ; {
		if nl := bytes.IndexByte(r.buf[r.from+seen:r.to], '\n'); nl >= 0 {
			raw := r.buf[r.from : r.from+seen+nl]
			r.from += seen + nl + 1
			return raw, nil
		}
		seen = r.to - r.from
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// fill reads another piece behind what is left of the last.
func (r *lineReader) fill() error {
	if r.from > 0 {
		copy(r.buf, r.buf[r.from:r.to])
		r.from, r.to = 0, r.to-r.from
	}
	if r.to == len(r.buf) { // a line that is longer than the buffer
		if err := r.held.Grow(r.ctx, int64(len(r.buf))); err != nil {
			return err
		}
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	}
	n, err := r.read(r.ctx, r.buf[r.to:], r.off)
	if n == 0 {
		if err == nil || err == io.EOF {
			return corrupt("it is cut short")
		}
		return err
	}
	if left := r.end - r.off; r.sum != nil && left > 0 {
		r.sum.Write(r.buf[r.to : r.to+int(min(int64(n), left))])
	}
	r.to += n
	r.off += int64(n)
	return nil
}

// rest reads on to the end of what the sum is of.
func (r *lineReader) rest() error {
	for r.off < r.end {
		r.from, r.to = 0, 0
		if err := r.fill(); err != nil {
			return err
		}
	}
	return nil
}
