package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/internal/stream"
)

// labelled is one number of an S, among several that a label tells apart.
type labelled[S any] struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*S) float64
}

type streams struct {
	last      func() stream.Observation
	reachable *prometheus.Desc
	streams   []labelled[stream.StreamInfo]
	groups    []labelled[stream.ConsumerInfo]
}

// Streams shows both streams and the groups that consume turns, as a [stream.Watch]
// saw them last. Every process that serves metrics shows the same: the figures are
// there when no consumer runs.
func Streams(last func() stream.Observation) prometheus.Collector {
	type S = stream.StreamInfo
	type G = stream.ConsumerInfo
	s := func(name, help string, value func(*S) float64) labelled[S] {
		return labelled[S]{prometheus.NewDesc(name, help, []string{"stream"}, nil), prometheus.GaugeValue, value}
	}
	g := func(name, help string, kind prometheus.ValueType, value func(*G) float64) labelled[G] {
		return labelled[G]{prometheus.NewDesc(name, help, []string{"group"}, nil), kind, value}
	}
	return &streams{
		last: last,
		reachable: prometheus.NewDesc("afterword_stream_reachable",
			"1 while the streams can be looked at; without that there are no figures of streams and groups.", nil, nil),
		streams: []labelled[S]{
			s("afterword_stream_messages", "Messages in the stream.", func(s *S) float64 { return float64(s.Messages) }),
			s("afterword_stream_bytes", "What the messages of the stream take, replicas not counted.", func(s *S) float64 { return float64(s.Bytes) }),
			s("afterword_stream_max_bytes", "What the messages of the stream may take; 0 means no limit.", func(s *S) float64 { return float64(s.MaxBytes) }),
			s("afterword_stream_max_messages", "How many messages the stream may hold; 0 means no limit.", func(s *S) float64 { return float64(s.MaxMsgs) }),
			s("afterword_stream_max_age_seconds", "How long the stream keeps a message; 0 means for ever.", func(s *S) float64 { return s.MaxAge.Seconds() }),
			s("afterword_stream_oldest_age_seconds", "Age of the oldest message in the stream; 0 when it is empty.", func(s *S) float64 { return age(s.FirstTime) }),
			s("afterword_stream_subjects", "Subjects in the stream: sessions, in the stream of turns.", func(s *S) float64 { return float64(s.Subjects) }),
			s("afterword_stream_misconfigured", "1 when the stream has a setting under which turns could be lost; `afterword stream info` names it.", func(s *S) float64 { return truth(s.Problem != "") }),
		},
		groups: []labelled[G]{
			g("afterword_group_lag_turns", "Turns in the stream that the group has not acknowledged.", prometheus.GaugeValue, func(c *G) float64 { return float64(c.Lag()) }),
			g("afterword_group_lag_seconds", "Age of the oldest turn that the group has not acknowledged, by the clock of NATS; 0 when there is none.", prometheus.GaugeValue, func(c *G) float64 { return c.LagAge.Seconds() }),
			g("afterword_group_pending_turns", "Turns that nobody of the group was given yet.", prometheus.GaugeValue, func(c *G) float64 { return float64(c.Pending) }),
			g("afterword_group_ack_pending_turns", "Turns that were given to somebody of the group and are not acknowledged.", prometheus.GaugeValue, func(c *G) float64 { return float64(c.AckPending) }),
			g("afterword_group_redelivered_turns", "Turns that are not acknowledged and were given more than once.", prometheus.GaugeValue, func(c *G) float64 { return float64(c.Redelivered) }),
			g("afterword_group_deliveries_total", "Turns given to the group since it was made, every delivery counted.", prometheus.CounterValue, func(c *G) float64 { return float64(c.Deliveries) }),
		},
	}
}

func age(t *time.Time) float64 {
	if t == nil {
		return 0
	}
	return max(0, time.Since(*t).Seconds())
}

// Describe implements [prometheus.Collector].
func (s *streams) Describe(out chan<- *prometheus.Desc) {
	out <- s.reachable
	for i := range s.streams {
		out <- s.streams[i].desc
	}
	for i := range s.groups {
		out <- s.groups[i].desc
	}
}

// Collect implements [prometheus.Collector].
func (s *streams) Collect(out chan<- prometheus.Metric) {
	seen := s.last().Streams
	out <- prometheus.MustNewConstMetric(s.reachable, prometheus.GaugeValue, truth(len(seen) > 0))
	for i := range seen {
		info := &seen[i]
		for _, f := range s.streams {
			out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(info), info.Name)
		}
		if info.Name != stream.Turns {
			continue
		}
		for j := range info.Consumers {
			c := &info.Consumers[j]
			if !c.Durable { // of a reader: its name is an id
				continue
			}
			for _, f := range s.groups {
				out <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(c), c.Name)
			}
		}
	}
}

// NATS shows whether there is a connection.
func NATS(connected func() bool) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "afterword_nats_connected", Help: "1 while there is a connection to NATS.",
	}, func() float64 { return truth(connected()) })
}
