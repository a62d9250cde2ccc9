package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/internal/tracing"
)

// Tracing shows what became of spans.
func Tracing(stats func() tracing.Stats) prometheus.Collector {
	type S = tracing.Stats
	return &figures[S]{stats, []figure[S]{
		total("afterword_trace_spans_total", "Spans that ended; 0 without traces. Those neither exported nor failed wait, or were dropped because too many did.", func(s *S) float64 { return float64(s.Ended) }),
		total("afterword_trace_exported_spans_total", "Spans that the collector took.", func(s *S) float64 { return float64(s.Exported) }),
		total("afterword_trace_failed_spans_total", "Spans that the collector did not take; they are lost.", func(s *S) float64 { return float64(s.Failed) }),
	}}
}
