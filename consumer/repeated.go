package consumer

import (
	"log/slog"
	"sync"
	"time"
)

// repeated logs the beginning and the end of failures of one kind, however many there are. It is
// safe for concurrent use.
type repeated struct {
	mu    sync.Mutex
	since time.Time
	times int
}

// again notes a failure.
func (t *repeated) again(log *slog.Logger, what string, attrs ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.times++; t.times == 1 {
		t.since = time.Now()
		log.Warn(what, attrs...)
	}
}

// over notes a success.
func (t *repeated) over(log *slog.Logger, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.times > 0 {
		log.Info(what, "after", time.Since(t.since).Round(time.Millisecond), "failures", t.times)
		t.times = 0
	}
}
