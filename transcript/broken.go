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
	l, err := lineageOf(d, note)
	if err != nil {
		return 0, nil, err
	}
	for _, i := range cycles(l.parents, nil) {
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
