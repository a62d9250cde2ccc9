package consumer

import (
	"log/slog"
	"sync"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
)

// repeated logs the beginning and the end of failures of one kind, however many there are. It is
// safe for concurrent use.
type repeated struct {
	mu    sync.Mutex
	since time.Time
	times int
	err   error // the last one, at that time
	at    time.Time
}

// again notes a failure. Of a missing permission the beginning is not logged: the connection says it.
func (t *repeated) again(log *slog.Logger, what string, err error, attrs ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err, t.at = err, time.Now()
	if t.times++; t.times > 1 {
		return
	}
	t.since = t.at
	if !stream.Denied(err) { // the connection names a missing permission
		log.Warn(what, append(attrs, "error", err)...)
	}
}

// last returns the last failure, unless a success came after it or it is older than that.
func (t *repeated) last(within time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.times == 0 || time.Since(t.at) > within {
		return nil
	}
	return t.err
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
