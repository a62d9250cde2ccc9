package exchange

import "github.com/go-json-experiment/json/jsontext"

// bond is a place in the tree of an export, with a message or without.
type bond struct {
	id, parent string // parent "" is none
	at         string // of the member that names the parent
}

// checkLinks doubts parents that are not there or form a circle, and an end of the active branch that is not there.
// Whatever is doubted, all messages are taken.
func (c *conversation) checkLinks(links []bond, leafAt string, leaf jsontext.Value) {
	at := make(map[string]int, len(links))
	for i, l := range links {
		at[l.id] = i
	}
	if id := unquoteOr(leaf); leaf != nil && string(leaf) != `""` {
		if _, there := at[id]; !there {
			c.doubt(leafAt, "names no message that is there: the newest answered turn ends the active branch")
		}
	}
	walked := make([]int, len(links)) // by which walk
	for i := range links {
		for j := i; walked[j] == 0; {
			walked[j] = i + 1
			l := links[j]
			next, there := at[l.parent]
			switch {
			case l.parent == "":
			case !there:
				c.doubt(l.at, "names no message that is there: what is here begins a conversation")
			case walked[next] == i+1:
				c.doubt(l.at, "closes a circle: what is in it begins a conversation")
			default:
				j = next
			}
		}
	}
}

// child is the member of a node that lists those that follow it.
type child struct {
	of, at string
	list   jsontext.Value
}

// checkChildren doubts lists of children that are not there, or follow another node: by parents the tree is made.
func (c *conversation) checkChildren(lists []child, parents map[string]string) {
	for _, l := range lists {
		if l.list == nil {
			continue
		}
		ids, err := elements(l.list, l.at)
		if err != nil {
			c.doubt(l.at, "is no list: parents count")
		}
		for i, v := range ids {
			id := unquoteOr(v)
			if parent, there := parents[id]; !there {
				c.doubt(index(l.at, i), "names no message that is there: it is not in the export")
			} else if parent != l.of {
				c.doubt(index(l.at, i), "names a message that follows another one, by its parent, which counts")
			}
		}
	}
}

// doubt notes what an export says and cannot be so.
func (c *conversation) doubt(at, reason string) {
	c.doubts = append(c.doubts, &FormatError{at, reason})
}

// doubted is what there is to say of all of them; nil is nothing.
func (c *conversation) doubted() error {
	switch n := len(c.doubts); n {
	case 0:
		return nil
	case 1:
		return c.doubts[0]
	default:
		first := c.doubts[0]
		return refuse(first.At, "%s (links like this: %d)", first.Reason, n)
	}
}
