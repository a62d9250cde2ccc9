package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/cache"
)

// breakerStates are those of [cache.Stats].
var breakerStates = [...]string{"closed", "half-open", "open"}

type redis struct {
	figures[cache.Stats]
	operations, breaker, writeBreaker *prometheus.Desc
}

// Redis shows the figures of what speaks Redis.
func Redis(stats func() cache.Stats) prometheus.Collector {
	type S = cache.Stats
	return &redis{
		figures: figures[S]{stats, []figure[S]{
			gauge("afterword_redis_connections", "Connections in the client's pool.", func(s *S) float64 { return float64(s.Connections) }),
			gauge("afterword_redis_idle_connections", "Connections in the client's pool that nobody uses.", func(s *S) float64 { return float64(s.IdleConnections) }),
			total("afterword_redis_pool_timeouts_total", "Waits for a connection of the pool that were in vain.", func(s *S) float64 { return float64(s.PoolTimeouts) }),
		}},
		operations: prometheus.NewDesc("afterword_redis_operations_total",
			"Operations, by what was asked and how it ended; a read that ended ok is a hit.", []string{"op", "outcome"}, nil),
		breaker: prometheus.NewDesc("afterword_redis_breaker_state",
			"1 for the state that the circuit breaker of reads is in; closed means that Redis is read.", []string{"state"}, nil),
		writeBreaker: prometheus.NewDesc("afterword_redis_write_breaker_state",
			"1 for the state that the circuit breaker of writes is in; closed means that Redis takes them.", []string{"state"}, nil),
	}
}

// Describe implements [prometheus.Collector].
func (r *redis) Describe(out chan<- *prometheus.Desc) {
	r.figures.Describe(out)
	out <- r.operations
	out <- r.breaker
	out <- r.writeBreaker
}

// Collect implements [prometheus.Collector].
func (r *redis) Collect(out chan<- prometheus.Metric) {
	s := r.state()
	r.collect(&s, out)
	for _, c := range s.Counts {
		out <- prometheus.MustNewConstMetric(r.operations, prometheus.CounterValue, float64(c.N), string(c.Op), string(c.Outcome))
	}
	for _, state := range breakerStates {
		out <- prometheus.MustNewConstMetric(r.breaker, prometheus.GaugeValue, one(s.Breaker == state), state)
		out <- prometheus.MustNewConstMetric(r.writeBreaker, prometheus.GaugeValue, one(s.WriteBreaker == state), state)
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

type history struct {
	stats func() []cache.HistoryCount
	reads *prometheus.Desc
}

// History shows where histories came from.
func History(stats func() []cache.HistoryCount) prometheus.Collector {
	return &history{stats, prometheus.NewDesc("afterword_history_reads_total",
		"Histories loaded, by where they were found; degraded means that something that should have answered did not.",
		[]string{"source", "degraded"}, nil)}
}

// Describe implements [prometheus.Collector].
func (h *history) Describe(out chan<- *prometheus.Desc) { out <- h.reads }

// Collect implements [prometheus.Collector].
func (h *history) Collect(out chan<- prometheus.Metric) {
	for _, c := range h.stats() {
		out <- prometheus.MustNewConstMetric(h.reads, prometheus.CounterValue, float64(c.N),
			string(c.Source), strconv.FormatBool(c.Degraded))
	}
}
