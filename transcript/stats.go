package transcript

import (
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Stats counts what a store did since it was opened.
type Stats struct {
	Appended     int64         // turns written to tails
	Syncs        int64         // batches made durable
	SyncTime     time.Duration // spent on that
	Folds        int64         // documents replaced
	FoldTime     time.Duration // spent on that
	FoldFailures int64
	LeftOut      int64         // turns that were not merged because their sessions had no room
	Dirty        int           // sessions whose tail holds more than their document
	OldestDirty  time.Duration // age of the oldest of them
	Operations   int           // file operations under way
	Failed       bool          // making data durable failed, so nothing is trusted any more
	Late         []Late        // every kind of operation, zeros included
	Space        Space         // as of the last look, some seconds ago; zeros before the first
}

// Late is how often one kind of file operation was late ([ErrLate]).
type Late struct {
	Op string
	N  int64
}

// lateOps are the kinds of file operations: the first word of their names. The last
// one is for all others.
var lateOps = [...]string{"append", "syncfs", "fdatasync", "fsync", "read", "list", "merge", "repair", "probe", "statfs", "other"}

type counters struct {
	appended, syncs, syncTime, folds, foldTime, foldFailures, leftOut atomic.Int64

	moved atomic.Int64 // when a file operation last ended, as Unix time in nanoseconds
	late  [len(lateOps)]atomic.Int64
	space atomic.Pointer[Space]
}

// tooLate counts an operation that was late.
func (c *counters) tooLate(op string) {
	kind, _, _ := strings.Cut(op, " ")
	at := slices.Index(lateOps[:], kind)
	if at < 0 {
		at = len(lateOps) - 1
	}
	c.late[at].Add(1)
}

func (c *counters) synced(took time.Duration) {
	c.syncs.Add(1)
	c.syncTime.Add(int64(took))
}

func (c *counters) folded(n int, took time.Duration) {
	c.folds.Add(int64(n))
	c.foldTime.Add(int64(took))
}

// Moved is when a file operation last ended, however it did; 1970 when none has.
func (s *Store) Moved() time.Time { return time.Unix(0, s.stats.moved.Load()) }

// Stats returns the counts so far.
func (s *Store) Stats() Stats {
	n, oldest := s.dirty.waitingSince()
	st := Stats{
		Appended: s.stats.appended.Load(),
		Syncs:    s.stats.syncs.Load(), SyncTime: time.Duration(s.stats.syncTime.Load()),
		Folds: s.stats.folds.Load(), FoldTime: time.Duration(s.stats.foldTime.Load()),
		FoldFailures: s.stats.foldFailures.Load(), LeftOut: s.stats.leftOut.Load(),
		Dirty: n, Operations: len(s.slots), Failed: s.Err() != nil,
	}
	for i, op := range lateOps {
		st.Late = append(st.Late, Late{op, s.stats.late[i].Load()})
	}
	if space := s.stats.space.Load(); space != nil {
		st.Space = *space
	}
	if n > 0 {
		st.OldestDirty = time.Since(oldest)
	}
	return st
}
