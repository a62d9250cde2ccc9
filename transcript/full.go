package transcript

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/record"
)

// DefaultSessionMaxBytes is far more than people say: 1 GiB is a million turns of 1 KiB. Every
// fold writes the whole document, so a session without a limit stops all others.
const DefaultSessionMaxBytes = 1 << 30

// SessionFullError is a turn that a session has no room for. What is there already, and
// later revisions of it, are taken whatever the size: see [Store.AppendFull].
type SessionFullError struct {
	Size, Limit int64 // bytes, with the turn
}

func (e *SessionFullError) Error() string {
	return fmt.Sprintf("the session would be %d bytes long; at most %d are allowed (--session-max-bytes)", e.Size, e.Limit)
}

// fullSessions bounds how many sessions without room are remembered, and fullFor for how
// long: then another turn finds out whether there is room again.
const (
	fullSessions = 10_000
	fullFor      = 30 * time.Second
)

// fullSet remembers sessions that had no room for a turn.
type fullSet struct {
	mu    sync.Mutex
	known *simplelru.LRU[string, time.Time] // since when
}

func (f *fullSet) set(token string, full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case !full && f.known == nil:
	case !full:
		f.known.Remove(token)
	default:
		if f.known == nil {
			f.known, _ = simplelru.NewLRU[string, time.Time](fullSessions, nil) // fails only for a size under 1
		}
		f.known.Add(token, time.Now())
	}
}

// Full reports whether a session had no room for the last turn that came, as far as this
// process knows. It reads no file.
func (s *Store) Full(session string) bool {
	s.full.mu.Lock()
	defer s.full.mu.Unlock()
	if s.full.known == nil {
		return false
	}
	since, ok := s.full.known.Get(Token(session))
	return ok && time.Since(since) < fullFor
}

// room checks that more bytes beside a document and a tail of a size keep a session within its
// limit. What is in both counts twice until the tail is emptied.
func (s *Store) room(dir *os.Root, token string, tail, more int64) error {
	limit := s.cfg.SessionMaxBytes
	if limit < 0 {
		return nil
	}
	document, err := dir.Lstat(token + documentSuffix)
	size := tail + more
	switch {
	case err == nil:
		size += document.Size()
	case !errors.Is(err, unix.ENOENT):
		return err
	}
	if size > limit {
		return &SessionFullError{size, limit}
	}
	return nil
}

// AppendFull is Append for turns of one session that [SessionFullError] refused together. It takes those
// that are there already and later revisions of them, and of the others as many as there is
// room for, in their order. It returns the error of each; nil is durable.
func (s *Store) AppendFull(ctx context.Context, session string, turns []Snapshot) ([]error, error) {
	v, err := s.View(ctx, session)
	if errors.Is(err, ErrNoSession) {
		v, err = nil, nil
	}
	if err != nil {
		return nil, err
	}
	size := int64(0)
	var there map[string]Snapshot
	if v != nil {
		defer v.Close()
		size = v.Size()
		if there, err = v.find(ctx, turns); err != nil {
			return nil, err
		}
	}
	fits, errs := s.fitting(size, there, turns)
	s.full.set(Token(session), len(fits) < len(turns))
	var fresh []Snapshot
	for i := range fits {
		if old, ok := there[fits[i].ID]; !ok || fits[i].Beats(&old) {
			fresh = append(fresh, fits[i])
		}
	}
	if len(fresh) == 0 {
		return errs, nil
	}
	b := s.write(ctx, []Group{{SessionID: session, Turns: fresh}}, s.cfg.FileTimeout, true)
	return errs, cmp.Or(b.Sync(ctx), errors.Join(b.errs...))
}

// fitting sorts turns into those that a session of a size takes, and the errors of the others.
func (s *Store) fitting(size int64, there map[string]Snapshot, turns []Snapshot) (fits []Snapshot, errs []error) {
	errs = make([]error, len(turns))
	added := make(map[string]bool)
	for i := range turns {
		t := &turns[i]
		if _, ok := there[t.ID]; ok || added[t.ID] {
			fits = append(fits, *t)
			continue
		}
		more := int64(t.Size() + record.Overhead)
		if limit := s.cfg.SessionMaxBytes; limit >= 0 && size+more > limit {
			errs[i] = &SessionFullError{size + more, limit}
			continue
		}
		size += more
		added[t.ID] = true
		fits = append(fits, *t)
	}
	return fits, errs
}

// find returns those of some turns that a view has, by id.
func (v *View) find(ctx context.Context, turns []Snapshot) (map[string]Snapshot, error) {
	wanted := make(map[string]bool, len(turns))
	for i := range turns {
		wanted[turns[i].ID] = true
	}
	there := make(map[string]Snapshot)
	p := pass{View: v, ctx: ctx, fn: func(l *line) error {
		if !wanted[string(l.id)] {
			return nil
		}
		s, err := decodeMessage(v.SessionID, l.raw)
		there[s.ID] = s.clone()
		return err
	}}
	return there, p.run()
}

// fit leaves out the turns of a group that is about to be merged and that its session, which
// is held, has no room for. They are counted and named in the log.
func (s *Store) fit(r *replacement, g *Group) ([]Snapshot, error) {
	more := int64(0)
	for i := range g.Turns {
		more += int64(g.Turns[i].Size() + record.Overhead)
	}
	tail := int64(0)
	if r.tail != nil {
		info, err := r.tail.Stat()
		if err != nil {
			return nil, err
		}
		tail = info.Size()
	}
	err := s.room(r.dir, r.token, tail, more)
	var full *SessionFullError
	if !errors.As(err, &full) {
		return g.Turns, err
	}
	v, err := s.heldView(r, g.SessionID, tail)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	there, err := v.find(context.Background(), g.Turns)
	if err != nil {
		return nil, err
	}
	fits, errs := s.fitting(v.size, there, g.Turns)
	for i, err := range errs {
		if err != nil {
			s.stats.leftOut.Add(1)
			s.log.Warn("left out a turn that its session has no room for", "session", r.token, "turn", g.Turns[i].ID, "error", err)
		}
	}
	return fits, nil
}

// heldView is a view of a session that is held, read without further bounds.
func (s *Store) heldView(r *replacement, session string, tailSize int64) (*View, error) {
	v := &View{SessionID: session, held: []*Held{nil}}
	if r.tail != nil {
		data, err := readSize(r.tail, tailSize)
		if err != nil {
			return nil, err
		}
		turns, err := decodeTail(session, r.token, data)
		if err != nil {
			return nil, err
		}
		v.add(turns)
	}
	b, err := s.openBase(r.dir, session)
	if err != nil {
		return nil, err
	}
	if b != nil && b.foreign {
		b.close()
		doc, _, err := s.readDocument(r.dir, session)
		if err != nil {
			return nil, err
		}
		turns, err := doc.Turns()
		if err != nil {
			return nil, err
		}
		v.add(turns)
		return v, v.plan(context.Background())
	}
	if b != nil {
		b.direct()
		v.base = b
	}
	if err := v.plan(context.Background()); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}
