package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/afterword-io/afterword/consumer"
)

// Run shows one replay or verification, while it runs and after it.
type Run struct {
	figures[run]

	mu  sync.Mutex
	now run
}

type run struct {
	progress        consumer.Progress
	began, ended    time.Time
	failed          bool
	replayed        consumer.ReplayResult
	verified        consumer.VerifyResult
	differing, lost int // so far
}

// unix is a time as Prometheus has it; 0 is never.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func newRun(prefix, what string, more ...figure[run]) *Run {
	r := &Run{now: run{began: time.Now()}}
	r.state = func() run {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.now
	}
	r.list = append([]figure[run]{
		gauge(prefix+"done_messages", "Messages of the stream that the "+what+" has got through.", func(s *run) float64 { return float64(s.progress.Done) }),
		gauge(prefix+"messages", "Messages that the "+what+" has to get through, as far as it knows.", func(s *run) float64 { return float64(s.progress.Total) }),
		gauge(prefix+"started_timestamp_seconds", "When the "+what+" began.", func(s *run) float64 { return unix(s.began) }),
		gauge(prefix+"finished_timestamp_seconds", "When the "+what+" ended; 0 while it runs.", func(s *run) float64 { return unix(s.ended) }),
		gauge(prefix+"failed", "1 when the "+what+" ended before it had done everything.", func(s *run) float64 { return truth(s.failed) }),
	}, more...)
	return r
}

// Replay shows a replay.
func Replay() *Run {
	return newRun("afterword_replay_", "replay",
		gauge("afterword_replay_turns", "Turns that the replay has merged, when it has ended.", func(s *run) float64 { return float64(s.replayed.Turns) }),
		gauge("afterword_replay_skipped_messages", "Messages that the replay has passed over because they are no turns, when it has ended.", func(s *run) float64 { return float64(s.replayed.Skipped) }),
	)
}

// Verify shows a verification.
func Verify() *Run {
	return newRun("afterword_verify_", "verification",
		gauge("afterword_verify_differing_sessions", "Sessions that differ and were not repaired: as they are found, and in the end all of them.", func(s *run) float64 { return float64(s.differing) }),
		gauge("afterword_verify_lost_sessions", "Sessions of whose damaged files something is lost.", func(s *run) float64 { return float64(s.lost) }),
		gauge("afterword_verify_sessions", "Sessions that were compared, when it has ended.", func(s *run) float64 { return float64(s.verified.Sessions) }),
		gauge("afterword_verify_repaired_sessions", "Differing sessions that were repaired, when it has ended.", func(s *run) float64 { return float64(s.verified.Repaired) }),
		gauge("afterword_verify_missing_turns", "Turns that the stream has and a transcript had not, when it has ended.", func(s *run) float64 { return float64(s.verified.Missing) }),
		gauge("afterword_verify_stale_turns", "Turns of which the stream had a newer snapshot, when it has ended.", func(s *run) float64 { return float64(s.verified.Stale) }),
		gauge("afterword_verify_file_only_turns", "Turns that only files have, which is no difference, when it has ended.", func(s *run) float64 { return float64(s.verified.FileOnly) }),
	)
}

func (r *Run) change(fn func(*run)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fn(&r.now)
}

// Progress notes how far it is.
func (r *Run) Progress(p consumer.Progress) { r.change(func(s *run) { s.progress = p }) }

// Difference notes a session that differs.
func (r *Run) Difference(d consumer.Difference) {
	if d.Mended == nil || !d.Mended.Right() {
		r.change(func(s *run) { s.differing++ })
	}
}

// Replayed and Verified note the end.
func (r *Run) Replayed(res consumer.ReplayResult, err error) {
	r.change(func(s *run) { s.ended, s.failed, s.replayed = time.Now(), err != nil, res })
}

func (r *Run) Verified(res consumer.VerifyResult, err error) {
	r.change(func(s *run) {
		s.ended, s.failed, s.verified = time.Now(), err != nil, res
		s.differing, s.lost = res.Differing-res.Repaired, res.Lost
	})
}

var _ prometheus.Collector = (*Run)(nil)
