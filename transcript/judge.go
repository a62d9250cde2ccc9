package transcript

import "slices"

// judge decides which turns of a damaged document are kept: the document that
// it returns is still to be merged with trusted, which are events and the good
// lines of the tail. Where its sum is that of a document which its lines and trusted turns
// make, that is the document, and nothing of it is missing. Else of its lines, for which
// nothing vouches,
//
//   - one of the same id and rev as a trusted snapshot is dropped: where they
//     differ, it is the damaged one;
//   - one of a turn that a whole stream has is dropped, since the stream has
//     every revision of it;
//   - one that differs from a trusted turn which is missing from the document
//     in one byte of the id is dropped, since it is that turn under a damaged id;
//   - every other is kept and named.
func (r *repair) judge(v *salvaged, trusted []Snapshot) (*Document, error) {
	doc := NewDocument(r.session)
	doc.kept = v.kept
	if v.whole {
		_, err := doc.Merge(v.turns...)
		return doc, err
	}
	v.disguised(trusted)
	if all := r.prove(v, trusted); all != nil {
		v.whole = true
		_, err := doc.Merge(all...)
		return doc, err
	}
	revisions := make(map[revision]*Snapshot, len(r.lines)+len(r.events.Turns))
	for _, list := range [][]Snapshot{r.lines, r.events.Turns} {
		for i := range list {
			revisions[revision{list[i].ID, list[i].Rev}] = &list[i]
		}
	}
	times := make(map[string]Instant, len(trusted))
	for i := range trusted {
		times[trusted[i].ID] = trusted[i].Timestamp
	}
	var kept []Snapshot
	for i := range v.turns {
		t := &v.turns[i]
		switch {
		case revisions[revision{t.ID, t.Rev}] != nil:
			if !t.alike(revisions[revision{t.ID, t.Rev}]) {
				v.others++
			}
		case r.events.Whole && r.revs[t.ID] > 0:
		default:
			if at, ok := times[t.ID]; ok && at != t.Timestamp {
				v.others++
			}
			kept = append(kept, *t)
			r.res.Unverified = append(r.res.Unverified, t.ID)
		}
	}
	_, err := doc.Merge(kept...)
	return doc, err
}

// alike reports whether one of two messages can be the other with a few damaged bytes.
func (s *Snapshot) alike(o *Snapshot) bool {
	n := bytesOff(s.AppendMessage(nil), o.AppendMessage(nil))
	return s.Timestamp == o.Timestamp && n >= 0 && n <= maxOff
}

// maxOff is how many bytes of a message may be damaged and leave it readable: past it, it is taken for another.
const maxOff = 8

// disguised gives turns under damaged ids their own.
func (v *salvaged) disguised(trusted []Snapshot) {
	known := make(map[string]bool, len(trusted))
	read := v.ids()
	unread := make(map[string][]string) // ids of trusted turns that the document does not show, by what follows them
	for i := range trusted {
		known[trusted[i].ID] = true
		if t := &trusted[i]; !read[t.ID] && t.Status != Redacted { // redacted ones are alike
			after := lineOf(t).afterID()
			unread[after] = append(unread[after], t.ID)
		}
	}
	var gaps []gap
	var turns []Snapshot
	at := 0
	for i := range len(v.turns) + 1 {
		for ; at < len(v.gaps) && v.gaps[at].before == i; at++ {
			g := v.gaps[at]
			g.before = len(turns)
			gaps = append(gaps, g)
		}
		if i == len(v.turns) {
			break
		}
		t := &v.turns[i]
		ids := unread[lineOf(t).afterID()]
		if n := slices.IndexFunc(ids, func(id string) bool { return oneByteOff(id, t.ID) }); n >= 0 && !known[t.ID] {
			v.named = append(v.named, damage{id: ids[n], at: t.Timestamp, rev: t.Rev, size: len(t.raw), before: len(turns)})
			continue
		}
		turns = append(turns, *t)
	}
	v.turns, v.gaps = turns, gaps
}

// oneByteOff reports whether texts differ in one byte, as after a bit has flipped.
func oneByteOff(a, b string) bool { return bytesOff(a, b) == 1 }

// bytesOff is in how many bytes texts differ; -1 when not even their lengths are the same.
func bytesOff[T string | []byte](a, b T) int {
	if len(a) != len(b) {
		return -1
	}
	n := 0
	for i := range len(a) {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// revision is one of a turn.
type revision struct {
	id  string
	rev int
}

// afterID is what a message of a document holds behind its id.
func (l line) afterID() string {
	return string(l.raw[len(messageHead)+len(l.id):l.from]) + string(l.raw[l.to:])
}

// maxProofs bounds how many documents are made to find the one whose sum is that of a damaged one.
const maxProofs = 64

// maxProofBytes bounds how large all of these together are: some tenths of a second.
const maxProofBytes = 64 << 20

// prove returns the turns of the document that has the sum of the damaged one: of trusted turns
// those that fit its lines, or as many of these as it says it holds, or those of them that are not in the
// tail, as the latest or as earlier revisions, and as it shows them where nothing else is known. nil when there is no such.
func (r *repair) prove(v *salvaged, trusted []Snapshot) []Snapshot {
	if v.sum == "" {
		return nil
	}
	read := make(map[string][]Snapshot, len(v.turns))
	latest := slices.Clone(trusted)
	known := make(map[string]bool, len(trusted))
	for i := range trusted {
		known[trusted[i].ID] = true
	}
	for i := range v.turns {
		t := &v.turns[i]
		if read[t.ID] == nil && !known[t.ID] {
			latest = append(latest, *t)
		}
		read[t.ID] = append(read[t.ID], *t)
	}
	slices.SortFunc(latest, func(a, b Snapshot) int { return a.Compare(&b) })
	named := v.namedIDs()
	versions := make(map[string][]Snapshot) // of each turn, as events and the tail have it
	for _, list := range [][]Snapshot{r.events.Turns, r.lines} {
		for i := range list {
			id := list[i].ID
			if !slices.ContainsFunc(versions[id], func(s Snapshot) bool { return s.Rev == list[i].Rev }) {
				versions[id] = append(versions[id], list[i])
			}
		}
	}
	var choices, without [][]Snapshot
	for i := range latest {
		id := latest[i].ID
		if read[id] == nil && !named[id] && v.gapOf(&latest[i]) < 0 {
			continue
		}
		c := versions[id]
		slices.SortFunc(c, func(a, b Snapshot) int { return b.Rev - a.Rev })
		if shown := read[id]; shown != nil {
			if n := slices.IndexFunc(c, func(s Snapshot) bool { return s.Rev == shown[0].Rev }); n >= 0 {
				c = c[n : n+1]
			} else {
				c = append(slices.Clone(shown), c...)
			}
		}
		choices = append(choices, c)
		if read[id] == nil && !named[id] {
			c = slices.DeleteFunc(slices.Clone(c), func(s Snapshot) bool { return r.inTail[revision{s.ID, s.Rev}] })
		}
		if len(c) > 0 {
			without = append(without, c)
		}
	}
	all := v.sumOf(choices)
	if all == nil && v.count > 0 && v.count < len(choices) {
		all = v.sumOf(choices[:v.count])
	}
	if all == nil && len(without) < len(choices) {
		all = v.sumOf(without)
	}
	return all
}

// sumOf returns the turns whose document has the sum, one of each of the choices.
func (v *salvaged) sumOf(choices [][]Snapshot) []Snapshot {
	size := 1
	for _, c := range choices {
		size += len(c[0].raw)
	}
	for n := range max(1, min(maxProofs, maxProofBytes/size)) {
		one := make([]Snapshot, len(choices))
		for i, c := range choices {
			one[i] = c[n%len(c)]
			n /= len(c)
		}
		if n > 0 { // all were tried
			return nil
		}
		if v.sumIs(one) {
			return one
		}
	}
	return nil
}
