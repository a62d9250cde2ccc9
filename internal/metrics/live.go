package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/internal/live"
)

// Live shows who listens to turns as they are stored.
func Live(stats func() live.Stats) prometheus.Collector {
	type S = live.Stats
	return &figures[S]{stats, []figure[S]{
		gauge("afterword_events_clients", "Clients that listen to turns as they are stored.", func(s *S) float64 { return float64(s.Clients) }),
		total("afterword_events_turns_total", "Turns put into the queues of such clients, or read from the past for one.", func(s *S) float64 { return float64(s.Turns) }),
		total("afterword_events_missed_total", "Turns that left a queue because its client was too slow; it was told.", func(s *S) float64 { return float64(s.Missed) }),
		total("afterword_events_refused_total", "Clients refused because there were as many as there may be.", func(s *S) float64 { return float64(s.Refused) }),
	}}
}
