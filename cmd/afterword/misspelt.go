package main

import (
	"fmt"
	"io"
	"regexp"
	"strconv"

	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

// maxMisspelt bounds how many misspelt names of members are told; others are counted.
const maxMisspelt = 50

// misspelt collects the members of an input that are unknown and resemble known ones, and those of
// transcripts that are left out: each name once, however many turns have it.
type misspelt struct {
	strict bool // such turns are refused instead
	names  []misspeltName
	index  map[transcript.Misspelling]int // into names
	others int                            // turns with further names

	doubts  []string // about the trees of conversations
	doubted int      // conversations
}

type misspeltName struct {
	transcript.Misspelling
	turns int
	first place
}

// elementNumber is left out of a name: it would make many of one.
var elementNumber = regexp.MustCompile(`\[\d+\]`)

// take notes the misspelt members of a turn. When they are refused, its error names the first one.
func (m *misspelt) take(d *transcript.Draft, at place) error {
	return m.note(d.Misspellings(), at)
}

// note notes misspelt members.
func (m *misspelt) note(list []transcript.Misspelling, at place) error {
	for _, found := range list {
		if m.strict {
			return found.Rule()
		}
		m.count(found, at)
	}
	return nil
}

// leave notes members of a transcript that are left out.
func (m *misspelt) leave(names []string, at place) {
	for _, name := range names {
		m.count(transcript.Misspelling{Member: name}, at)
	}
}

func (m *misspelt) count(found transcript.Misspelling, at place) {
	found.Member = elementNumber.ReplaceAllString(found.Member, "[]")
	found.Meant = elementNumber.ReplaceAllString(found.Meant, "[]")
	i, ok := m.index[found]
	switch {
	case ok:
		m.names[i].turns++
	case len(m.names) == maxMisspelt:
		m.others++
	default:
		if m.index == nil {
			m.index = make(map[transcript.Misspelling]int)
		}
		m.index[found] = len(m.names)
		m.names = append(m.names, misspeltName{found, 1, at})
	}
}

// doubt notes what is wrong with the tree of a conversation.
func (m *misspelt) doubt(what string) {
	if m.doubted++; len(m.doubts) < maxMisspelt {
		m.doubts = append(m.doubts, what)
	}
}

// print tells of them.
func (m *misspelt) print(w io.Writer) {
	for _, n := range m.names {
		if n.Meant == "" {
			fmt.Fprintf(w, "warning: member %s of transcripts has no place in turns and is left out: in %s, first in %s\n", strconv.QuoteToASCII(n.Member), plural.Of(n.turns, "transcript"), n.first)
			continue
		}
		fmt.Fprintf(w, "warning: member %s is unknown and resembles %s: in %s, first in %s\n", strconv.QuoteToASCII(n.Member), n.Meant, plural.Of(n.turns, "turn"), n.first)
	}
	for _, d := range m.doubts {
		fmt.Fprintf(w, "warning: %s\n", d)
	}
	if n := m.doubted - len(m.doubts); n > 0 {
		fmt.Fprintf(w, "warning: further conversations with such links: %d\n", n)
	}
	if m.others > 0 {
		fmt.Fprintf(w, "warning: further members that resemble known ones or are left out: in %s\n", plural.Of(m.others, "turn"))
	}
}
