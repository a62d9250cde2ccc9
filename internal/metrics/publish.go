package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/publisher"
)

// Publish shows a publisher's figures.
func Publish(stats func() publisher.Stats) prometheus.Collector {
	type S = publisher.Stats
	return &figures[S]{stats, []figure[S]{
		total("afterword_publish_accepted_total", "Turns accepted into the buffer.", func(s *S) float64 { return float64(s.Accepted) }),
		total("afterword_publish_stored_total", "Turns that the stream has acknowledged.", func(s *S) float64 { return float64(s.Stored) }),
		total("afterword_publish_duplicates_total", "Of the stored turns, those that the stream already had.", func(s *S) float64 { return float64(s.Duplicates) }),
		total("afterword_publish_retries_total", "Tries after the first of a turn.", func(s *S) float64 { return float64(s.Retries) }),
		total("afterword_publish_overflow_total", "Turns refused because the buffer was full.", func(s *S) float64 { return float64(s.Overflows) }),
		total("afterword_publish_malformed_total", "Turns refused because they break a rule.", func(s *S) float64 { return float64(s.Malformed) }),
		total("afterword_publish_acks_total", "Acknowledgements by the stream; one of a batch counts once.", func(s *S) float64 { return float64(s.Acks) }),
		total("afterword_publish_set_aside_total", "Turns that the server refused while it took others; they are kept and tried again.", func(s *S) float64 { return float64(s.SetAside) }),
		gauge("afterword_publish_set_aside_turns", "Turns that the server refuses while it takes others, now.", func(s *S) float64 { return float64(s.Aside) }),
		gauge("afterword_publish_buffer_turns", "Turns accepted and not stored yet.", func(s *S) float64 { return float64(s.Turns) }),
		gauge("afterword_publish_buffer_bytes", "Payload bytes of the turns accepted and not stored yet.", func(s *S) float64 { return float64(s.Bytes) }),
		gauge("afterword_publish_buffer_oldest_age_seconds", "Age of the oldest turn that is not stored yet; 0 when there is none.", func(s *S) float64 { return s.Oldest.Seconds() }),
		gauge("afterword_publish_in_flight_turns", "Turns sent and not acknowledged yet.", func(s *S) float64 { return float64(s.InFlight) }),
		gauge("afterword_publish_unsettled_turns", "Stored turns kept because perhaps no history shows them yet.", func(s *S) float64 { return float64(s.Unsettled) }),
		gauge("afterword_publish_blocked_seconds", "How long nothing has got through to the stream; 0 while turns do.", func(s *S) float64 { return s.Blocked.Seconds() }),
		gauge("afterword_spool_turns", "Turns on the publisher's disk and not stored yet.", func(s *S) float64 { return float64(s.Spool.Turns) }),
		gauge("afterword_spool_away_turns", "Turns that are in the spool only, and not in memory, because the buffer is more than half full.", func(s *S) float64 { return float64(s.Spool.Away) }),
		gauge("afterword_spool_bytes", "Size of the spool's segments.", func(s *S) float64 { return float64(s.Spool.Bytes) }),
		gauge("afterword_spool_max_bytes", "What the spool may hold (--spool-max-bytes); 0 without a spool.", func(s *S) float64 { return float64(s.Spool.MaxBytes) }),
		gauge("afterword_spool_oldest_age_seconds", "Age of the oldest turn in the spool that is not stored yet, to within its segment; 0 when there is none.", func(s *S) float64 { return s.Spool.Oldest.Seconds() }),
		gauge("afterword_spool_segments", "Segments of the spool.", func(s *S) float64 { return float64(s.Spool.Segments) }),
		gauge("afterword_spool_blocked_seconds", "How long nothing can be spooled, because the disk fails or hangs or the spool is full; 0 while turns can.", func(s *S) float64 { return s.Spool.Blocked.Seconds() }),
		total("afterword_spool_syncs_total", "Groups of turns made durable in the spool.", func(s *S) float64 { return float64(s.Spool.Syncs) }),
		total("afterword_spool_sync_seconds_total", "Time spent on making groups of turns durable in the spool.", func(s *S) float64 { return s.Spool.SyncTime.Seconds() }),
		total("afterword_spool_failures_total", "File operations of the spool that failed; their turns stay in the buffer.", func(s *S) float64 { return float64(s.Spool.Failures) }),
		total("afterword_spool_damaged_segments_total", "Segments that were set aside because lines in them could not be read.", func(s *S) float64 { return float64(s.Spool.SetAside) }),
		total("afterword_spool_damaged_lines_total", "Lines of the spool that could not be read.", func(s *S) float64 { return float64(s.Spool.Lost) }),
	}}
}

// PublishDuration is for [publisher.Config.OnStored], in seconds.
func PublishDuration() prometheus.Histogram {
	return histogram("afterword_publish_duration_seconds", "Time from the acceptance of a turn to its acknowledgement by the stream.", waitBuckets)
}
