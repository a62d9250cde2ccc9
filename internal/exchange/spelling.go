package exchange

import (
	"slices"

	"github.com/afterword-io/afterword/transcript"
)

// spelling collects the members of an element that have no place and resemble one that was looked for
// in the same object and is not there. A format has no list of all its members, and programs add to them.
type spelling struct {
	found []transcript.Misspelling
}

// check notes a member that has no place.
func (s *spelling) check(name string, absent []string) {
	if s == nil || slices.Contains(absent, name) { // it was put there
		return
	}
	if meant := transcript.Resembled(name, absent); meant != "" {
		if m := (transcript.Misspelling{Member: name, Meant: meant}); !slices.Contains(s.found, m) {
			s.found = append(s.found, m)
		}
	}
}

// spell begins to collect what is found in an object. By which names its format was recognised does not count.
func (c *Converter) spell(o *object) {
	c.spelt.found = nil
	o.spelt, o.absent = &c.spelt, nil
}

// tellMisspelt tells of what was found in an element, or in one of its conversations.
func (c *Converter) tellMisspelt() error {
	found := c.spelt.found
	c.spelt.found = nil
	if len(found) == 0 || c.Misspelt == nil {
		return nil
	}
	return c.Misspelt(found)
}
