package transcript

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/afterword-io/afterword/internal/record"
)

// Session is what a listing tells of a session.
type Session struct {
	ID        string
	UpdatedAt Instant // latest of timestamps and completed_at
	Turns     int
}

// Page is a part of a listing. Next is the cursor of what follows, "" at the end.
type Page struct {
	Sessions []Session
	Next     string
	Partial  bool // the folder lacks turns, and perhaps sessions: see [Store.Unread]
}

// List returns up to limit sessions whose id begins with prefix, in the order of
// their files, after cursor. Sessions that cannot be read are left out here and
// found by a walk.
func (s *Store) List(ctx context.Context, prefix, cursor string, limit int) (Page, error) {
	var page Page
	err := s.one(ctx, "list sessions", func() (err error) {
		page.Partial, err = s.lacks()
		return err
	})
	if err != nil {
		return Page{}, err // one that is late still sets page
	}
	err = s.names(ctx, cursor, func(name fileName) (bool, error) {
		if !mayHavePrefix(name.token, prefix) {
			return true, nil
		}
		if len(page.Sessions) == limit {
			page.Next = cursor
			return false, nil
		}
		cursor = name.shard + "/" + name.token
		doc, err := s.summary(ctx, name)
		if errors.Is(err, ErrNoSession) || SessionFault(err) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if strings.HasPrefix(doc.ID, prefix) {
			page.Sessions = append(page.Sessions, doc)
		}
		return true, nil
	})
	return page, err
}

// EachSession calls fn with every session whose id begins with prefix, in the order
// of their files. One that cannot be told comes with an error, and its token. It
// stops at fn's first error.
func (s *Store) EachSession(ctx context.Context, prefix string, fn func(token, session string, err error) error) error {
	return s.names(ctx, "", func(name fileName) (bool, error) {
		if !mayHavePrefix(name.token, prefix) {
			return true, nil
		}
		session, err := s.sessionOf(ctx, name)
		switch {
		case errors.Is(err, ErrNoSession) || err == nil && !strings.HasPrefix(session, prefix):
			return true, nil
		case err == nil || SessionFault(err):
			err = fn(name.token, session, err)
		}
		return err == nil, err
	})
}

// mayHavePrefix says whether the session of a token can begin with prefix. A
// hashed token has to be looked up.
func mayHavePrefix(token, prefix string) bool {
	want := Token(prefix)
	return prefix == "" || strings.HasPrefix(token, want) || strings.Contains(token, "=~") || strings.Contains(want, "=~")
}

// summary reads what a listing tells of one session.
func (s *Store) summary(ctx context.Context, name fileName) (Session, error) {
	session, err := s.sessionOf(ctx, name)
	if err != nil {
		return Session{}, err
	}
	sum := Session{ID: session}
	length := int64(endSize)
	held, err := s.withMemory(ctx, endSize, func(held *Held) error {
		_, err := s.view(ctx, "list", session, held, func(dir *os.Root, tail []Snapshot) (*Document, error) {
			doc, _, err := s.readEnd(dir, session, tail, PathQuery{}, &length, held)
			if err != nil {
				return nil, err
			}
			sum.UpdatedAt, sum.Turns = doc.updated, doc.count()
			return doc, nil
		})
		return err
	})
	if err != nil {
		return sum, err
	}
	held.Release()
	return sum, nil
}

// sessionOf returns the session of a file. A token that spells it out is
// decoded; a hashed one is looked up in the document or the tail.
func (s *Store) sessionOf(ctx context.Context, name fileName) (string, error) {
	if id, ok := sessionOfToken(name.token); ok {
		if CheckSessionID(id) != nil {
			return "", ErrNoSession // a stray file, not one of ours
		}
		return id, nil
	}
	var session string
	nameless := error(ErrNoSession)
	err := s.one(ctx, "identify "+name.token, func() error {
		dir, err := s.folder(name.token, false)
		if err != nil {
			return err
		}
		if data, err := readFile(dir, name.token+documentSuffix); err == nil {
			nameless = &CorruptError{Path: name.token + documentSuffix, Reason: "it does not tell whose it is"}
			if id, err := DocumentSession(data); err == nil && Token(id) == name.token {
				session = id
				return nil
			}
		}
		data, err := readFile(dir, name.token+tailSuffix)
		if errors.Is(err, fs.ErrNotExist) {
			return nameless
		}
		if err != nil {
			return err
		}
		_, err = record.Scan(data, func(payload []byte) error {
			if t, err := DecodeStored(payload); err == nil && Token(t.SessionID) == name.token {
				session = t.SessionID
				return fs.SkipAll
			}
			return nil
		}, func(*record.CorruptError) {})
		if session != "" {
			return nil
		}
		if len(bytes.TrimSpace(data)) > 0 && errors.Is(nameless, ErrNoSession) {
			nameless = &CorruptError{Path: name.token + tailSuffix, Reason: "it does not tell whose it is"}
		}
		return errors.Join(err, nameless)
	})
	if err != nil {
		return "", err // one that is late still sets session
	}
	return session, nil
}

// sessionOfToken decodes a token that spells its session out.
func sessionOfToken(token string) (string, bool) {
	id := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		if token[i] != '=' {
			id = append(id, token[i])
			continue
		}
		if i+2 >= len(token) || token[i+1] == '~' {
			return "", false
		}
		b, err := hex.DecodeString(token[i+1 : i+3])
		if err != nil {
			return "", false
		}
		id = append(id, b...)
		i += 2
	}
	return string(id), Token(string(id)) == token
}

// fileName names the files of a session, as found in its folder.
type fileName struct {
	shard    string // "." in the flat layout
	token    string
	document fs.DirEntry // nil when there is none
	tail     fs.DirEntry // nil when there is none
}

// foreign returns a [*ForeignFileError] when one of them is no regular file.
func (n *fileName) foreign() error {
	for _, e := range []fs.DirEntry{n.document, n.tail} {
		if e != nil && !e.Type().IsRegular() {
			return &ForeignFileError{Path: e.Name(), Kind: kindOf(e.Type())}
		}
	}
	return nil
}

// names calls fn for every session that has files, ordered by folder and token,
// after a cursor ("shard/token"). A folder is read at once: at most some
// hundredth of all sessions, or all in the flat layout.
func (s *Store) names(ctx context.Context, cursor string, fn func(fileName) (more bool, err error)) error {
	afterShard, afterToken, _ := strings.Cut(cursor, "/")
	for _, shard := range s.shardNames() {
		if shard < afterShard {
			continue
		}
		var entries []fs.DirEntry
		err := s.one(ctx, "list folder "+shard, func() (err error) {
			entries, err = s.readFolder(shard)
			return err
		})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, n := range sessionFiles(shard, entries) {
			if shard == afterShard && n.token <= afterToken {
				continue
			}
			if more, err := fn(n); err != nil || !more {
				return err
			}
		}
	}
	return nil
}

func (s *Store) shardNames() []string {
	if s.identity.Layout == Flat {
		return []string{"."}
	}
	names := make([]string, 256)
	for i := range names {
		names[i] = hex.EncodeToString([]byte{byte(i)})
	}
	return names
}

func (s *Store) readFolder(shard string) ([]fs.DirEntry, error) {
	p, err := s.here()
	if err != nil {
		return nil, err
	}
	dir := p.root
	if shard != "." {
		if dir, err = p.shards.named(shard, false); err != nil {
			return nil, err
		}
	}
	f, err := dir.Open(".")
	if errors.Is(err, fs.ErrPermission) {
		err = &FolderError{shard, err}
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// sessionFiles pairs documents with tails.
func sessionFiles(shard string, entries []fs.DirEntry) []fileName {
	byToken := make(map[string]*fileName, len(entries))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		for _, suffix := range []string{documentSuffix, tailSuffix} {
			token, ok := strings.CutSuffix(e.Name(), suffix)
			if !ok {
				continue
			}
			n := byToken[token]
			if n == nil {
				n = &fileName{shard: shard, token: token}
				byToken[token] = n
			}
			if suffix == documentSuffix {
				n.document = e
			} else {
				n.tail = e
			}
		}
	}
	names := make([]fileName, 0, len(byToken))
	for _, n := range byToken {
		names = append(names, *n)
	}
	slices.SortFunc(names, func(a, b fileName) int { return strings.Compare(a.token, b.token) })
	return names
}

// modified returns when a file changed last; zero when it is gone.
func modified(e fs.DirEntry) (time.Time, int64) {
	if e == nil {
		return time.Time{}, 0
	}
	info, err := e.Info()
	if err != nil {
		return time.Time{}, 0
	}
	return info.ModTime(), info.Size()
}
