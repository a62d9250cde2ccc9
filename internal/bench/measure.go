package bench

import (
	"math"
	"slices"
	"time"
)

// Measure is one figure of every run, and what they come to.
type Measure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Runs   []float64 `json:"runs"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Target *Target   `json:"target,omitempty"` // nil when the figure is there to be compared with
}

// Target is a figure to reach.
type Target struct {
	AtMost  bool    `json:"at_most"` // otherwise at least
	Value   float64 `json:"value"`
	Reached bool    `json:"reached"` // by the median
}

// Units.
const (
	turnsPerSecond = "turns/s"
	times          = "×"
	seconds        = "s"
	milliseconds   = "ms"
	microseconds   = "µs"
	mebibytes      = "MiB"
)

// measured makes a measure of its runs.
func measured(name, unit string, runs []float64) Measure {
	m := Measure{Name: name, Unit: unit, Runs: runs, Median: Median(runs)}
	if len(runs) > 0 {
		m.Min, m.Max = slices.Min(runs), slices.Max(runs)
	}
	return m
}

// ratio compares two measures run by run.
func ratio(name string, of, to Measure) Measure {
	runs := make([]float64, 0, len(of.Runs))
	for i := range of.Runs {
		if i < len(to.Runs) && to.Runs[i] > 0 {
			runs = append(runs, of.Runs[i]/to.Runs[i])
		}
	}
	return measured(name, times, runs)
}

// atLeast is m with a target.
func (m Measure) atLeast(value float64) Measure {
	m.Target = &Target{Value: value, Reached: len(m.Runs) > 0 && m.Median >= value}
	return m
}

// atMost is m with a target.
func (m Measure) atMost(value float64) Measure {
	m.Target = &Target{AtMost: true, Value: value, Reached: len(m.Runs) > 0 && m.Median <= value}
	return m
}

// Median is the middle of values, between the two middle ones when their number
// is even; 0 when there are none.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Latencies are the quantiles of how long many calls took.
type Latencies struct {
	P50, P95, P99, P999, Max time.Duration
}

// Quantiles sorts took and reads the quantiles off it.
func Quantiles(took []time.Duration) Latencies {
	if len(took) == 0 {
		return Latencies{}
	}
	slices.Sort(took)
	at := func(q float64) time.Duration {
		return took[max(0, min(len(took)-1, int(math.Ceil(q*float64(len(took))))-1))]
	}
	return Latencies{P50: at(0.5), P95: at(0.95), P99: at(0.99), P999: at(0.999), Max: took[len(took)-1]}
}

// collected gathers the figures of runs by name, in the order of their appearance.
type collected struct {
	order []string
	unit  map[string]string
	runs  map[string][]float64
}

func newCollected() *collected {
	return &collected{unit: make(map[string]string), runs: make(map[string][]float64)}
}

func (c *collected) add(name, unit string, value float64) {
	if _, ok := c.unit[name]; !ok {
		c.order = append(c.order, name)
		c.unit[name] = unit
	}
	c.runs[name] = append(c.runs[name], value)
}

func (c *collected) measure(name string) Measure { return measured(name, c.unit[name], c.runs[name]) }

func (c *collected) all() []Measure {
	list := make([]Measure, 0, len(c.order))
	for _, name := range c.order {
		list = append(list, c.measure(name))
	}
	return list
}
