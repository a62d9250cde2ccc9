package cache

import (
	"slices"

	"github.com/afterword-io/afterword/transcript"
)

// overlay returns the last limit answered turns of base and pending together,
// and which of pending base shows itself, in this revision or a newer one.
//
// A pending turn that base would not list (not answered, too old) is never among
// those: neither the list nor its version proves that base has it. Whoever keeps
// pending turns lets those go by age.
func overlay(base, pending []transcript.Snapshot, limit int) (turns, shown []transcript.Snapshot) {
	if len(pending) == 0 {
		return append([]transcript.Snapshot{}, base[max(0, len(base)-limit):]...), nil
	}
	merged := make([]transcript.Snapshot, len(base), len(base)+len(pending))
	copy(merged, base)
	at := make(map[string]int, len(merged)+len(pending))
	for i := range merged {
		at[merged[i].ID] = i
	}
	for i := range pending {
		p := &pending[i]
		n, known := at[p.ID]
		switch {
		case !known:
			at[p.ID] = len(merged)
			merged = append(merged, *p)
		case p.Beats(&merged[n]):
			merged[n] = *p
		case n < len(base) && !p.Beats(&base[n]):
			shown = append(shown, *p)
		}
	}
	slices.SortFunc(merged, func(a, b transcript.Snapshot) int { return a.Compare(&b) })
	return transcript.LastAnswered(merged, limit), shown
}
