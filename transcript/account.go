package transcript

import "slices"

// account notes what the damaged files had and doc, which is all there is now,
// has not; before are the latest revisions that they gave. What is not known to
// be there is noted.
func (r *repair) account(doc *Document, before map[string]int, fromDoc, fromTail *salvaged) error {
	turns, err := doc.Turns()
	if err != nil {
		return err
	}
	if fromTail != nil {
		whole := r.whole(turns, fromTail)
		r.missing(turns, before, fromTail, whole)
		if !whole {
			r.res.Unreadable += r.unreadable(before, fromDoc, fromTail)
		}
	}
	if fromDoc == nil || fromDoc.whole || fromDoc.foreign {
		return nil
	}
	known := r.reach(fromDoc)
	r.missing(turns, before, fromDoc, known.all)
	r.res.Unreadable += r.unaccounted(fromDoc, fromTail, turns, known)
	n := len(fromDoc.turns)
	r.res.CutShort = fromDoc.cut && (n == 0 || !r.behind(fromDoc, n, known))
	return nil
}

// missing notes turns of which a damaged line tells the id and nobody the rest. Where a
// whole stream has what else the file shows, the id may be what is damaged.
func (r *repair) missing(turns []Snapshot, before map[string]int, v *salvaged, whole bool) {
	has := make(map[string]bool, len(turns))
	for i := range turns {
		has[turns[i].ID] = true
	}
	for _, d := range v.named {
		if has[d.id] {
			continue
		}
		if slices.Contains(r.res.Missing, d.id) { // by a line of the other file: one of the ids may be damaged
			r.res.Unreadable++
			continue
		}
		if !slices.ContainsFunc(turns, func(t Snapshot) bool {
			return t.Timestamp == d.at && oneByteOff(t.ID, d.id) && (whole || before[t.ID] == 0 && d.size == t.Size())
		}) {
			r.res.Missing = append(r.res.Missing, d.id)
		}
	}
}

// index notes what the stream and the tail have.
func (r *repair) index() {
	r.revs = make(map[string]int, len(r.events.Turns))
	r.late = make(map[string]bool)
	r.inTail = make(map[revision]bool, len(r.lines))
	for i := range r.events.Turns {
		e := &r.events.Turns[i]
		r.revs[e.ID] = max(r.revs[e.ID], e.Rev)
		if r.events.Since != 0 && e.Timestamp > r.events.Since {
			r.late[e.ID] = true
		}
	}
	for i := range r.lines {
		r.inTail[revision{r.lines[i].ID, r.lines[i].Rev}] = true
	}
}

// reach is how much of what a document held the stream has. Turns of an adopted document were
// never published: where the document shows one that the stream should have, there may be more.
type reach struct {
	all  bool // everything: it has dropped nothing, and has all that the document shows
	late bool // all turns that are later than what it has dropped
}

func (r *repair) reach(v *salvaged) reach {
	all := r.events.Whole
	late := r.events.Since != 0
	for i := range v.turns {
		t := &v.turns[i]
		all = all && r.revs[t.ID] >= t.Rev
		late = late && (t.Timestamp <= r.events.Since || r.late[t.ID])
	}
	for _, d := range v.named {
		all = all && (r.revs[d.id] > 0 || r.mistaken(d))
		late = late && (d.at <= r.events.Since || r.late[d.id] || r.mistaken(d))
	}
	return reach{all, late}
}

// behind reports whether the stream has every turn that stood behind the first n of
// a document. A damaged time is not that of an event.
func (r *repair) behind(v *salvaged, n int, known reach) bool {
	return known.all || known.late && n > 0 && r.late[v.turns[n-1].ID]
}

// mistaken reports whether the id of a damaged line may be damaged: the stream has a turn of its time with almost that id.
func (r *repair) mistaken(d damage) bool {
	return slices.ContainsFunc(r.events.Turns, func(e Snapshot) bool { return e.Timestamp == d.at && oneByteOff(e.ID, d.id) })
}

// unreadable counts the lines of a damaged tail that the stream, which is not whole,
// did not account for.
func (r *repair) unreadable(before map[string]int, doc, tail *salvaged) int {
	earlier := 0 // lines of turns that are there, perhaps as an earlier revision
	for _, d := range tail.named {
		if n := before[d.id]; n > 0 && r.revs[d.id] <= n {
			earlier++
		}
	}
	lines := tail.lost()
	switch {
	case tail.more:
		lines = max(1, lines)
	case doc == nil:
		lines -= min(lines, r.givenBack(before, tail.namedIDs()))
	}
	return earlier + lines
}

// givenBack counts the revisions of the stream that the files did not give, not even in
// part, which is what the lines held that nothing can be read of. It is 0 when the
// stream has nothing that the files gave: then it may have dropped those, too.
func (r *repair) givenBack(before map[string]int, named map[string]bool) int {
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
	if len(tail.turns) == 0 && len(turns) > 0 {
		return r.revs[turns[len(turns)-1].ID] > 0
	}
	return !slices.ContainsFunc(tail.turns, func(t Snapshot) bool { return r.revs[t.ID] < t.Rev })
}

// ids are those of the turns that could be read.
func (v *salvaged) ids() map[string]bool {
	ids := make(map[string]bool, len(v.turns))
	for i := range v.turns {
		ids[v.turns[i].ID] = true
	}
	return ids
}

// namedIDs are the ids that damaged lines tell.
func (v *salvaged) namedIDs() map[string]bool {
	ids := make(map[string]bool, len(v.named))
	for _, d := range v.named {
		ids[d.id] = true
	}
	return ids
}

// gapOf returns in which gap a turn may have stood, by the order of messages; -1
// for none.
func (v *salvaged) gapOf(t *Snapshot) int {
	return slices.IndexFunc(v.gaps, func(g gap) bool {
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

// usualTrailer is about how long the last line of a document is.
const usualTrailer = 256

// unaccounted counts the lines of a damaged document of which nothing tells the
// turn, less those of turns which the stream gave back where it has all of them.
func (r *repair) unaccounted(v, tail *salvaged, turns []Snapshot, known reach) int {
	read, named := v.ids(), v.namedIDs()
	lost := v.lost()
	if n := len(v.gaps); n > 0 && known.all && v.cut && v.gaps[n-1].before == len(v.turns) && v.gaps[n-1].lines == 1 && v.gaps[n-1].size <= usualTrailer {
		lost-- // what cannot be read at the end is the last line
	}
	revs := make(map[string]int, len(turns))
	for i := range turns {
		revs[turns[i].ID] = turns[i].Rev
	}
	earlier := 0 // lines of turns that are there as another, or perhaps an earlier revision
	for _, d := range v.named {
		if n := revs[d.id]; !known.all && n > 0 && (read[d.id] || d.rev == 0 && !r.late[d.id] || n < d.rev) {
			earlier++
		}
	}
	lines := max(lost, v.count-len(read)-len(named)) // by its message_count
	if !known.all {
		lines += v.doubles() + v.others
	}
	later := make(map[string]bool) // turns that the tail has, and hence not the document, or its sum would have told
	for i := range r.lines {
		later[r.lines[i].ID] = true
	}
	for i := range r.events.Turns {
		if e := &r.events.Turns[i]; !r.inTail[revision{e.ID, e.Rev}] {
			delete(later, e.ID)
		}
	}
	back := 0
	if tail != nil && v.sum != "" {
		back = -tail.lost()
		for _, d := range tail.named {
			later[d.id] = true
		}
	}
	largest := make(map[string]int) // messages of turns, of all their revisions
	for i := range r.events.Turns {
		e := &r.events.Turns[i]
		largest[e.ID] = max(largest[e.ID], len(e.raw)-(e.to-e.from)+len(",\n"))
	}
	filled := make([]int, len(v.gaps)) // with how many bytes
	for _, d := range v.named {
		if g := slices.IndexFunc(v.gaps, func(g gap) bool { return g.before == d.before }); g >= 0 {
			filled[g] += largest[d.id]
		}
	}
	for i := range turns {
		t := &turns[i]
		if named[t.ID] || read[t.ID] || largest[t.ID] == 0 || v.sum != "" && later[t.ID] {
			continue
		}
		if g := v.gapOf(t); g >= 0 && r.behind(v, v.gaps[g].before, known) {
			back++
			filled[g] += largest[t.ID]
		}
	}
	if lines = max(0, lines-max(0, back)); lines == 0 && v.more && v.count < 0 {
		for i, g := range v.gaps {
			if g.before == len(v.turns) && v.cut {
				filled[i] += usualTrailer
			}
			if filled[i] < g.size {
				lines = 1
			}
		}
	}
	return lines + earlier
}
