package transcript

import (
	"bytes"
	"fmt"
)

// Broken is a turn at which every path that leads through it ends before its first turn.
type Broken struct {
	SessionID string `json:"session_id"`
	Turn      string `json:"turn"`
	// Missing is the id that the turn names as its parent, or as what it supersedes, and that the
	// transcript does not have. It is "" for the first turn, in order, of a cycle.
	Missing string `json:"missing,omitempty"`
}

// String says what is wrong with the turn.
func (b Broken) String() string {
	if b.Missing != "" {
		return fmt.Sprintf("turn %s follows or supersedes turn %s, which is missing", b.Turn, b.Missing)
	}
	return fmt.Sprintf("turn %s follows itself by way of what it names", b.Turn)
}

// Broken returns how many turns end paths, and the first most of them, in order of the turns with
// missing ones before those of cycles. A turn that follows one of them is not counted.
func (d *Document) Broken(most int) (count int, first []Broken, err error) {
	if !d.branches() {
		return 0, nil, nil
	}
	note := func(i int, missing string) {
		if count++; len(first) < most {
			first = append(first, Broken{d.SessionID, string(d.lines[i].id), missing})
		}
	}
	index := make(map[string]int, len(d.lines))
	for i := range d.lines {
		index[string(d.lines[i].id)] = i
	}
	// Of each turn its parent, or that its parent is that of another.
	parents, superseded := make([]int, len(d.lines)), make([]int, len(d.lines))
	answered := none
	for i := range d.lines {
		parents[i], superseded[i] = none, none
		s, err := d.at(i)
		if err != nil {
			return 0, nil, err
		}
		to, named := &parents[i], s.Parent
		if !s.HasParent {
			to, named = &superseded[i], s.Supersedes
		}
		if n, ok := index[named]; ok {
			*to = n
		} else if named != "" {
			note(i, named)
		} else if !s.HasParent {
			parents[i] = answered
		}
		if s.Answered() {
			answered = i
		}
	}
	// A turn that supersedes others in a circle has no parent; those that lead there have none either.
	for _, i := range cycles(superseded, func(i, of int) {
		parents[i] = parents[of]
	}) {
		note(i, "")
	}
	for _, i := range cycles(parents, nil) {
		note(i, "")
	}
	return count, first, nil
}

// branches reports whether a turn may name another one.
func (d *Document) branches() bool {
	for i := range d.lines {
		if raw := d.lines[i].raw; bytes.Contains(raw, []byte(`"parent":`)) || bytes.Contains(raw, []byte(`"supersedes":`)) {
			return true
		}
	}
	return false
}

// cycles returns the lowest place of each cycle of a graph in which next leads from each place to
// one other or to none. inherit is called with each place that leads on to another, that one first.
func cycles(next []int, inherit func(i, of int)) (lowest []int) {
	seen := make([]int, len(next)) // in which round, from 1 on
	var way []int
	for start := range next {
		way = way[:0]
		i := start
		for ; i != none && seen[i] == 0; i = next[i] {
			seen[i] = start + 1
			way = append(way, i)
		}
		if i != none && seen[i] == start+1 { // start is the lowest place that leads here
			low := i
			for n := next[i]; n != i; n = next[n] {
				low = min(low, n)
			}
			lowest = append(lowest, low)
		}
		if inherit == nil {
			continue
		}
		for k := len(way) - 1; k >= 0; k-- {
			if of := next[way[k]]; of != none {
				inherit(way[k], of)
			}
		}
	}
	return lowest
}
