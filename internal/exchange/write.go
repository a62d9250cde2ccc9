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

// Append appends a session as one conversation in a format: a JSON object.
func Append(dst []byte, name, session string, turns []transcript.Snapshot) ([]byte, error) {
	for _, f := range formats {
		if f.name == name {
			return f.append(dst, session, turns)
		}
	}
	return nil, fmt.Errorf("no format is called %q", name)
}

func (f *format) append(dst []byte, session string, snaps []transcript.Snapshot) ([]byte, error) {
	a := &about{session: session}
	turns := make([]*turn, len(snaps))
	said := make([][]message, len(snaps))
	for i := range snaps {
		t, err := open(&snaps[i])
		if err != nil {
			return nil, err
		}
		turns[i], said[i] = t, t.messages()
		if f.split {
			var list []message
			for _, m := range said[i] {
				list = append(list, m.split()...)
			}
			said[i] = list
		}
		a.last = max(a.last, snaps[i].At())
	}
	if len(snaps) > 0 {
		a.first = snaps[0].Timestamp
	}
	a.leaf = link(turns, said)

	o := f.head(nil, a)
	var notes []jsontext.Value
	first := true
	for i, t := range turns {
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

// link gives messages the ids of those before and after them: a turn follows its parent, as a recent
// history has it. It returns the id of the message at which the newest answered turn ends.
func link(turns []*turn, said [][]message) (leaf string) {
	parents := make(map[string]string) // turn to turn
	byID := make(map[string]int)
	newest := ""
	for i, t := range turns {
		parent, named := t.member("parent")
		if !named {
			if before, ok := t.member("supersedes"); ok {
				parent = parents[before]
			} else {
				parent = newest
			}
		}
		parents[t.id], byID[t.id] = parent, i
		if t.status != "pending" && t.status != "failed" && t.status != "redacted" && (t.assistant != "" || len(t.calls) > 0) {
			newest = t.id
		}
	}
	last := func(id string) *message {
		if i, ok := byID[id]; ok && len(said[i]) > 0 {
			return &said[i][len(said[i])-1]
		}
		return nil
	}
	for i, t := range turns {
		before := last(parents[t.id])
		for k := range said[i] {
			m := &said[i][k]
			if before != nil && before != m {
				m.parent = before.id
				before.children = append(before.children, m.id)
			}
			before = m
		}
	}
	if m := last(newest); m != nil {
		return m.id
	}
	if n := len(turns); n > 0 {
		if m := last(turns[n-1].id); m != nil {
			return m.id
		}
	}
	return ""
}

func (t *turn) member(name string) (text string, ok bool) {
	for _, f := range t.members {
		if f.name == name && f.value.Kind() == '"' {
			return unquote(f.value), true
		}
	}
	return "", false
}
