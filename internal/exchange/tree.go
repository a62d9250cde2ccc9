package exchange

import (
	"cmp"
	"slices"

	"github.com/afterword-io/afterword/transcript"
)

// tree makes turns of messages that form a tree: every way from a message of the user to the last
// answer before the next one is a turn.
//
// A turn begins where its first message says. Where an answer was generated again the turns have
// the same question: the later one supersedes the earlier, and begins with its own answer. Where
// there are branches, each turn names its parent. What says nothing is no turn: what follows it
// follows the turn before. The history of a session is the way to its newest answered turn; so that
// this is the active branch, the turn at its end is dated after all others if it is not the newest,
// and its own time is in its layout.
type tree struct {
	thread
	c        *conversation
	nodes    map[string]*node
	turns    []*branch
	branched bool
	starts   map[string]int // latest turn that begins at a node
	messages int            // of all turns
	base     transcript.Instant
}

type node struct {
	id       string
	msgs     []message
	children []*node
	number   int // place in the conversation, counted from 1
}

// branch is a turn of a tree.
type branch struct {
	*turn
	msgs   []message
	number int
	parent int // index of the turn before it; -1 is none
	again  int // index of the turn that it supersedes; -1 is none
	nodes  []*node
	silent bool // it is none
}

// way is where a walk through the tree is: nodes whose messages are of one turn.
type way struct {
	nodes  []*node
	stage  stage // of their messages
	parent int
}

func (w way) messages() (list []message) {
	for _, n := range w.nodes {
		list = append(list, n.msgs...)
	}
	return list
}

// opening returns the place of the node with whose message the turn opens.
func (w way) opening() int {
	return max(0, slices.IndexFunc(w.nodes, func(n *node) bool { return n.msgs[0].role == user }))
}

// maxRepeated bounds how many messages the turns of a tree have that are another one's, too.
const maxRepeated = 100_000

// treeTurns makes the turns of a conversation, whose first message is dated base if nothing says
// when it was.
func (c *conversation) treeTurns(th thread, base transcript.Instant) ([]*turn, error) {
	t := &tree{thread: th, c: c, nodes: make(map[string]*node), starts: make(map[string]int), base: base}
	roots := t.grow()
	stack := make([]way, 0, len(roots))
	for _, n := range slices.Backward(roots) {
		stack = append(stack, way{nodes: []*node{n}, parent: -1}.enter(n))
	}
	t.branched = len(roots) > 1
	for len(stack) > 0 {
		w := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		stack = append(stack, t.step(w)...)
		if t.messages > len(c.units)+maxRepeated {
			return nil, refuse("", "has too many branches: its turns repeat more than %d messages", maxRepeated)
		}
	}
	t.activate()
	var turns []*turn
	for _, b := range t.turns {
		if b.silent {
			c.empty++
			continue
		}
		t.number = b.number
		t.finish(b.turn, b.msgs)
		turns = append(turns, b.turn)
	}
	t.relate()
	return turns, nil
}

// grow links the nodes and returns those without a parent, in order. Nodes that no root leads to,
// because their parents form a circle, are roots.
func (t *tree) grow() (roots []*node) {
	var order []*node
	parents := make(map[*node]string)
	for i, unit := range t.c.units {
		if len(unit) == 0 {
			continue
		}
		n := &node{id: unit[0].id, msgs: unit, number: i + 1}
		if t.nodes[n.id] == nil {
			t.nodes[n.id] = n
		}
		parents[n] = unit[0].parent
		order = append(order, n)
	}
	reached := func(n *node) {
		for list := []*node{n}; len(list) > 0; {
			n, list = list[len(list)-1], list[:len(list)-1]
			delete(parents, n)
			list = append(list, n.children...)
		}
	}
	for _, n := range order {
		if p := t.nodes[parents[n]]; p != nil && p != n && t.nodes[n.id] == n {
			p.children = append(p.children, n)
		} else {
			roots = append(roots, n)
		}
	}
	for _, n := range roots {
		reached(n)
	}
	for _, n := range order {
		if _, lost := parents[n]; !lost {
			continue
		}
		p := t.nodes[parents[n]]
		p.children = slices.DeleteFunc(p.children, func(c *node) bool { return c == n })
		roots = append(roots, n)
		reached(n)
	}
	return roots
}

// step goes from the last node of a way to its children, and returns where to go on, the first
// one last.
func (t *tree) step(w way) (next []way) {
	last := w.nodes[len(w.nodes)-1]
	var going, beginning []*node
	for _, child := range last.children {
		if w.stage.ends(child.msgs[0].role) {
			beginning = append(beginning, child)
		} else {
			going = append(going, child)
		}
	}
	t.branched = t.branched || len(last.children) > 1
	if len(going) == 0 || len(beginning) > 0 {
		parent := t.close(w)
		for _, child := range slices.Backward(beginning) {
			next = append(next, way{nodes: []*node{child}, parent: parent}.enter(child))
		}
	}
	for _, child := range slices.Backward(going) {
		nodes := w.nodes
		if len(going)+len(beginning) > 1 {
			nodes = slices.Clone(nodes)
		}
		next = append(next, way{append(nodes, child), w.stage, w.parent}.enter(child))
	}
	return next
}

// enter takes the messages of a node.
func (w way) enter(n *node) way {
	for i := range n.msgs {
		w.stage.take(n.msgs[i].role)
	}
	return w
}

// close makes a turn of a way and returns its index.
func (t *tree) close(w way) int {
	msgs := w.messages()
	t.messages += len(msgs)
	b := &branch{turn: fold(msgs), msgs: msgs, number: w.nodes[0].number, parent: w.parent, again: -1, nodes: w.nodes, silent: silent(msgs)}
	own, last := msgs, transcript.Instant(0)
	for b.parent >= 0 && t.turns[b.parent].silent {
		b.parent = t.turns[b.parent].parent
	}
	if b.parent >= 0 {
		last = t.turns[b.parent].at
	}
	first := w.nodes[0]
	opens := w.opening()
	if before, ok := t.starts[first.id]; ok { // it has its first nodes in common with another turn
		other := t.turns[before]
		shared := 0
		for shared < min(len(w.nodes)-1, len(other.nodes)) && w.nodes[shared] == other.nodes[shared] {
			shared++
		}
		own = way{nodes: w.nodes[shared:]}.messages()
		last = max(last, other.at)
		if opens < shared { // the same question, answered again
			opens = len(w.nodes) - 1
			if !other.silent {
				b.again = before
			}
		}
		b.number = w.nodes[opens].number
	}
	if !b.silent {
		b.id = t.ownID(idOf(&w.nodes[opens].msgs[0]))
	}
	fallback := t.base + transcript.Instant(b.number-1)
	switch {
	case t.dated:
		fallback = t.last + 1
	case t.timed:
		fallback, t.dated = t.time, true
	}
	for i := range own {
		t.dated = t.dated || own[i].timed
	}
	b.date(own, fallback, last)
	t.last = max(t.last, b.at)
	t.starts[first.id] = len(t.turns)
	t.turns = append(t.turns, b)
	return len(t.turns) - 1
}

// activate dates the turn at the end of the active branch after all others.
func (t *tree) activate() {
	if t.c.leaf == "" || !t.branched {
		return
	}
	leaf := slices.IndexFunc(t.turns, func(b *branch) bool { return b.nodes[len(b.nodes)-1].id == t.c.leaf })
	if leaf < 0 {
		leaf = slices.IndexFunc(t.turns, func(b *branch) bool {
			return slices.ContainsFunc(b.nodes, func(n *node) bool { return n.id == t.c.leaf })
		})
	}
	for leaf >= 0 && !t.turns[leaf].answered() {
		leaf = t.turns[leaf].parent
	}
	if leaf < 0 {
		return
	}
	newest := t.turns[leaf]
	for _, b := range t.turns {
		if b.answered() && cmp.Or(cmp.Compare(b.at, newest.at), cmp.Compare(b.id, newest.id)) > 0 {
			newest = b
		}
	}
	if newest != t.turns[leaf] {
		t.turns[leaf].at = newest.at + 1
	}
}

// relate names parents and what is superseded, now that every turn has its id.
func (t *tree) relate() {
	if !t.branched {
		return
	}
	for _, b := range t.turns {
		parent := ""
		if b.parent >= 0 {
			parent = t.turns[b.parent].id
		}
		b.set("parent", quoted(parent))
		if b.again >= 0 {
			b.set("supersedes", quoted(t.turns[b.again].id))
		}
	}
}
