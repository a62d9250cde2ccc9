package metrics_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/metrics"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// all is everything that is shown, with something to show for every label.
func all(t *testing.T) *prometheus.Registry {
	t.Helper()
	redis, err := cache.New(cache.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { redis.Close() })
	history, err := cache.NewHistory(cache.HistoryConfig{})
	if err != nil {
		t.Fatal(err)
	}
	store, err := transcript.Open(transcript.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close(t.Context()) })
	streams := func() stream.Observation {
		return stream.Observation{Late: 3, Streams: []stream.StreamInfo{
			{Name: stream.Turns, Messages: 7, MaxAge: time.Hour, Consumers: []stream.ConsumerInfo{
				{Name: "transcripts", Durable: true, Pending: 4, AckPending: 1, LagAge: 90 * time.Second},
				{Name: "reader-of-a-moment"},
			}},
			{Name: stream.Dead, Messages: 2},
		}}
	}
	consumed := func() consumer.Stats { return consumer.Stats{DeadLate: 1} }
	published := func() publisher.Stats {
		return publisher.Stats{Late: 2, Spool: publisher.SpoolStats{MaxBytes: 1, Late: 4}}
	}
	reg := prometheus.NewPedanticRegistry()
	for _, c := range []prometheus.Collector{
		metrics.Build("v1", "abc"), metrics.Consumer(consumed, func() error { return nil }), metrics.NewBatches(),
		metrics.Publish(published), metrics.PublishDuration(), metrics.Redis(redis.Stats), metrics.History(history.Stats),
		metrics.Store(store.Stats), metrics.NewStoreTimes(), metrics.Streams(streams), metrics.NATS(func() bool { return true }),
		metrics.Replay(), metrics.Verify(), metrics.ReadMemory(transcript.NewMemory(0, 0).Stats),
		metrics.Timeouts(metrics.Parts{
			Store: store.Stats, Consumer: consumed, Publisher: published, Redis: redis.Stats, History: history.Late, Streams: streams,
			HTTP: func() (bodies, checks uint64) { return 5, 6 },
		}),
	} {
		if err := reg.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	return reg
}

// Names, types and texts follow the conventions of Prometheus.
func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(all(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// labels are all that there are. Each has few values, however many sessions there are.
var labels = []string{"degraded", "go_version", "group", "op", "outcome", "part", "reason", "revision", "source", "state", "stream", "version"}

func TestLabels(t *testing.T) {
	families, err := all(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "afterword_") {
			t.Errorf("%s is nobody's", f.GetName())
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if !slices.Contains(labels, l.GetName()) || l.GetValue() == "reader-of-a-moment" {
					t.Errorf("%s has the label %s=%q", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
}

// What is shown is what was counted.
func TestFigures(t *testing.T) {
	want := `
# HELP afterword_group_lag_seconds Age of the oldest turn that the group has not acknowledged, by the clock of NATS; 0 when there is none.
# TYPE afterword_group_lag_seconds gauge
afterword_group_lag_seconds{group="transcripts"} 90
# HELP afterword_group_lag_turns Turns in the stream that the group has not acknowledged.
# TYPE afterword_group_lag_turns gauge
afterword_group_lag_turns{group="transcripts"} 5
# HELP afterword_stream_messages Messages in the stream.
# TYPE afterword_stream_messages gauge
afterword_stream_messages{stream="AFTERWORD_DEAD"} 2
afterword_stream_messages{stream="AFTERWORD_TURNS"} 7
`
	if err := testutil.GatherAndCompare(all(t), strings.NewReader(want), "afterword_group_lag_seconds", "afterword_group_lag_turns", "afterword_stream_messages"); err != nil {
		t.Error(err)
	}
	families, err := all(t).Gather()
	if err != nil {
		t.Fatal(err)
	}
	late := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != "afterword_timeouts_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			late[m.GetLabel()[1].GetValue()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	for what, n := range map[string]float64{"consumer dead_letter": 1, "publisher ack": 2, "stream look": 3, "spool disk": 4, "http body": 5, "http check": 6, "store append": 0, "redis read": 0, "redis pool": 0, "history file": 0} {
		if got, ok := late[what]; !ok || got != n {
			t.Errorf("%s: %v, not %v (%v)", what, got, n, late)
		}
	}
}

// Without a look at the streams there are no figures of them.
func TestStreamsNotSeen(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(metrics.Streams(func() stream.Observation { return stream.Observation{} }))
	want := `
# HELP afterword_stream_reachable 1 while the streams can be looked at; without that there are no figures of streams and groups.
# TYPE afterword_stream_reachable gauge
afterword_stream_reachable 0
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
