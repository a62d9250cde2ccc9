package transcript

import (
	"cmp"
	"slices"
)

// Version orders the states of one transcript, so that an older one never
// replaces a newer one in a cache.
type Version struct {
	ErasedThrough int64   // grows with every erasure of the session; 0 when there was none
	LastTimestamp Instant // of the last turn
	LastID        string  // of the last turn
	Revision      int64   // sum of rev over the transcript
}

// Compare orders versions by their members, in the order of the declaration.
func (v Version) Compare(o Version) int {
	return cmp.Or(
		cmp.Compare(v.ErasedThrough, o.ErasedThrough),
		cmp.Compare(v.LastTimestamp, o.LastTimestamp),
		cmp.Compare(v.LastID, o.LastID),
		cmp.Compare(v.Revision, o.Revision))
}

// Recent is the end of a transcript.
type Recent struct {
	Turns   []Snapshot // the last answered turns, oldest first
	Version Version
	// Partial says that turns may be missing: it was read from a stream that has removed messages.
	Partial bool
}

// LastAnswered returns the last n answered turns of turns, which are in
// transcript order: those that are [Snapshot.Answered] and that no later turn
// supersedes.
func LastAnswered(turns []Snapshot, n int) []Snapshot {
	var superseded map[string]bool
	kept := make([]Snapshot, 0, min(n, len(turns)))
	for i := len(turns) - 1; i >= 0 && len(kept) < n; i-- {
		s := &turns[i]
		if s.Answered() && !superseded[s.ID] {
			kept = append(kept, *s)
		}
		if s.Supersedes != "" {
			if superseded == nil {
				superseded = make(map[string]bool)
			}
			superseded[s.Supersedes] = true
		}
	}
	slices.Reverse(kept)
	return kept
}
