package transcript

import "slices"

// judge decides which turns of a damaged document are kept: the document that
// it returns is still to be merged with trusted, which are events and the good
// lines of the tail. Of lines that nothing vouches for,
//
//   - one of the same id and rev as a trusted snapshot is dropped: where they
//     differ, it is the damaged one;
//   - one of a turn that a whole stream has is dropped, since the stream has
//     every revision of it;
//   - one that is in all but the id a trusted turn which is missing from the
//     document is dropped, since it is that turn under a damaged id;
//   - every other is kept and named.
func (r *repair) judge(v *salvaged, trusted *Document, tail []Snapshot) (*Document, error) {
	doc := NewDocument(r.session)
	doc.kept = v.kept
	if v.whole {
		_, err := doc.Merge(v.turns...)
		return doc, err
	}
	type revision struct {
		id  string
		rev int
	}
	revisions := make(map[revision]bool, len(tail)+len(r.events.Turns))
	for _, list := range [][]Snapshot{tail, r.events.Turns} {
		for i := range list {
			revisions[revision{list[i].ID, list[i].Rev}] = true
		}
	}
	read := v.ids()
	known := make(map[string]bool, trusted.Len())
	unread := make(map[string]bool) // trusted turns that the document does not show, but for their ids
	for i := range trusted.lines {
		id := string(trusted.lines[i].id)
		known[id] = true
		if !read[id] {
			unread[trusted.lines[i].afterID()] = true
		}
	}
	var kept []Snapshot
	for i := range v.turns {
		t := &v.turns[i]
		switch {
		case revisions[revision{t.ID, t.Rev}]:
		case known[t.ID] && r.events.Whole:
		case !known[t.ID] && unread[lineOf(t).afterID()]:
		default:
			kept = append(kept, *t)
			r.res.Unverified = append(r.res.Unverified, t.ID)
		}
	}
	_, err := doc.Merge(kept...)
	return doc, err
}

// afterID is what a message of a document holds behind its id.
func (l line) afterID() string {
	return string(l.raw[len(messageHead)+len(l.id):l.from]) + string(l.raw[l.to:])
}

// account notes what the damaged files had and doc, which is all there is now,
// has not; before are the latest revisions that they gave. What is not known to
// be there is noted.
func (r *repair) account(doc *Document, before map[string]int, fromDoc, fromTail *salvaged) error {
	turns, err := doc.Turns()
	if err != nil {
		return err
	}
	if fromTail != nil {
		r.missing(turns, before, fromTail)
		if !r.whole(turns, fromTail) {
			r.res.Unreadable += r.unreadable(before, fromDoc, fromTail)
		}
	}
	if fromDoc == nil || fromDoc.whole || fromDoc.foreign {
		return nil
	}
	if fromDoc.proven(turns) {
		r.res.Unverified = nil
		return nil
	}
	r.missing(turns, before, fromDoc)
	n := len(fromDoc.turns)
	if n == 0 && r.events.Whole {
		r.res.CutShort = fromDoc.cut
		return nil
	}
	if r.goesBackTo(fromDoc) {
		return nil
	}
	r.res.Unreadable += r.unaccounted(fromDoc) + fromDoc.doubles()
	r.res.CutShort = fromDoc.cut && (n == 0 || !r.reaches(fromDoc.turns[n-1].Timestamp))
	return nil
}

// missing notes turns of which a damaged line tells the id and nobody the rest.
func (r *repair) missing(turns []Snapshot, before map[string]int, v *salvaged) {
	has := make(map[string]bool, len(turns))
	times := make(map[Instant]bool) // of turns that no file gave
	for i := range turns {
		has[turns[i].ID] = true
		if before[turns[i].ID] == 0 {
			times[turns[i].Timestamp] = true
		}
	}
	for _, d := range v.named {
		if !has[d.id] && !times[d.at] && !slices.Contains(r.res.Missing, d.id) { // the id may be what is damaged
			r.res.Missing = append(r.res.Missing, d.id)
		}
	}
}

// reaches reports whether the stream has all that was published of turns with a
// timestamp or a later one.
func (r *repair) reaches(at Instant) bool { return r.events.Since != 0 && at > r.events.Since }

// goesBackTo reports whether the stream holds all that a document held: it has
// dropped nothing, and was not made anew since, or it would not have the first turn.
func (r *repair) goesBackTo(v *salvaged) bool {
	return r.events.Whole && slices.ContainsFunc(r.events.Turns, func(e Snapshot) bool { return e.ID == v.turns[0].ID })
}

// unreadable counts the lines of a damaged tail that the stream, which is not whole,
// did not account for.
func (r *repair) unreadable(before map[string]int, doc, tail *salvaged) int {
	revs := make(map[string]int, len(r.events.Turns))
	for i := range r.events.Turns {
		e := &r.events.Turns[i]
		revs[e.ID] = max(revs[e.ID], e.Rev)
	}
	named := make(map[string]bool, len(tail.named))
	earlier := 0 // lines of turns that are there, perhaps as an earlier revision
	for _, d := range tail.named {
		named[d.id] = true
		if n := before[d.id]; n > 0 && revs[d.id] <= n {
			earlier++
		}
	}
	lines := tail.lost()
	switch {
	case tail.more:
		lines = max(1, lines)
	case doc == nil:
		lines -= min(lines, r.givenBack(before, named))
	}
	return earlier + lines
}

// givenBack counts the revisions of the stream that the files did not give, not even in
// part, which is what the lines held that nothing can be read of. It is 0 when the
// stream has nothing that the files gave: then it may have dropped those, too.
func (r *repair) givenBack(before map[string]int, named map[string]bool) int {
	type revision struct {
		id  string
		rev int
	}
	given := make(map[revision]bool)
	overlaps := false
	for i := range r.events.Turns {
		e := &r.events.Turns[i]
		if e.Rev <= before[e.ID] {
			overlaps = true
		} else if !named[e.ID] {
			given[revision{e.ID, e.Rev}] = true
		}
	}
	if !overlaps {
		return 0
	}
	return len(given)
}

// whole reports whether the stream holds everything that was ever put into a
// tail: it has dropped nothing, and was not made anew since, or it would not
// have what else the tail holds, or else what the document ends with.
func (r *repair) whole(turns []Snapshot, tail *salvaged) bool {
	if !r.events.Whole {
		return false
	}
	has := make(map[string]bool, len(r.events.Turns))
	for i := range r.events.Turns {
		has[r.events.Turns[i].ID] = true
	}
	if len(tail.turns) == 0 && len(turns) > 0 {
		return has[turns[len(turns)-1].ID]
	}
	return !slices.ContainsFunc(tail.turns, func(t Snapshot) bool { return !has[t.ID] })
}

// ids are those of the turns that could be read.
func (v *salvaged) ids() map[string]bool {
	ids := make(map[string]bool, len(v.turns))
	for i := range v.turns {
		ids[v.turns[i].ID] = true
	}
	return ids
}

// proven reports whether the damaged document's sum is that of the document
// which turns make, or those of them that fit its lines, or as many of these as
// it says it holds: then nothing of it is missing.
func (v *salvaged) proven(turns []Snapshot) bool {
	if v.sumIs(turns) {
		return true
	}
	read := v.ids()
	for _, d := range v.named {
		read[d.id] = true
	}
	var fitting []Snapshot
	for i := range turns {
		if read[turns[i].ID] || v.fits(&turns[i]) {
			fitting = append(fitting, turns[i])
		}
	}
	return v.sumIs(fitting) || v.count > 0 && v.count < len(fitting) && v.sumIs(fitting[:v.count])
}

// fits reports whether a turn may have stood in a gap, by the order of messages.
func (v *salvaged) fits(t *Snapshot) bool {
	return slices.ContainsFunc(v.gaps, func(g gap) bool {
		return (g.before == 0 || v.turns[g.before-1].Compare(t) < 0) && (g.before == len(v.turns) || t.Compare(&v.turns[g.before]) < 0)
	})
}

// lost counts the lines of which nothing tells the turn.
func (v *salvaged) lost() int {
	lines := 0
	for _, g := range v.gaps {
		lines += g.lines
	}
	return lines
}

// doubles counts the turns with an id that another turn has, too: one of them is
// damaged, and gives way.
func (v *salvaged) doubles() int {
	shown := make(map[string]string, len(v.turns))
	n := 0
	for i := range v.turns {
		l := lineOf(&v.turns[i])
		if other, ok := shown[string(l.id)]; ok && other != l.afterID() {
			n++
		}
		shown[string(l.id)] = l.afterID()
	}
	return n
}

// unaccounted counts the lines of a damaged document of which nothing tells the
// turn, less those of turns so late that the stream has them all.
func (r *repair) unaccounted(v *salvaged) int {
	said := v.count - len(v.turns) - len(v.named) // by its message_count
	known := 0
	for _, g := range v.gaps {
		if g.before > 0 && r.reaches(v.turns[g.before-1].Timestamp) {
			known += g.lines
		}
	}
	return max(0, max(v.lost(), said)-known)
}
