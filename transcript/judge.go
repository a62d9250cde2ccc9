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
//   - one with the timestamp of a trusted turn that is missing from the document
//     is dropped, since it is that turn under a damaged id;
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
	unread := make(map[Instant]bool) // timestamps of trusted turns that the document does not show
	for i := range trusted.lines {
		id := string(trusted.lines[i].id)
		known[id] = true
		if !read[id] {
			unread[trusted.lines[i].at] = true
		}
	}
	var kept []Snapshot
	for i := range v.turns {
		t := &v.turns[i]
		switch {
		case revisions[revision{t.ID, t.Rev}]:
		case known[t.ID] && r.events.Whole:
		case !known[t.ID] && unread[t.Timestamp]:
		default:
			kept = append(kept, *t)
			r.res.Unverified = append(r.res.Unverified, t.ID)
		}
	}
	_, err := doc.Merge(kept...)
	return doc, err
}

// account notes what the damaged files had and doc, which is all there is now,
// has not.
func (r *repair) account(doc *Document, fromDoc, fromTail *salvaged) error {
	turns, err := doc.Turns()
	if err != nil {
		return err
	}
	if fromTail != nil {
		r.missing(turns, fromTail)
		if !r.reaches(oldest(fromTail.turns)) && !r.whole(turns, fromTail) {
			for _, g := range fromTail.gaps {
				r.res.Unreadable += g.lines
			}
		}
	}
	if fromDoc == nil || fromDoc.whole || fromDoc.foreign {
		return nil
	}
	if fromDoc.proven(turns) {
		r.res.Unverified = nil
		return nil
	}
	r.missing(turns, fromDoc)
	r.res.Unreadable += fromDoc.unaccounted(turns)
	n := len(fromDoc.turns)
	r.res.CutShort = fromDoc.cut && (n == 0 || !r.reaches(fromDoc.turns[n-1].Timestamp+1))
	return nil
}

// missing notes turns of which a damaged line tells the id and nobody the rest.
func (r *repair) missing(turns []Snapshot, v *salvaged) {
	read := v.ids()
	has := make(map[string]bool, len(turns))
	times := make(map[Instant]bool) // of turns that the file did not show
	for i := range turns {
		has[turns[i].ID] = true
		if !read[turns[i].ID] {
			times[turns[i].Timestamp] = true
		}
	}
	for _, d := range v.named {
		if !has[d.id] && !times[d.at] && !slices.Contains(r.res.Missing, d.id) { // the id may be what is damaged
			r.res.Missing = append(r.res.Missing, d.id)
		}
	}
}

// reaches reports whether the stream goes back far enough to have everything
// that was published after a time. It drops its oldest events first, so one
// that is older tells.
func (r *repair) reaches(at Instant) bool {
	return slices.ContainsFunc(r.events.Turns, func(e Snapshot) bool { return e.Timestamp < at })
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

// oldest is the earliest timestamp of turns, and of none the earliest there is.
func oldest(turns []Snapshot) Instant {
	if len(turns) == 0 {
		return minInstant
	}
	at := turns[0].Timestamp
	for i := range turns {
		at = min(at, turns[i].Timestamp)
	}
	return at
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
// which turns, or those of them that fit its lines, make: then nothing of it is
// missing.
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
		if read[turns[i].ID] || v.gapOf(&turns[i]) >= 0 {
			fitting = append(fitting, turns[i])
		}
	}
	return v.sumIs(fitting)
}

// gapOf returns in which gap a turn may have stood, by the order of messages; -1
// for none.
func (v *salvaged) gapOf(t *Snapshot) int {
	for i, g := range v.gaps {
		if (g.before == 0 || v.turns[g.before-1].Compare(t) < 0) && (g.before == len(v.turns) || t.Compare(&v.turns[g.before]) < 0) {
			return i
		}
	}
	return -1
}

// unaccounted counts the lines of a damaged document of which nothing tells the
// turn, less those that can have been one of turns that is from elsewhere.
func (v *salvaged) unaccounted(turns []Snapshot) int {
	known := v.ids()
	for _, d := range v.named {
		known[d.id] = true
	}
	lines := 0
	for _, g := range v.gaps {
		lines += g.lines
	}
	said := v.count - len(v.turns) - len(v.named) // by its message_count
	fits := make([]int, len(v.gaps))
	for i := range turns {
		if !known[turns[i].ID] {
			if g := v.gapOf(&turns[i]); g >= 0 {
				fits[g]++
			}
		}
	}
	found := 0
	for i, g := range v.gaps {
		if said <= lines { // as many lines as turns
			fits[i] = min(fits[i], g.lines)
		}
		found += fits[i]
	}
	return max(0, max(lines, said)-found)
}
