package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/transcript"
)

// Store shows a transcript store's figures.
func Store(stats func() transcript.Stats) prometheus.Collector {
	type S = transcript.Stats
	return &figures[S]{stats, []figure[S]{
		gauge("afterword_store_failed", "1 when making data durable has failed; the process ends then, because nothing can be said of what was written.", func(s *S) float64 { return truth(s.Failed) }),
		gauge("afterword_store_disk_size_bytes", "Size of the file system of the transcripts.", func(s *S) float64 { return float64(s.Space.Bytes) }),
		gauge("afterword_store_disk_free_bytes", "What is free of the file system of the transcripts, as of the last look, some seconds ago.", func(s *S) float64 { return float64(s.Space.FreeBytes) }),
		gauge("afterword_store_disk_inodes", "Files that the file system of the transcripts has room for; 0 when it has no bound.", func(s *S) float64 { return float64(s.Space.Inodes) }),
		gauge("afterword_store_disk_free_inodes", "Files that the file system of the transcripts still has room for, as of the last look.", func(s *S) float64 { return float64(s.Space.FreeInodes) }),
		total("afterword_store_appended_total", "Turns written to tails.", func(s *S) float64 { return float64(s.Appended) }),
		total("afterword_store_syncs_total", "Batches made durable.", func(s *S) float64 { return float64(s.Syncs) }),
		total("afterword_store_sync_seconds_total", "Time spent on making batches durable.", func(s *S) float64 { return s.SyncTime.Seconds() }),
		total("afterword_store_folds_total", "Documents replaced.", func(s *S) float64 { return float64(s.Folds) }),
		total("afterword_store_fold_seconds_total", "Time spent on folding tails into documents.", func(s *S) float64 { return s.FoldTime.Seconds() }),
		total("afterword_store_fold_failures_total", "Folds that failed; their turns stay durable in the tails.", func(s *S) float64 { return float64(s.FoldFailures) }),
		gauge("afterword_store_dirty_sessions", "Sessions whose tail holds more than their document.", func(s *S) float64 { return float64(s.Dirty) }),
		gauge("afterword_store_dirty_oldest_age_seconds", "How long the oldest of the dirty sessions has been dirty; 0 when there is none.", func(s *S) float64 { return s.OldestDirty.Seconds() }),
		gauge("afterword_store_operations_in_flight", "File operations under way, those of a hung disk included.", func(s *S) float64 { return float64(s.Operations) }),
	}}
}

// ReadMemory shows what readers of transcripts hold.
func ReadMemory(stats func() transcript.MemoryStats) prometheus.Collector {
	type S = transcript.MemoryStats
	return &figures[S]{stats, []figure[S]{
		gauge("afterword_read_memory_limit_bytes", "Memory that all readers of transcripts may hold together.", func(s *S) float64 { return float64(s.Size) }),
		gauge("afterword_read_memory_held_bytes", "What of it they hold.", func(s *S) float64 { return float64(s.Held) }),
		total("afterword_read_memory_refused_total", "Readers that waited in vain for their part of it.", func(s *S) float64 { return float64(s.Refused) }),
	}}
}

// StoreTimes are for [transcript.Config]: OnSync and OnFold.
type StoreTimes struct{ sync, fold prometheus.Histogram }

// NewStoreTimes makes them, with nothing observed.
func NewStoreTimes() *StoreTimes {
	return &StoreTimes{
		sync: histogram("afterword_store_sync_duration_seconds", "Time to make one batch durable (fsync).", diskBuckets),
		fold: histogram("afterword_store_fold_duration_seconds", "Time to fold one group of sessions from their tails into their documents.", diskBuckets),
	}
}

// Synced and Folded observe one batch, and one group of sessions.
func (t *StoreTimes) Synced(took time.Duration) { t.sync.Observe(took.Seconds()) }
func (t *StoreTimes) Folded(took time.Duration) { t.fold.Observe(took.Seconds()) }

// Describe implements [prometheus.Collector].
func (t *StoreTimes) Describe(out chan<- *prometheus.Desc) { describe(out, t.sync, t.fold) }

// Collect implements [prometheus.Collector].
func (t *StoreTimes) Collect(out chan<- prometheus.Metric) { collect(out, t.sync, t.fold) }
