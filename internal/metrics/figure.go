package metrics

import "github.com/prometheus/client_golang/prometheus"

// figure is one number of a part's state S.
type figure[S any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*S) float64
}

func total[S any](name, help string, value func(*S) float64) figure[S] {
	return figure[S]{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, value}
}

func gauge[S any](name, help string, value func(*S) float64) figure[S] {
	return figure[S]{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, value}
}

// figures collects the numbers of one state, read once per scrape.
type figures[S any] struct {
	state func() S
	list  []figure[S]
}

// Describe implements [prometheus.Collector].
func (f *figures[S]) Describe(out chan<- *prometheus.Desc) {
	for i := range f.list {
		out <- f.list[i].desc
	}
}

// Collect implements [prometheus.Collector].
func (f *figures[S]) Collect(out chan<- prometheus.Metric) {
	s := f.state()
	f.collect(&s, out)
}

func (f *figures[S]) collect(s *S, out chan<- prometheus.Metric) {
	for i := range f.list {
		fig := &f.list[i]
		out <- prometheus.MustNewConstMetric(fig.desc, fig.kind, fig.value(s))
	}
}

// byLabel are the numbers of a state and one total by a label.
type byLabel[S any] struct {
	figures[S]
	total *prometheus.Desc
	each  func(s *S, show func(label string, n uint64))
}

// Describe implements [prometheus.Collector].
func (l *byLabel[S]) Describe(out chan<- *prometheus.Desc) {
	l.figures.Describe(out)
	out <- l.total
}

// Collect implements [prometheus.Collector].
func (l *byLabel[S]) Collect(out chan<- prometheus.Metric) {
	s := l.state()
	l.collect(&s, out)
	l.each(&s, func(label string, n uint64) {
		out <- prometheus.MustNewConstMetric(l.total, prometheus.CounterValue, float64(n), label)
	})
}

// truth is 1 for what is so.
func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// diskBuckets are for what one or a few syncs take, in seconds.
var diskBuckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// waitBuckets are for the way of a turn, in seconds.
var waitBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
}

func describe(out chan<- *prometheus.Desc, all ...prometheus.Collector) {
	for _, c := range all {
		c.Describe(out)
	}
}

func collect(out chan<- prometheus.Metric, all ...prometheus.Collector) {
	for _, c := range all {
		c.Collect(out)
	}
}
