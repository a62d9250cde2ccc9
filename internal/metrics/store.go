package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/transcript"
)

// Store shows a transcript store's figures.
func Store(stats func() transcript.Stats) prometheus.Collector {
	type S = transcript.Stats
	return &figures[S]{stats, []figure[S]{
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
