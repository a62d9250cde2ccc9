package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/internal/console"
)

// ConsoleReplays shows the replays that were started from a console.
func ConsoleReplays(stats func() console.ReplayStats) prometheus.Collector {
	type S = console.ReplayStats
	return &byLabel[S]{figures[S]{stats, []figure[S]{
		gauge("afterword_console_replays_running", "Replays started from the console that are running.", func(s *S) float64 { return float64(s.Running) }),
		gauge("afterword_console_replays_done_messages", "Messages of the stream that the running ones have got through.", func(s *S) float64 { return float64(s.Done) }),
		gauge("afterword_console_replays_messages", "Messages that the running ones have to get through, as far as they know.", func(s *S) float64 { return float64(s.Total) }),
	}}, prometheus.NewDesc("afterword_console_replays_total", "Replays started from the console that have ended, by how: done, failed or cancelled.", []string{"result"}, nil), func(s *S, show func(string, uint64)) {
		for how, n := range s.Ended {
			show(how, n)
		}
	}}
}
