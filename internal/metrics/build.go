package metrics

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// Build shows which build this is. The value is always 1.
func Build(version, revision string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "afterword_build_info",
		Help:        "Which build this is; the value is always 1.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "go_version": runtime.Version()},
	})
	g.Set(1)
	return g
}
