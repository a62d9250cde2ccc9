package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// Parts are what a process has that waits, each by what it has counted; a nil one
// is not there.
type Parts struct {
	Store     func() transcript.Stats
	Consumer  func() consumer.Stats
	Publisher func() publisher.Stats
	Redis     func() cache.Stats
	History   func(cache.Source) uint64 // reads that were late
	Streams   func() stream.Observation
	HTTP      func() (bodies, checks uint64)
}

type timeouts struct {
	Parts
	desc *prometheus.Desc
}

// Timeouts shows how often each wait has reached its bound.
func Timeouts(of Parts) prometheus.Collector {
	return &timeouts{of, prometheus.NewDesc("afterword_timeouts_total",
		"Waits that ended at their bound, by part and operation.", []string{"part", "op"}, nil)}
}

// Describe implements [prometheus.Collector].
func (t *timeouts) Describe(out chan<- *prometheus.Desc) { out <- t.desc }

// Collect implements [prometheus.Collector].
func (t *timeouts) Collect(out chan<- prometheus.Metric) {
	show := func(part, op string, n float64) {
		out <- prometheus.MustNewConstMetric(t.desc, prometheus.CounterValue, n, part, op)
	}
	if t.Store != nil {
		for _, l := range t.Store().Late {
			show("store", l.Op, float64(l.N))
		}
	}
	if t.Consumer != nil {
		show("consumer", "dead_letter", float64(t.Consumer().DeadLate))
	}
	if t.Publisher != nil {
		s := t.Publisher()
		show("publisher", "ack", float64(s.Late))
		if s.Spool.MaxBytes > 0 { // there is one
			show("spool", "disk", float64(s.Spool.Late))
		}
	}
	if t.Redis != nil {
		s := t.Redis()
		for _, c := range s.Counts {
			if c.Outcome == cache.Timeout {
				show("redis", string(c.Op), float64(c.N))
			}
		}
		show("redis", "pool", float64(s.PoolTimeouts))
	}
	if t.History != nil {
		for _, source := range [...]cache.Source{cache.FromFile, cache.FromStream} {
			show("history", string(source), float64(t.History(source)))
		}
	}
	if t.Streams != nil {
		show("stream", "look", float64(t.Streams().Late))
	}
	if t.HTTP != nil {
		bodies, checks := t.HTTP()
		show("http", "body", float64(bodies))
		show("http", "check", float64(checks))
	}
}
