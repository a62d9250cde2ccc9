package live

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
)

// read is the goroutine of a round.
func (f *Feed) read(ctx context.Context, r *round) {
	defer r.stop()
	t, err := f.begin(ctx, r)
	if err != nil {
		f.mu.Lock()
		r.err = err
		if f.round == r {
			f.round = nil // who comes next tries anew
		}
		f.mu.Unlock()
		close(r.began)
		return
	}
	close(r.began)
	var failed time.Time // when reading failed last; zero once a message came since
	for t != nil {
		m, meta, err := t.Next(ctx)
		if err == nil {
			if !failed.IsZero() {
				f.cfg.Logger.Info("live turns: the stream is read again")
				failed = time.Time{}
			}
			f.deliver(r, m, meta)
			continue
		}
		t.Close()
		if ctx.Err() != nil {
			return
		}
		if time.Since(failed) > sameTrouble {
			f.cfg.Logger.Warn("live turns: the stream cannot be read, trying again", "error", err)
		}
		failed = time.Now()
		f.setAway(r, err)
		if t = f.again(ctx, r); t != nil {
			f.setAway(r, nil)
		}
	}
}

// sameTrouble is how soon after a failure the next one is the same trouble, which was logged.
const sameTrouble = time.Minute

// begin reads what is stored from now on.
func (f *Feed) begin(ctx context.Context, r *round) (*stream.Reader, error) {
	state, created, err := f.state(ctx)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	r.last, r.created = state.LastSeq, created
	f.mu.Unlock()
	return f.openTape(ctx, state.LastSeq, "", liveBytes)
}

// again goes on behind what was read last, when it can; nil is never, because ctx ended.
func (f *Feed) again(ctx context.Context, r *round) *stream.Reader {
	wait := backoff.NewExponentialBackOff(backoff.WithInitialInterval(min(100*time.Millisecond, f.cfg.RetryMax)),
		backoff.WithMaxInterval(f.cfg.RetryMax), backoff.WithMaxElapsedTime(0))
	for {
		state, created, err := f.state(ctx)
		if err == nil {
			f.account(r, state, created)
			var t *stream.Reader
			if t, err = f.openTape(ctx, r.last, "", liveBytes); err == nil {
				return t
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		f.setAway(r, err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// account tells all clients what they miss when the stream is not what it was.
func (f *Feed) account(r *round, state jetstream.StreamState, created time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gap := Gap{Reason: Expired, After: r.last}
	var to uint64
	switch {
	case !created.Equal(r.created) || state.LastSeq < r.last:
		gap.Reason, to = Reset, state.LastSeq
	case state.FirstSeq > r.last+1:
		to = state.FirstSeq - 1
		gap.Missed = to - r.last
	default:
		return
	}
	r.last, r.created = to, created
	for c := range f.clients {
		if c.round == r {
			c.push(Item{Sequence: to, Gap: &gap})
		}
	}
}

// deliver gives a message to those who want it.
func (f *Feed) deliver(r *round, m jetstream.Msg, meta *jetstream.MsgMetadata) {
	turn, err := consumer.TurnOf(m, meta)
	f.mu.Lock()
	defer f.mu.Unlock()
	r.last = meta.Sequence.Stream
	if err != nil {
		return
	}
	for c := range f.clients {
		if c.round == r {
			c.push(Item{Sequence: meta.Sequence.Stream, Stored: meta.Timestamp, Turn: turn})
		}
	}
}

func (f *Feed) setAway(r *round, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.away = err
}
