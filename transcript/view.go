package transcript

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
)

// View is the transcript of a session at one moment. Its document stays in its file, and
// is read again for everything that is asked for: a view holds buffers and the turns that
// the document does not have yet. The sum of the document was checked. It is
// for one goroutine, which closes it.
type View struct {
	SessionID string
	// Partial says that turns may be missing: it was read from a stream that has removed messages, or from a
	// folder that lacks turns.
	Partial bool

	base   *base // nil without a document
	kept   []byte
	sorted []*Snapshot // the winning turns beside the document, in order
	byID   map[string]*Snapshot
	lost   map[string]bool // ids of those that do not beat what the document has
	held   []*Held

	count    int
	revision int64
	updated  Instant
	size     int64
	tag      string
}

// NewView is a view of turns that are in memory, which held stands for. Without turns
// it is [ErrNoSession].
func NewView(ctx context.Context, session string, turns []Snapshot, held *Held) (*View, error) {
	v := &View{SessionID: session, held: []*Held{held}}
	v.add(turns)
	return v, v.ready(ctx, false)
}

// add takes turns beside the document.
func (v *View) add(turns []Snapshot) {
	if v.byID == nil {
		v.byID = make(map[string]*Snapshot, len(turns))
	}
	for i := range turns {
		s := &turns[i]
		if old := v.byID[s.ID]; old == nil || s.Beats(old) {
			v.byID[s.ID] = s
		}
	}
	v.sorted = v.sorted[:0]
	for _, s := range v.byID {
		v.sorted = append(v.sorted, s)
	}
	slices.SortFunc(v.sorted, func(a, b *Snapshot) int {
		return cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(a.ID, b.ID))
	})
}

// ready plans a new view, and closes it if that fails.
func (v *View) ready(ctx context.Context, foreign bool) error {
	err := v.plan(ctx)
	if err == nil && v.count == 0 && !foreign {
		if err = ErrNoSession; v.Partial {
			err = errUnreadSession
		}
	}
	if err != nil {
		v.Close()
	}
	return err
}

// Merge takes in the turns of another view, which has no document and is closed with
// this one. It reports whether that changed anything.
func (v *View) Merge(ctx context.Context, other *View) (changed bool, err error) {
	if other.base != nil {
		return false, errors.New("merge transcripts: both are in files")
	}
	v.held = append(v.held, other.held...)
	before := v.tag
	turns := make([]Snapshot, len(other.sorted))
	for i, s := range other.sorted {
		turns[i] = *s
	}
	v.add(turns)
	err = v.plan(ctx)
	return v.tag != before, err
}

// Close gives back what the view holds.
func (v *View) Close() error {
	for _, h := range v.held {
		h.Release()
	}
	v.held = nil
	if v.base == nil || v.base.close == nil {
		return nil
	}
	return v.base.close()
}

// Len is the number of turns.
func (v *View) Len() int { return v.count }

// Revision is the sum of their revisions.
func (v *View) Revision() int64 { return v.revision }

// Size is the length of the document in bytes.
func (v *View) Size() int64 { return v.size }

// Tag tells this document from every other one of its session, in 64 hex digits.
func (v *View) Tag() string { return v.tag }

// errEnough ends a pass early.
var errEnough = errors.New("enough")

// WriteTo writes the canonical bytes, as a fold would. It reads the document in pieces, so
// that a slow writer delays nothing else.
func (v *View) WriteTo(ctx context.Context, w io.Writer) (int64, error) {
	if v.base != nil && len(v.sorted) == 0 {
		return v.base.copy(ctx, w)
	}
	e := newEncoder(w)
	defer e.release()
	p := pass{View: v, ctx: ctx}
	err := p.encode(e)
	if err != nil {
		return e.out.n, err
	}
	n, _, err := e.end(v.updated, v.revision, v.kept)
	return n, err
}

// Each calls fn with the turns from index from up to to, in order. A turn is good until fn returns.
func (v *View) Each(ctx context.Context, from, to int, fn func(i int, s *Snapshot) error) error {
	i := -1
	p := pass{View: v, ctx: ctx, fn: func(l *line) error {
		i++
		switch {
		case i < from:
			return nil
		case i >= to:
			return errEnough
		}
		s, err := decodeMessage(v.SessionID, l.raw)
		if err != nil {
			return err
		}
		return fn(i, &s)
	}}
	return p.run()
}

// Index returns the place of a turn, -1 when there is none.
func (v *View) Index(ctx context.Context, id string) (at int, err error) {
	at = -1
	i := -1
	p := pass{View: v, ctx: ctx, fn: func(l *line) error {
		if i++; string(l.id) == id {
			at = i
			return errEnough
		}
		return nil
	}}
	return at, p.run()
}

// Turn returns the turn with an id; ok is false when there is none.
func (v *View) Turn(ctx context.Context, id string) (s Snapshot, ok bool, err error) {
	at, err := v.Index(ctx, id)
	if err != nil || at < 0 {
		return s, false, err
	}
	err = v.Each(ctx, at, at+1, func(_ int, found *Snapshot) error {
		s, ok = found.clone(), true
		return nil
	})
	return s, ok, err
}

// changed reports whether there is anything that the document does not have.
func (v *View) changed() bool { return len(v.lost) < len(v.sorted) }

// plan reads the document once, checks it, and finds out what the merged one says at its end. It
// goes through it again in three rare cases: a turn was counted that turns out to be
// older than the document's, the turn that was updated last was replaced, or a redacted turn carries text.
func (v *View) plan(ctx context.Context) error {
	v.lost = nil
	for recount := false; ; {
		e := newEncoder(io.Discard)
		p := pass{View: v, ctx: ctx, check: true, recount: recount}
		again, err := p.plan(e)
		e.release()
		if err != nil {
			return err
		}
		if !again {
			return nil
		}
		recount = p.recount
	}
}

// pass is one way through the turns of a view, in order.
type pass struct {
	*View
	ctx context.Context
	fn  func(l *line) error

	// For the pass that plans.
	check      bool // the document, to its end
	recount    bool
	again      bool
	replaced   int64   // revisions of lines that are replaced
	replacedAt Instant // when the latest of them changed
	latest     Instant // with recount: of all
}

func (p *pass) plan(e *encoder) (again bool, err error) {
	v := p.View
	if v.base != nil && len(v.sorted) == 0 { // as it is: nothing to write anew
		p.fn = func(*line) error { e.n++; return nil }
		if err := p.run(); err != nil || p.again {
			return p.again, err
		}
		v.count, v.revision, v.updated, v.size = e.n, v.base.own.Revision, v.base.updated, v.base.size
		v.tag = tagOf(v.base.member)
		return false, nil
	}
	if err := p.encode(e); err != nil || p.again {
		return p.again, err
	}
	v.revision, v.updated = -p.replaced, 0
	if v.base != nil {
		v.revision += v.base.own.Revision
		v.updated = v.base.updated
	}
	added := Instant(0)
	for _, s := range v.sorted {
		if !v.lost[s.ID] {
			v.revision += int64(s.Rev)
			added = max(added, s.At())
		}
	}
	switch {
	case p.recount:
		v.updated = p.latest
	case v.base != nil && p.replacedAt == v.updated && added < v.updated:
		p.recount = true
		return true, nil
	default:
		v.updated = max(v.updated, added)
	}
	v.count = e.n
	size, member, err := e.end(v.updated, v.revision, v.kept)
	v.size, v.tag = size, tagOf(member)
	return false, err
}

func tagOf(member []byte) string {
	sum := sha256.Sum256(member)
	return hex.EncodeToString(sum[:])
}

// encode writes everything but the end.
func (p *pass) encode(e *encoder) error {
	p.fn = func(l *line) error {
		if e.n == 0 {
			if err := e.begin(p.SessionID, l.at); err != nil {
				return err
			}
		}
		return e.message(l)
	}
	if err := p.run(); err != nil {
		return err
	}
	if e.n == 0 {
		return e.begin(p.SessionID, 0)
	}
	return nil
}

// run calls fn with every turn, and stops at its first error; errEnough is none.
func (p *pass) run() error {
	err := p.merge()
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (p *pass) merge() error {
	next := p.sorted
	if p.base != nil {
		var last line
		var id []byte // of last, whose own is overwritten
		err := p.base.lines(p.ctx, p.held[0], p.check, func(l *line) error {
			if last.compare(l) >= 0 && id != nil {
				return corrupt("a message is out of order")
			}
			id = append(id[:0], l.id...)
			last = line{at: l.at, id: id}
			replaced, err := p.replaces(l)
			if err != nil || replaced {
				return err
			}
			for len(next) > 0 {
				s := lineOf(next[0])
				if s.compare(l) >= 0 {
					break
				}
				if err := p.emit(next[0], &s); err != nil {
					return err
				}
				next = next[1:]
			}
			return p.emit(nil, l)
		})
		if err != nil {
			return err
		}
	}
	for _, s := range next {
		l := lineOf(s)
		if err := p.emit(s, &l); err != nil {
			return err
		}
	}
	return nil
}

// replaces reports whether a turn beside the document takes the place of a line of it.
func (p *pass) replaces(l *line) (bool, error) {
	s := p.byID[string(l.id)]
	bare, carries, err := bareOf(p.SessionID, l)
	if err != nil {
		return false, err
	}
	if carries {
		if s == nil || bare.Beats(s) {
			p.View.add([]Snapshot{bare.clone()}) // it takes the place of its line in the next pass
		}
		if p.check && !p.recount { // the document's updated_at may be that of what the line carries
			p.again, p.recount = true, true
		}
		p.replaced += int64(bare.Rev)
		return true, nil
	}
	if s == nil || p.lost[s.ID] {
		return false, nil
	}
	old, err := decodeMessage(p.SessionID, l.raw)
	if err != nil {
		return false, err
	}
	if s.Beats(&old) {
		p.replaced += int64(old.Rev)
		p.replacedAt = max(p.replacedAt, old.At())
		return true, nil
	}
	if p.lost == nil {
		p.View.lost = make(map[string]bool)
	}
	p.lost[s.ID] = true
	mine := lineOf(s)
	p.again = p.again || mine.compare(l) < 0 // it was taken for the winner already
	return false, nil
}

// emit passes a line on, of the document when s is nil.
func (p *pass) emit(s *Snapshot, l *line) error {
	if s != nil && p.lost[s.ID] {
		return nil
	}
	if p.recount {
		if s == nil {
			old, err := decodeMessage(p.SessionID, l.raw)
			if err != nil {
				return err
			}
			s = &old
		}
		p.latest = max(p.latest, s.At())
	}
	return p.fn(l)
}
