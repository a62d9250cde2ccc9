package stream

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// DefaultWatchEvery is how often a [Watch] looks.
const DefaultWatchEvery = 10 * time.Second

// lookAgain is when a look that has found nothing is repeated, at the latest.
const lookAgain = time.Second

// WatchConfig says what to look at. JS is asked for.
type WatchConfig struct {
	JS jetstream.JetStream
	// Every is the time between two looks; zero means [DefaultWatchEvery].
	Every  time.Duration
	Logger *slog.Logger
}

// Watch looks at the streams now and then, for who must not wait for them. A look is
// a few requests, whatever the streams hold, each bounded by 5 s.
type Watch struct {
	cfg  WatchConfig
	last atomic.Pointer[Observation]
	late atomic.Uint64
	size atomic.Int64
}

// Observation is what a look has found.
type Observation struct {
	// Streams are both streams; none when the last look failed, so that nobody takes
	// old figures for new ones.
	Streams []StreamInfo
	// Late counts the looks so far that had no answer in time.
	Late uint64
}

// NewWatch makes a watch. Nothing happens before [Watch.Run].
func NewWatch(cfg WatchConfig) *Watch {
	cfg.Every = cmp.Or(cfg.Every, DefaultWatchEvery)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Watch{cfg: cfg}
	w.last.Store(&Observation{})
	return w
}

// Last returns what the last look has found. It does not wait.
func (w *Watch) Last() Observation {
	o := *w.last.Load()
	o.Late = w.late.Load()
	return o
}

// MaxMsgSize is the smaller max_msg_size of the streams, as last seen; 0 is none, or not known
// yet. It does not wait.
func (w *Watch) MaxMsgSize() int64 { return w.size.Load() }

// Run looks until ctx ends. That streams cannot be looked at is no error of it.
func (w *Watch) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		wait := w.cfg.Every
		if !w.look(ctx) {
			wait = min(wait, lookAgain)
		}
		timer.Reset(wait)
	}
}

func (w *Watch) look(ctx context.Context) (ok bool) {
	streams, err := Info(ctx, w.cfg.JS)
	if err != nil && ctx.Err() == nil {
		w.cfg.Logger.Debug("the streams could not be looked at", "error", err)
		if errors.Is(err, context.DeadlineExceeded) {
			w.late.Add(1)
		}
	}
	w.last.Store(&Observation{Streams: streams})
	if err == nil {
		w.size.Store(smallest(streams))
	}
	return err == nil
}

// MaxMsgSize is the smaller max_msg_size of the streams; 0 is none. Errors are those of [Info].
func MaxMsgSize(ctx context.Context, js jetstream.JetStream) (int64, error) {
	var infos []StreamInfo
	for _, name := range []string{Turns, Dead} {
		cfg, err := lookUp(ctx, js, name)
		if err != nil {
			return 0, err
		}
		infos = append(infos, StreamInfo{MaxMsgSize: int64(cfg.MaxMsgSize)})
	}
	return smallest(infos), nil
}

// smallest is the smallest max_msg_size that is a limit; 0 when none is.
func smallest(streams []StreamInfo) (size int64) {
	for _, s := range streams {
		if s.MaxMsgSize > 0 && (size == 0 || s.MaxMsgSize < size) {
			size = s.MaxMsgSize
		}
	}
	return size
}
