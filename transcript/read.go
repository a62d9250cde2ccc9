package transcript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// tornReads is how often a reader without the lock looks again at a tail that
	// does not check: it may have been emptied and refilled under its eyes.
	tornReads = 3
	// endSize is how much of a document's end is read at first for its last turns.
	endSize = 32 << 10
)

// Read returns the merged transcript of a session: what its document and its
// tail hold, whole in memory and outside the bound of [Config].Memory: services use [Store.View].
// It is [ErrNoSession] when there is neither, and [ErrPartial] too when the folder lacks turns ([Store.Unread]);
// every other error means that the answer is not known.
func (s *Store) Read(ctx context.Context, session string) (*Document, error) {
	return s.view(ctx, "read", session, nil, func(dir *os.Root, tail []Snapshot) (*Document, error) {
		doc, _, err := s.readDocument(dir, session)
		if err != nil {
			return nil, err
		}
		_, err = doc.Merge(tail...)
		return doc, err
	})
}

// Recent returns the last n turns of a session's recent history. Errors are those of Read.
func (s *Store) Recent(ctx context.Context, session string, n int) (Recent, error) {
	return s.Path(ctx, session, PathQuery{Limit: n})
}

// Path returns a part of a path through a session. It reads the tail and so much of the
// document's end as the path needs. Errors are those of Read, [ErrMemory] and [ErrNoTurn]; the last is
// [ErrPartial] too when the folder lacks turns.
func (s *Store) Path(ctx context.Context, session string, q PathQuery) (Recent, error) {
	var path Recent
	length := int64(endSize)
	held, err := s.withMemory(ctx, endSize, func(held *Held) error {
		_, err := s.view(ctx, "read history of", session, held, func(dir *os.Root, tail []Snapshot) (doc *Document, err error) {
			if doc, path, err = s.readEnd(dir, session, tail, q, &length, held); err != nil && !errors.Is(err, ErrNoTurn) {
				return doc, err
			}
			lacks, lerr := s.lacks()
			if path.Partial = lacks; lacks && err != nil {
				err = fmt.Errorf("%w: %w", err, ErrPartial)
			}
			return doc, errors.Join(err, lerr)
		})
		return err
	})
	if err != nil {
		return Recent{}, err
	}
	held.Return(ctx, path.Turns) // they are copies
	return path, nil
}

// view calls base with the tail of a session, to be merged into its document.
func (s *Store) view(ctx context.Context, op, session string, held *Held, base func(dir *os.Root, tail []Snapshot) (*Document, error)) (*Document, error) {
	var doc *Document
	err := s.visit(ctx, op, session, held, func(dir *os.Root, tail []Snapshot) (err error) {
		if doc, err = base(dir, tail); err != nil {
			return err
		}
		if doc.Len() == 0 && !doc.foreign {
			return s.noSession()
		}
		return nil
	})
	if err != nil {
		s.corrupted(session, err)
		return nil, err
	}
	return doc, nil
}

// noSession is that there is nothing of a session, as far as this folder can know. It is part of a file operation.
func (s *Store) noSession() error {
	switch lacks, err := s.lacks(); {
	case err != nil:
		return err
	case lacks:
		return errUnreadSession
	}
	return ErrNoSession
}

// visit calls fn with the tail of a session, as one file operation.
// The tail is read first: the other way round, a fold in between would hide turns.
func (s *Store) visit(ctx context.Context, op, session string, held *Held, fn func(dir *os.Root, tail []Snapshot) error) error {
	if err := CheckSessionID(session); err != nil {
		return err
	}
	token := Token(session)
	err := s.one(ctx, op+" session "+token, func() error {
		dir, err := s.folder(token, false)
		if errors.Is(err, fs.ErrNotExist) {
			return s.noSession()
		}
		if err != nil {
			return err
		}
		var tail []Snapshot
		for try := 0; try < tornReads; try++ {
			if tail, err = s.readTail(dir, session, token, held); err == nil {
				break
			}
		}
		if err != nil {
			return err
		}
		return fn(dir, tail)
	})
	if err != nil {
		err = s.blame(token, err)
	}
	return err
}

// readTail reads the tail of a session; a missing one is empty.
func (s *Store) readTail(dir *os.Root, session, token string, held *Held) ([]Snapshot, error) {
	f, info, err := openFile(dir, token+tailSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := held.take(2 * info.Size()); err != nil { // the bytes, and what is kept of each turn
		return nil, err
	}
	data, err := readSize(f, info.Size())
	if err != nil {
		return nil, err
	}
	return decodeTail(session, token, data)
}

// readDocument reads a document whole; a missing one is an empty transcript.
func (s *Store) readDocument(dir *os.Root, session string) (*Document, int64, error) {
	name := Token(session) + documentSuffix
	data, err := readFile(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return NewDocument(session), 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	doc, err := ParseDocument(session, data)
	return doc, int64(len(data)), named(err, name)
}

// named puts the file's name into an error about its content.
func named(err error, name string) error {
	var bad *CorruptError
	if errors.As(err, &bad) {
		return &CorruptError{Path: name, Reason: bad.Reason}
	}
	var newer *SchemaError
	if errors.As(err, &newer) {
		return &SchemaError{Path: name, Schema: newer.Schema}
	}
	return err
}

func readFile(dir *os.Root, name string) ([]byte, error) {
	f, info, err := openFile(dir, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readSize(f, info.Size())
}

// readSize reads a file from its beginning up to a size, or less if it has been
// emptied meanwhile.
func readSize(f *os.File, size int64) ([]byte, error) {
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if err != nil && err != io.EOF {
		return nil, err
	}
	return data[:n], nil
}

// readEnd reads so much of a document's end that it has the path, and everything the tail may
// have a newer snapshot of, and merges the tail. The document it returns holds only that end, with
// the version of the whole. It begins with so much, and says how much it came to: when it has to wait for memory, it need
// not begin anew.
func (s *Store) readEnd(dir *os.Root, session string, tail []Snapshot, q PathQuery, length *int64, held *Held) (*Document, Recent, error) {
	name := Token(session) + documentSuffix
	f, info, err := openFile(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return mergePath(NewDocument(session), tail, q)
	}
	if err != nil {
		return nil, Recent{}, err
	}
	defer f.Close()
	oldest := maxInstant
	for i := range tail {
		oldest = min(oldest, tail[i].Timestamp)
	}
	for i := range q.With {
		oldest = min(oldest, q.With[i].Timestamp)
	}
	size := info.Size()
	for ; *length < size; *length *= 2 {
		if err := held.take(*length); err != nil { // those before it are garbage that may still be there
			return nil, Recent{}, err
		}
		data := make([]byte, *length)
		if _, err := f.ReadAt(data, size-*length); err != nil {
			return nil, Recent{}, fmt.Errorf("read the end of %s: %w", name, err)
		}
		doc, err := parseEnd(session, data)
		if err != nil {
			break // another layout, or corrupt: reading all of it will tell
		}
		if doc.Len() == 0 || doc.lines[0].at >= oldest {
			continue
		}
		doc, path, err := mergePath(doc, tail, q)
		if !errors.Is(err, errEarlier) {
			return doc, path, named(err, name)
		}
	}
	if err := held.take(2 * size); err != nil {
		return nil, Recent{}, err
	}
	data, err := readSize(f, size)
	if err != nil {
		return nil, Recent{}, fmt.Errorf("read %s: %w", name, err)
	}
	doc, err := ParseDocument(session, data)
	if err != nil {
		return nil, Recent{}, named(err, name)
	}
	doc, path, err := mergePath(doc, tail, q)
	return doc, path, named(err, name)
}

func mergePath(doc *Document, tail []Snapshot, q PathQuery) (*Document, Recent, error) {
	if _, err := doc.Merge(tail...); err != nil {
		return nil, Recent{}, err
	}
	if doc.Len() == 0 {
		return doc, Recent{Version: doc.Version()}, nil // the caller says that there is no session
	}
	path, err := doc.Path(q)
	if err != nil || !doc.partial {
		return doc, path, err
	}
	for i := range path.Turns { // no sum vouches for an end alone
		if !jsontext.Value(path.Turns[i].raw).IsValid() {
			return nil, Recent{}, corrupt("message %s is not readable", path.Turns[i].ID)
		}
	}
	return doc, path, nil
}

// parseEnd reads the last messages of a document from its last bytes. The sum is
// of the whole document and cannot be checked here.
func parseEnd(session string, data []byte) (*Document, error) {
	at, t, err := parseTrailer(data)
	if err != nil {
		return nil, err
	}
	d := NewDocument(session)
	d.updated, d.revision, d.partial = t.updated, t.own.Revision, true
	first := bytes.IndexByte(data[:at], '\n') + 1 // the line before it is cut
	if err := d.parseLines(data[first:at]); err != nil {
		return nil, err
	}
	d.before = t.count - len(d.lines)
	return d, nil
}
