package transcript

import (
	"bytes"
	"cmp"
	"slices"
)

// Document is the transcript of one session in memory: the winning snapshot of
// every turn, in order. It holds messages as encoded lines and decodes one only
// when it has to, so that merging a few turns into a long conversation costs
// little more than copying it.
type Document struct {
	SessionID string

	lines    []line
	revision int64   // sum of rev
	updated  Instant // latest of all timestamps and completed_at
	kept     []byte  // members of an adopted document that afterword has no use for; nil or a JSON object
	foreign  bool    // read from another layout, so it must be written anew
	partial  bool    // holds only the last turns: good for histories, never written
	before   int     // how many turns a partial document leaves out
}

// line is one message: its place in the order, and its encoding.
type line struct {
	at       Instant
	id       []byte // aliases raw
	raw      []byte
	from, to int // raw[from:to] is the session, which is not written
}

func (l *line) compare(o *line) int {
	return cmp.Or(cmp.Compare(l.at, o.at), bytes.Compare(l.id, o.id))
}

func lineOf(s *Snapshot) line {
	return line{at: s.Timestamp, id: s.raw[len(messageHead) : len(messageHead)+len(s.ID)], raw: s.raw, from: s.from, to: s.to}
}

// NewDocument returns the empty transcript of a session.
func NewDocument(session string) *Document { return &Document{SessionID: session} }

// Len is the number of turns.
func (d *Document) Len() int { return len(d.lines) }

// count is the number of turns, those of the part that was not read included.
func (d *Document) count() int { return len(d.lines) + d.before }

// Version tells this state of the transcript from others.
func (d *Document) Version() Version {
	v := Version{Revision: d.revision}
	if n := len(d.lines); n > 0 {
		v.LastTimestamp, v.LastID = d.lines[n-1].at, string(d.lines[n-1].id)
	}
	return v
}

// Turns decodes all turns, in order. They alias what the document was read from.
func (d *Document) Turns() ([]Snapshot, error) {
	turns := make([]Snapshot, len(d.lines))
	for i := range d.lines {
		s, err := decodeMessage(d.SessionID, d.lines[i].raw)
		if err != nil {
			return nil, err
		}
		turns[i] = s
	}
	return turns, nil
}

// id and at are how [walkPath] reads a document.
func (d *Document) id(i int) []byte { return d.lines[i].id }

func (d *Document) at(i int) (Snapshot, error) { return decodeMessage(d.SessionID, d.lines[i].raw) }

// Turn returns the turn with an id; ok is false when there is none.
func (d *Document) Turn(id string) (s Snapshot, ok bool, err error) {
	for i := range d.lines {
		if string(d.lines[i].id) == id {
			s, err = decodeMessage(d.SessionID, d.lines[i].raw)
			return s.clone(), err == nil, err
		}
	}
	return Snapshot{}, false, nil
}

// Recent returns the last n turns of the recent history.
func (d *Document) Recent(n int) (Recent, error) { return d.Path(PathQuery{Limit: n}) }

// Path returns a part of a path. It is [ErrNoTurn] when the transcript does not have the turn
// in which it is to end. q.With is not part of the Version.
func (d *Document) Path(q PathQuery) (Recent, error) {
	of := d
	if len(q.With) > 0 {
		with := *d
		with.lines = slices.Clone(d.lines)
		if _, err := with.Merge(q.With...); err != nil {
			return Recent{}, err
		}
		of = &with
	}
	path, err := walkPath(of, d.before == 0, q)
	if err != nil {
		return Recent{}, err
	}
	for i := range path.Turns {
		path.Turns[i] = path.Turns[i].clone()
	}
	path.Version = d.Version()
	return path, nil
}

// PathAfter is Path of a document that lacks no turn later than a moment, and may lack others; ok is false when
// those may make it another path.
func (d *Document) PathAfter(q PathQuery, at Instant) (path Recent, ok bool) {
	n, _ := slices.BinarySearchFunc(d.lines, at+1, func(l line, at Instant) int { return cmp.Compare(l.at, at) })
	later := *d
	later.lines, later.before, later.partial = d.lines[n:], n+1, true
	path, err := later.Path(q)
	path.Version = d.Version()
	return path, err == nil
}

// Merge takes snapshots of the document's session, in any order and any number
// of times, and reports whether anything changed.
func (d *Document) Merge(snaps ...Snapshot) (changed bool, err error) {
	winners := make(map[string]*Snapshot, len(snaps))
	for i := range snaps {
		s := &snaps[i]
		if held, ok := winners[s.ID]; !ok || s.Beats(held) {
			winners[s.ID] = s
		}
	}
	if len(winners) == 0 {
		return false, nil
	}
	recount := false
	kept := d.lines[:0:0] // nil until a line has to go
	for i := range d.lines {
		l := &d.lines[i]
		s, ok := winners[string(l.id)]
		if !ok {
			if kept != nil {
				kept = append(kept, *l)
			}
			continue
		}
		old, err := decodeMessage(d.SessionID, l.raw)
		if err != nil {
			return false, err
		}
		if !s.Beats(&old) {
			delete(winners, s.ID)
			if kept != nil {
				kept = append(kept, *l)
			}
			continue
		}
		// The old line goes; the winner finds its own place below.
		d.revision -= int64(old.Rev)
		recount = recount || old.At() == d.updated
		if kept == nil {
			kept = append(make([]line, 0, len(d.lines)), d.lines[:i]...)
		}
	}
	if kept == nil {
		kept = d.lines
	}
	if len(winners) == 0 {
		return false, nil
	}
	added := make([]line, 0, len(winners))
	for _, s := range winners {
		added = append(added, lineOf(s))
		d.revision += int64(s.Rev)
		d.updated = max(d.updated, s.At())
	}
	slices.SortFunc(added, func(a, b line) int { return a.compare(&b) })
	d.lines = mergeLines(kept, added)
	if recount && !d.partial {
		return true, d.recount()
	}
	return true, nil
}

// mergeLines merges two sorted lists; appending is the common case.
func mergeLines(a, b []line) []line {
	if len(a) == 0 || len(b) == 0 || a[len(a)-1].compare(&b[0]) < 0 {
		return append(a, b...)
	}
	out := make([]line, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0].compare(&b[0]) <= 0 {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// recount computes from all turns what Merge otherwise keeps up to date.
func (d *Document) recount() error {
	d.revision, d.updated = 0, 0
	for i := range d.lines {
		s, err := decodeMessage(d.SessionID, d.lines[i].raw)
		if err != nil {
			return err
		}
		d.revision += int64(s.Rev)
		d.updated = max(d.updated, s.At())
	}
	return nil
}

// MergeAll returns the transcript that snaps make.
func MergeAll(session string, snaps ...Snapshot) (*Document, error) {
	d := NewDocument(session)
	_, err := d.Merge(snaps...)
	return d, err
}
