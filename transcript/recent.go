package transcript

import "cmp"

// Version orders the states of one transcript, so that an older one never
// replaces a newer one in a cache.
type Version struct {
	ErasedThrough int64   // grows with every erasure of the session; 0 when there was none
	LastTimestamp Instant // of the last turn
	LastID        string  // of the last turn
	Revision      int64   // sum of rev over the transcript
}

// Compare orders versions by what only grows while turns are merged: erasures, then the sum of rev. The last
// turn does not order them, since a snapshot that wins may have an earlier timestamp than the one before.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.ErasedThrough, o.ErasedThrough), cmp.Compare(v.Revision, o.Revision))
}

// Recent is the end of a path through a transcript.
type Recent struct {
	Turns   []Snapshot // answered turns, from the first of them to the leaf
	Version Version    // of the whole transcript
	// More says that the path may go on before the first of Turns.
	More bool
	// Partial says that turns may be missing from the transcript: it was read from a stream that has removed
	// messages, or from a folder that lacks turns. Known says that Turns are right all the same.
	Partial, Known bool
}

// Short reports whether turns of the path may be missing.
func (r *Recent) Short() bool { return r.Partial && !r.Known }

// LastAnswered returns the last n turns of the recent history of a session: of the
// path from the newest answered turn to its first turn. turns are in transcript order.
func LastAnswered(turns []Snapshot, n int) []Snapshot {
	path, _ := walkPath(snapshots(turns), true, PathQuery{Limit: n}) // a slice can be read
	return path.Turns
}
