package transcript

import (
	"errors"
	"slices"
)

// ErrNoTurn says that a transcript does not have the turn that was asked for.
var ErrNoTurn = errors.New("no such turn")

// PathQuery asks for a part of a path through a transcript. A path leads from its leaf to the
// first turn of the conversation, from each turn to its parent: to the one that it names ("" names
// none), else to the parent of the turn that it supersedes, else to the newest answered turn before it in order. It
// lists answered turns only, and goes on through others. A parent that is missing, or that the
// path was at before, ends it.
type PathQuery struct {
	Limit  int    // most turns: the last ones, those next to the leaf; 0 is none
	Leaf   string // id of the turn that the path ends in; "" is the newest answered turn
	Before string // id of a turn of the path, or of one that was on it while it was answered: only those before it are listed

	// With is merged with what is stored.
	With []Snapshot
}

// errEarlier says that a path needs turns before those at hand.
var errEarlier = errors.New("the path needs earlier turns")

// turnList is the turns of a session in transcript order.
type turnList interface {
	Len() int
	id(i int) []byte
	at(i int) (Snapshot, error)
}

// snapshots are a turnList in memory.
type snapshots []Snapshot

func (s snapshots) Len() int                   { return len(s) }
func (s snapshots) id(i int) []byte            { return []byte(s[i].ID) }
func (s snapshots) at(i int) (Snapshot, error) { return s[i], nil }

// none is no index of a turn.
const none = -1

// walkPath finds a part of a path; its Version is not set. whole says that turns are all of the
// session. When they are only the last ones and do not suffice, it is errEarlier.
//
// Most paths are chains in which each turn follows the one before: of those no more is read than
// is listed. Any other takes time and memory in proportion to the turns.
func walkPath(turns turnList, whole bool, q PathQuery) (path Recent, err error) {
	if q.Limit <= 0 {
		return path, nil
	}
	w := walk{turns: turns, whole: whole}
	listed := q.Before == ""
	i, err := w.leaf(q)
	for err == nil && i != none {
		var s Snapshot
		if s, err = w.turns.at(i); err != nil {
			break
		}
		switch {
		case !listed:
			listed = s.ID == q.Before
		case s.Answered():
			path.Turns = append(path.Turns, s)
			if len(path.Turns) >= q.Limit {
				first := s.HasParent && s.Parent == "" || whole && i == 0 && s.plain()
				path.More = !first
				return path.ordered(), nil
			}
		}
		i, err = w.next(i, &s)
		listed = listed || w.passed(q.Before)
	}
	if err == nil && !listed {
		err = ErrNoTurn
	}
	return path.ordered(), err
}

// ordered turns a path that was found from its leaf on.
func (r Recent) ordered() Recent {
	slices.Reverse(r.Turns)
	return r
}

// plain reports whether the turn says nothing about its parent.
func (s *Snapshot) plain() bool { return !s.HasParent && s.Supersedes == "" }

// walk goes from turns to their parents.
type walk struct {
	turns turnList
	whole bool

	index map[string]int // of ids; made when a parent is not next to its child

	// The last step led past these turns, which are not answered: from one place up to the other.
	low, high int

	// A path that only went back cannot come to a turn again.
	trail []int        // where the path was
	been  map[int]bool // the same, once the path went forward
	prev  []int        // the newest answered turn before each, once the path went forward
}

// leaf returns where a path begins.
func (w *walk) leaf(q PathQuery) (int, error) {
	if q.Leaf == "" {
		return w.answeredBefore(w.turns.Len())
	}
	i, err := w.find(q.Leaf, w.turns.Len())
	if err == nil && i == none {
		err = ErrNoTurn
	}
	return i, err
}

// next returns where a path goes on after turn i, none at its end.
func (w *walk) next(i int, s *Snapshot) (int, error) {
	p, err := w.parent(i, s)
	if err != nil || p == none {
		return none, err
	}
	w.trail = append(w.trail, i)
	if w.been == nil && p >= i {
		w.been = make(map[int]bool, 2*len(w.trail))
		for _, t := range w.trail {
			w.been[t] = true
		}
	}
	if w.been[p] {
		return none, nil
	}
	if w.been != nil {
		w.been[p] = true
	}
	return p, nil
}

// parent returns the parent of turn i, none when it has none, names one that is missing, or supersedes
// itself by way of others.
func (w *walk) parent(i int, s *Snapshot) (p int, err error) {
	w.low, w.high = 0, 0
	var superseded Snapshot
	for hops := 0; ; hops++ {
		switch {
		case s.HasParent && s.Parent == "":
			return none, nil
		case s.HasParent:
			return w.find(s.Parent, i)
		case s.Supersedes == "":
			p, err = w.answeredBefore(i)
			w.low, w.high = p+1, i
			return p, err
		case hops > w.turns.Len():
			return none, nil
		}
		if i, err = w.find(s.Supersedes, i); err != nil || i == none {
			return none, err
		}
		if superseded, err = w.turns.at(i); err != nil {
			return none, err
		}
		s = &superseded
	}
}

// passed reports whether the last step led past a turn. A page may have ended there before the turn was redacted.
func (w *walk) passed(id string) bool {
	for n := w.low; n < w.high; n++ {
		if string(w.turns.id(n)) == id {
			return true
		}
	}
	return false
}

// nearby is how far before a turn its parent is looked for one by one.
const nearby = 8

// find returns the turn with an id, which is likely to be just before turn i.
func (w *walk) find(id string, i int) (int, error) {
	for n := i - 1; n >= max(0, i-nearby); n-- {
		if string(w.turns.id(n)) == id {
			return n, nil
		}
	}
	if w.index == nil {
		w.index = make(map[string]int, w.turns.Len())
		for n := range w.turns.Len() {
			w.index[string(w.turns.id(n))] = n
		}
	}
	if n, ok := w.index[id]; ok {
		return n, nil
	}
	if !w.whole {
		return none, errEarlier
	}
	return none, nil
}

// answeredBefore returns the newest answered turn before turn i.
func (w *walk) answeredBefore(i int) (int, error) {
	if w.been != nil && w.prev == nil { // the path may come by here often
		w.prev = make([]int, w.turns.Len()+1)
		w.prev[0] = none
		for n := range w.turns.Len() {
			s, err := w.turns.at(n)
			if err != nil {
				return none, err
			}
			if w.prev[n+1] = w.prev[n]; s.Answered() {
				w.prev[n+1] = n
			}
		}
	}
	if w.prev != nil {
		if w.prev[i] == none && !w.whole {
			return none, errEarlier
		}
		return w.prev[i], nil
	}
	for n := i - 1; n >= 0; n-- {
		s, err := w.turns.at(n)
		if err != nil {
			return none, err
		}
		if s.Answered() {
			return n, nil
		}
	}
	if !w.whole {
		return none, errEarlier
	}
	return none, nil
}
