package cache

import (
	"slices"

	"github.com/afterword-io/afterword/transcript"
)

// overlay returns the last limit turns of the recent history that base and pending make together,
// and which of pending base shows itself, in this revision or a newer one. known is false when
// that takes turns that base does not have, such as those of another branch; turns are then
// what can be told without them. more says that the path may go on before them.
//
// A pending turn that base would not list (not answered, too old) is never among
// those: neither the list nor its version proves that base has it. Whoever keeps
// pending turns lets those go by age.
func overlay(base transcript.Recent, pending []transcript.Snapshot, limit int) (turns, shown []transcript.Snapshot, more, known bool) {
	if first := len(base.Turns) - limit; len(pending) == 0 {
		return append([]transcript.Snapshot{}, base.Turns[max(0, first):]...), nil, base.More || first > 0, true
	}
	l := layers{base: base, nodes: make([]node, 0, len(base.Turns)+len(pending)), plain: true, known: true}
	at := make(map[string]int, cap(l.nodes))
	for i := range base.Turns {
		at[base.Turns[i].ID] = i
		l.nodes = append(l.nodes, node{base.Turns[i], i})
		l.plain = l.plain && plain(&base.Turns[i])
	}
	for i := range pending {
		p := &pending[i]
		n, there := at[p.ID]
		switch {
		case !there:
			at[p.ID] = len(l.nodes)
			l.nodes = append(l.nodes, node{*p, beside})
		case p.Beats(&l.nodes[n].Snapshot):
			old := &l.nodes[n].Snapshot
			l.known = l.known && (n >= len(base.Turns) || p.HasParent == old.HasParent && p.Parent == old.Parent && p.Supersedes == old.Supersedes)
			*old = *p
		case n < len(base.Turns) && !p.Beats(&base.Turns[n]):
			shown = append(shown, *p)
		}
	}
	for i := range l.nodes {
		l.known = l.known && (!l.nodes[i].Answered() || l.newest(&l.nodes[i]))
	}
	for i := range base.Turns {
		// Without it the path may be another branch.
		l.known = l.known && (l.plain || l.nodes[i].Answered())
	}
	slices.SortFunc(l.nodes, func(a, b node) int { return a.Compare(&b.Snapshot) })
	turns, more = l.path(limit)
	return turns, shown, more, l.known
}

func plain(s *transcript.Snapshot) bool { return !s.HasParent && s.Supersedes == "" }

// beside is the place in base of a turn that is not there.
const beside = -1

type node struct {
	transcript.Snapshot
	base int
}

// layers are a path and turns that came after it was read, in transcript order. Of two turns of
// base the later follows the earlier; what the turns say about their parents decides about the others.
type layers struct {
	base  transcript.Recent
	nodes []node
	plain bool // no turn of base names a parent, so that no other branch lies between two of them
	known bool
}

// newest reports whether there is no newer state of a turn. Beside base there may be one that base has and does not list,
// redacted or failed, unless the turn is later than all of the transcript.
func (l *layers) newest(n *node) bool {
	v := l.base.Version
	return n.base != beside || n.Timestamp > v.LastTimestamp || n.Timestamp == v.LastTimestamp && n.ID > v.LastID
}

func (l *layers) path(limit int) (path []transcript.Snapshot, more bool) {
	path = []transcript.Snapshot{}
	known := true // of what is listed
	been := make(map[int]bool, len(l.nodes))
	for i := l.answeredBefore(len(l.nodes)); i >= 0 && !been[i]; i = l.parent(i) {
		been[i] = true
		if !l.nodes[i].Answered() {
			continue
		}
		if len(path) == limit {
			more = true
			break
		}
		if path = append(path, l.nodes[i].Snapshot); len(path) == limit {
			known = l.known
		}
	}
	more = more || !l.known
	if len(path) == limit {
		l.known = known
	}
	slices.Reverse(path)
	return path, more
}

// parent returns the place of a turn's parent, -1 for none; known is then false if there may be one.
func (l *layers) parent(i int) int {
	for range l.nodes {
		n := &l.nodes[i]
		l.known = l.known && l.newest(n)
		named := n.Parent
		if !n.HasParent {
			named = n.Supersedes
		}
		if named == "" {
			if n.HasParent {
				return -1
			}
			return l.answeredBefore(i)
		}
		p := slices.IndexFunc(l.nodes, func(o node) bool { return o.ID == named })
		switch {
		case p < 0:
			return l.beyond(i)
		case n.HasParent:
			return p
		}
		i = p
	}
	return -1 // they supersede each other
}

// beyond returns the place of the parent of a turn that names one that is not among the nodes. In base the
// parent is the turn before, by way of turns that base does not list, unless a turn beside base is one
// of those or comes between them, which it may wherever it is: clocks differ, so parents may be later.
func (l *layers) beyond(i int) int {
	n := &l.nodes[i]
	l.known = l.known && !slices.ContainsFunc(l.nodes, func(o node) bool { return o.base == beside })
	if n.base > 0 {
		before := l.base.Turns[n.base-1].ID
		return slices.IndexFunc(l.nodes, func(o node) bool { return o.ID == before })
	}
	l.known = l.known && !l.base.More
	return -1
}

// answeredBefore returns the newest answered turn before a place.
func (l *layers) answeredBefore(i int) int {
	p := -1
	older, younger := false, false // there are turns of base at p or before, and at i or after
	for k := range l.nodes {
		inBase := l.nodes[k].base != beside
		switch {
		case k >= i:
			younger = younger || inBase
		case l.nodes[k].Answered():
			p = k
		}
	}
	for k := 0; k <= p; k++ {
		older = older || l.nodes[k].base != beside
	}
	if !older { // there may be turns before base
		l.known = l.known && !l.base.More
	}
	if younger && l.nodes[i].base == beside { // and of other branches
		l.known = l.known && l.plain
	}
	return p
}
