package transcript

// Lineage says what each turn of a transcript follows.
type Lineage struct {
	turns   turnList
	parents []int
	newest  int // the newest answered turn
}

// NewLineage reads all turns of a session, which are in order.
func NewLineage(turns []Snapshot) *Lineage {
	l, _ := lineageOf(snapshots(turns), func(int, string) {}) // a slice can be read
	return l
}

// lineageOf calls broken with each turn that names one that is missing, and the first turn of
// each circle in which turns supersede each other.
func lineageOf(turns turnList, broken func(i int, missing string)) (*Lineage, error) {
	n := turns.Len()
	index := make(map[string]int, n)
	for i := range n {
		index[string(turns.id(i))] = i
	}
	// Of each turn its parent, or that its parent is that of another.
	l := &Lineage{turns: turns, parents: make([]int, n), newest: none}
	superseded := make([]int, n)
	for i := range n {
		l.parents[i], superseded[i] = none, none
		s, err := turns.at(i)
		if err != nil {
			return nil, err
		}
		to, named := &l.parents[i], s.Parent
		if !s.HasParent {
			to, named = &superseded[i], s.Supersedes
		}
		if k, ok := index[named]; ok {
			*to = k
		} else if named != "" {
			broken(i, named)
		} else if !s.HasParent {
			l.parents[i] = l.newest
		}
		if s.Answered() {
			l.newest = i
		}
	}
	// A turn that supersedes others in a circle has no parent; those that lead there have none either.
	for _, i := range cycles(superseded, func(i, of int) {
		l.parents[i] = l.parents[of]
	}) {
		broken(i, "")
	}
	return l, nil
}

// Newest returns the place of the newest answered turn, in which the recent history ends; -1 for none.
func (l *Lineage) Newest() int { return l.newest }

// Place returns the place of the turn with an id, -1 for none.
func (l *Lineage) Place(id string) int {
	for i := range l.parents {
		if string(l.turns.id(i)) == id {
			return i
		}
	}
	return none
}

// Parent returns the place of a turn's parent, -1 for none. Turns may follow each other in a circle.
func (l *Lineage) Parent(i int) int { return l.parents[i] }

// Forest returns the parents of all turns, with those that would close a circle left out. The path from leaf
// (-1 is none) is in it whole.
func (l *Lineage) Forest(leaf int) []int {
	forest := append([]int(nil), l.parents...)
	been := make(map[int]bool)
	for i := leaf; i != none; i = forest[i] {
		been[i] = true
		if been[forest[i]] {
			forest[i] = none
		}
	}
	for _, i := range cycles(forest, nil) {
		forest[i] = none
	}
	return forest
}

// path returns which turns the path from a place leads through, answered or not.
func (l *Lineage) path(leaf int) (on []bool) {
	on = make([]bool, len(l.parents))
	for i := leaf; i != none && !on[i]; i = l.parents[i] {
		on[i] = true
	}
	return on
}

// Branch returns which turns somebody reads who reads the conversation that ends in leaf (-1 is none): those
// that the path leads through, and questions without an answer on the way: turns that are not
// answered, that no other supersedes, and that follow leaf, or any turn of the path without naming it.
func (l *Lineage) Branch(leaf int) (in []bool, err error) {
	in = l.path(leaf)
	path := append([]bool(nil), in...)
	superseded := make(map[string]bool)
	asked := make([]bool, len(in)) // not answered, and nobody says that it is instead of another
	for i := range in {
		s, err := l.turns.at(i)
		if err != nil {
			return nil, err
		}
		if s.Supersedes != "" {
			superseded[s.Supersedes] = true
		}
		p := l.parents[i]
		asked[i] = !s.Answered() && s.Supersedes == "" && (p != none && p == leaf || !s.HasParent && (p == none || path[p]))
	}
	for i := range in {
		in[i] = in[i] || asked[i] && !superseded[string(l.turns.id(i))]
	}
	return in, nil
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
