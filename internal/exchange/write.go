package exchange

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// Names are the formats that [Append] writes.
func Names() (names []string) {
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

// Append appends a session as one conversation in a format: a JSON object. turns are all of the session, in
// order. A format in which messages follow each other in one line tells the branch that ends in
// the turn leaf, and has the other turns beside the messages; one with branches tells all of
// them, with that one as the active branch. leaf "" is the newest answered turn.
func Append(dst []byte, name, session string, turns []transcript.Snapshot, leaf string) ([]byte, error) {
	for _, f := range formats {
		if f.name == name {
			return f.append(dst, session, turns, leaf)
		}
	}
	return nil, fmt.Errorf("no format is called %q", name)
}

func (f *format) append(dst []byte, session string, snaps []transcript.Snapshot, leaf string) ([]byte, error) {
	a := &about{session: session}
	lines := transcript.NewLineage(snaps)
	end := lines.Newest()
	if leaf != "" {
		if end = lines.Place(leaf); end < 0 {
			return nil, fmt.Errorf("turn %s: %w", leaf, transcript.ErrNoTurn)
		}
	}
	told, err := lines.Branch(end)
	if err != nil {
		return nil, err
	}
	turns := make([]*turn, len(snaps))
	said := make([][]message, len(snaps))
	for i := range snaps {
		t, err := open(&snaps[i])
		if err != nil {
			return nil, err
		}
		turns[i] = t
		a.last = max(a.last, snaps[i].At())
		if !told[i] && !f.branches || snaps[i].Status == transcript.Redacted {
			continue
		}
		said[i] = t.messages()
		if f.split {
			var list []message
			for _, m := range said[i] {
				list = append(list, m.split()...)
			}
			said[i] = list
		}
	}
	if len(snaps) > 0 {
		a.first = snaps[0].Timestamp
	}
	a.leaf = link(inLine(lines.Forest(end), told, end), said, end)

	o := f.head(nil, a)
	var notes []jsontext.Value
	first := true
	for i, t := range turns {
		if len(said[i]) == 0 {
			notes = append(notes, closeObject(appendField(appendField(nil, "messages", number(0)), "turn", t.whole(nil))))
			continue
		}
		count := 0
		for k := range said[i] {
			if !first {
				o = append(o, ',')
			}
			var n int
			o, n = f.element(o, &said[i][k])
			count += n
			first = n == 0 && first
			if n == 0 && !first {
				o = o[:len(o)-1]
			}
		}
		notes = append(notes, closeObject(appendField(appendField(nil, "messages", number(count)), "turn", t.note())))
	}
	o = f.tail(o, a)
	o = appendField(o, notesName, closeObject(appendField(nil, "turns", array(notes))))
	return append(append(dst, o...), '}'), nil
}

// inLine puts the turns of a branch that no other follows, questions without an answer, between the turn
// that they follow and the next one of the path to end, so that a branch is one line.
func inLine(parents []int, told []bool, end int) []int {
	path := map[int]bool{}
	for i := end; i >= 0; i = parents[i] {
		path[i] = true
	}
	behind := map[int][]int{} // by the turn that they follow
	for i, in := range told {
		if in && !path[i] {
			behind[parents[i]] = append(behind[parents[i]], i)
		}
	}
	line := append([]int(nil), parents...)
	after := func(i, next int) { // i is of the path, and next the turn behind it, if there is one
		last := i
		for _, k := range behind[i] {
			if next < 0 || k < next {
				line[k], last = last, k
			}
		}
		if next >= 0 {
			line[next] = last
		}
	}
	next := -1
	for i := end; i >= 0; i = parents[i] {
		after(i, next)
		next = i
	}
	after(-1, next)
	return line
}

// link gives messages the ids of those before and after them, by the parents of their turns. A turn
// without messages is passed over. It returns the id of the message at which turn end, or else the last one, ends.
func link(parents []int, said [][]message, end int) (leaf string) {
	last := func(i int) *message {
		for i >= 0 && len(said[i]) == 0 {
			i = parents[i]
		}
		if i < 0 {
			return nil
		}
		return &said[i][len(said[i])-1]
	}
	for i := range said {
		before := last(parents[i])
		for k := range said[i] {
			m := &said[i][k]
			if before != nil {
				m.parent = before.id
				before.children = append(before.children, m.id)
			}
			before = m
		}
	}
	if end < 0 {
		end = len(said) - 1
	}
	if m := last(end); m != nil {
		return m.id
	}
	return ""
}
