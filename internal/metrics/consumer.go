package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/consumer"
)

// Consumer shows a consumer's figures. ready is its own readiness.
func Consumer(stats func() consumer.Stats, ready func() error) prometheus.Collector {
	type S = consumer.Stats
	return &byLabel[S]{figures[S]{stats, []figure[S]{
		gauge("afterword_consumer_ready", "1 while this consumer takes turns; /readyz says why it does not.", func(*S) float64 { return truth(ready() == nil) }),
		gauge("afterword_consumer_rebind_done_messages", "Messages that the replay of --rebind has got through.", func(s *S) float64 { return float64(s.Rebind.Done) }),
		gauge("afterword_consumer_rebind_messages", "Messages that the replay of --rebind has to get through; 0 without one.", func(s *S) float64 { return float64(s.Rebind.Total) }),
		total("afterword_consumer_fetched_total", "Messages delivered to this consumer.", func(s *S) float64 { return float64(s.Fetched) }),
		total("afterword_consumer_redelivered_total", "Messages delivered to this consumer that had been delivered before.", func(s *S) float64 { return float64(s.Redelivered) }),
		total("afterword_consumer_acked_total", "Turns made durable and acknowledged.", func(s *S) float64 { return float64(s.Acked) }),
		total("afterword_consumer_naked_total", "Messages given back to be delivered again.", func(s *S) float64 { return float64(s.Naked) }),
		total("afterword_consumer_batches_total", "Batches made durable.", func(s *S) float64 { return float64(s.Batches) }),
		total("afterword_consumer_dead_letter_failures_total", "Dead letters that could not be stored; their messages come again.", func(s *S) float64 { return float64(s.DeadFailed) }),
		total("afterword_consumer_pauses_total", "Times that fetching stopped because transcripts could not be written.", func(s *S) float64 { return float64(s.Pauses) }),
		total("afterword_consumer_walks_total", "Complete walks over the transcripts.", func(s *S) float64 { return float64(s.Walks) }),
		total("afterword_consumer_repairs_total", "Sessions whose damaged files were set aside and rebuilt.", func(s *S) float64 { return float64(s.Repaired) }),
		total("afterword_consumer_repair_failures_total", "Repairs that failed; they are tried again.", func(s *S) float64 { return float64(s.RepairsFailed) }),
		total("afterword_consumer_lost_turns_total", "Turns that only damaged files had; the log names them.", func(s *S) float64 { return float64(s.LostTurns) }),
		total("afterword_consumer_lost_lines_total", "Unreadable lines of damaged files that the stream does not account for; the log names their sessions.", func(s *S) float64 { return float64(s.LostLines) }),
		gauge("afterword_consumer_in_flight_turns", "Turns between fetch and acknowledgement.", func(s *S) float64 { return float64(s.InFlight) }),
		gauge("afterword_consumer_pending_turns", "Turns in the stream that the group was not given yet, as of the last message.", func(s *S) float64 { return float64(s.Pending) }),
	}}, prometheus.NewDesc("afterword_consumer_dead_letters_total", "Messages put into the dead-letter stream, by kind of reason.", []string{"reason"}, nil), func(s *S, show func(string, uint64)) {
		for i, kind := range consumer.ReasonKinds {
			show(string(kind), uint64(s.DeadOf[i]))
		}
	}}
}

// Batches is for [consumer.Config.OnCommit].
type Batches struct{ turns, bytes, took, latency prometheus.Histogram }

// NewBatches makes it, with nothing observed.
func NewBatches() *Batches {
	return &Batches{
		turns:   histogram("afterword_consumer_batch_turns", "Turns of the batches made durable.", []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 4000, 8000}),
		bytes:   histogram("afterword_consumer_batch_bytes", "Payload bytes of the batches made durable.", prometheus.ExponentialBuckets(1<<10, 4, 8)),
		took:    histogram("afterword_consumer_commit_duration_seconds", "Time from the fetch of the first turn of a batch to the acknowledgement of all.", waitBuckets),
		latency: histogram("afterword_consumer_latency_seconds", "Time from stored to durable of the oldest turn of each batch, by the clocks of NATS and of this machine.", waitBuckets),
	}
}

// Committed observes one batch.
func (b *Batches) Committed(c consumer.Committed) {
	b.turns.Observe(float64(c.Turns))
	b.bytes.Observe(float64(c.Bytes))
	b.took.Observe(c.Took.Seconds())
	b.latency.Observe(c.Latency.Seconds())
}

// Describe implements [prometheus.Collector].
func (b *Batches) Describe(out chan<- *prometheus.Desc) {
	describe(out, b.turns, b.bytes, b.took, b.latency)
}

// Collect implements [prometheus.Collector].
func (b *Batches) Collect(out chan<- prometheus.Metric) {
	collect(out, b.turns, b.bytes, b.took, b.latency)
}
