package transcript

import "context"

// Branch says where a turn is among the branches of its transcript.
type Branch struct {
	OnPath bool   // the recent history, of any length, lists it
	Parent string // id of the turn that it follows; "" is none, or one that is missing
}

// Branches returns the places of the turns from index from up to to, in order. It reads all turns; its
// memory is in proportion to their number, not to what they say.
func (v *View) Branches(ctx context.Context, from, to int) ([]Branch, error) {
	turns := make(snapshots, 0, v.Len())
	if err := v.Each(ctx, 0, v.Len(), func(_ int, s *Snapshot) error {
		turns = append(turns, Snapshot{ID: s.ID, Status: s.Status, Parent: s.Parent, HasParent: s.HasParent, Supersedes: s.Supersedes, empty: s.empty, tools: s.tools})
		return nil
	}); err != nil {
		return nil, err
	}
	l := NewLineage(turns)
	path := l.path(l.newest)
	branches := make([]Branch, 0, max(0, to-from))
	for i := from; i < min(to, len(turns)); i++ {
		b := Branch{OnPath: path[i] && turns[i].Answered()}
		if p := l.parents[i]; p != none {
			b.Parent = turns[p].ID
		}
		branches = append(branches, b)
	}
	return branches, nil
}
