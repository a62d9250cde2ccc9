package cache

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// probeSlack makes a probe come after the breaker's time, not just before it.
const probeSlack = 5 * time.Millisecond

// errCancelled is for the breaker: the caller went away, which says nothing of Redis.
var errCancelled = errors.New("cancelled by the caller")

// breaker lets operations through while Redis answers. When it is open, they
// fail at once and a probe in the background decides when it closes: no user's
// request has to wait for a Redis that may still hang.
type breaker struct {
	cb    *gobreaker.TwoStepCircuitBreaker[struct{}]
	wait  time.Duration
	probe func(context.Context) error
	log   *slog.Logger

	mu        sync.Mutex
	closed    bool
	last      error // that opened it
	recovered []func()
	stop      context.CancelFunc // of the latest probing; nil before the first
	probes    sync.WaitGroup
}

func newBreaker(c Config, probe func(context.Context) error) *breaker {
	b := &breaker{wait: c.BreakerWait, probe: probe, log: c.Logger}
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout:      c.BreakerWait,
		ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= uint32(c.BreakerFailures) },
		IsSuccessful: func(err error) bool { return !down(err) },
		IsExcluded:   func(err error) bool { return errors.Is(err, errCancelled) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			// The breaker is locked here, so nothing may ask it anything.
			if from == gobreaker.StateClosed && to == gobreaker.StateOpen {
				b.startProbing()
			}
		},
	})
	return b
}

// up reports whether operations are let through.
func (b *breaker) up() bool { return b.cb.State() == gobreaker.StateClosed }

// allow returns what to call with the outcome, or [ErrUnavailable].
func (b *breaker) allow() (func(error), error) {
	if !b.up() { // half-open is for the probe
		return nil, ErrUnavailable
	}
	done, err := b.cb.Allow()
	if err != nil {
		return nil, ErrUnavailable
	}
	return func(err error) {
		if down(err) && !errors.Is(err, errCancelled) {
			b.mu.Lock()
			b.last = err
			b.mu.Unlock()
		}
		done(err)
	}, nil
}

func (b *breaker) onRecover(fn func()) {
	b.mu.Lock()
	b.recovered = append(b.recovered, fn)
	b.mu.Unlock()
}

func (b *breaker) startProbing() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	why := b.last
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.probes.Add(1)
	go func() {
		defer b.probes.Done()
		defer stop()
		b.probing(ctx, time.Now(), why)
	}()
}

// probing runs from the moment the breaker opens until it is closed again.
func (b *breaker) probing(ctx context.Context, since time.Time, why error) {
	b.log.Warn("Redis does not answer, going on without it", "error", why)
	timer := time.NewTimer(b.wait + probeSlack)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if b.probeOnce(ctx) {
			break
		}
		timer.Reset(b.wait + probeSlack)
	}
	b.log.Info("Redis answers again", "after", time.Since(since).Round(time.Millisecond))
	b.mu.Lock()
	recovered := b.recovered
	b.mu.Unlock()
	for _, fn := range recovered {
		fn()
	}
}

func (b *breaker) probeOnce(ctx context.Context) bool {
	done, err := b.cb.Allow()
	if err != nil {
		return false
	}
	err = b.probe(ctx)
	done(err)
	return !down(err)
}

// close ends probing.
func (b *breaker) close() {
	b.mu.Lock()
	b.closed = true
	if b.stop != nil {
		b.stop()
	}
	b.mu.Unlock()
	b.probes.Wait()
}
