package transcript

import (
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
	Dirty        int           // sessions whose tail holds more than their document
	OldestDirty  time.Duration // age of the oldest of them
	Operations   int           // file operations under way
}

type counters struct {
	appended, syncs, syncTime, folds, foldTime, foldFailures atomic.Int64
}

func (c *counters) synced(took time.Duration) {
	c.syncs.Add(1)
	c.syncTime.Add(int64(took))
}

func (c *counters) folded(n int, took time.Duration) {
	c.folds.Add(int64(n))
	c.foldTime.Add(int64(took))
}

// Stats returns the counts so far.
func (s *Store) Stats() Stats {
	n, oldest := s.dirty.waitingSince()
	st := Stats{
		Appended: s.stats.appended.Load(),
		Syncs:    s.stats.syncs.Load(), SyncTime: time.Duration(s.stats.syncTime.Load()),
		Folds: s.stats.folds.Load(), FoldTime: time.Duration(s.stats.foldTime.Load()),
		FoldFailures: s.stats.foldFailures.Load(),
		Dirty:        n, Operations: len(s.slots),
	}
	if n > 0 {
		st.OldestDirty = time.Since(oldest)
	}
	return st
}
