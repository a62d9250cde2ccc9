package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// probeSlack makes a probe come after the breaker's time, not just before it.
const probeSlack = 5 * time.Millisecond

// errCancelled is for the breaker: the caller went away, which says nothing of Redis.
var errCancelled = errors.New("cancelled by the caller")

// What a breaker is for. Reads and writes have one each: Redis may answer the
// ones and refuse the others for hours.
const (
	reads  = "reads"
	writes = "writes"
)

// breaker lets operations through while Redis answers them. When it is open, they
// fail at once and a probe in the background decides when it closes: no user's
// request has to wait for a Redis that may still hang.
type breaker struct {
	cb    *gobreaker.TwoStepCircuitBreaker[struct{}]
	of    string // reads or writes
	wait  time.Duration
	probe func(ctx context.Context, why error) error // why it is open
	fails func(error) bool                           // whether an error counts
	log   *troubleLog
	// definite is set just before an error counts that more tries would not change.
	definite atomic.Bool
	// quiet says that the last operation had no answer at all.
	quiet atomic.Bool

	mu        sync.Mutex
	closed    bool
	last      error // that opened it, or of the latest probe
	recovered []func()
	tripped   []func()
	stop      context.CancelFunc // of the latest probing; nil before the first
	probes    sync.WaitGroup
}

func newBreaker(c Config, of string, log *troubleLog, fails func(error) bool, probe func(context.Context, error) error) *breaker {
	b := &breaker{of: of, wait: c.BreakerWait, probe: probe, fails: fails, log: log}
	b.cb = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Timeout: c.BreakerWait,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			return n.ConsecutiveFailures >= uint32(c.BreakerFailures) || b.definite.Load()
		},
		IsSuccessful: func(err error) bool { return !fails(err) },
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

// cause is why the breaker is open, nil while it is closed.
func (b *breaker) cause() error {
	if b.up() {
		return nil
	}
	return b.why()
}

func (b *breaker) why() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// unavailable is [ErrUnavailable] with what Redis said.
func (b *breaker) unavailable() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last == nil {
		return ErrUnavailable
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, reason(b.last))
}

// allow returns what to call with the outcome, or [ErrUnavailable]. definite says of
// an error that counts that the next try would get it too.
func (b *breaker) allow(definite func(error) bool) (func(error), error) {
	if !b.up() { // half-open is for the probe
		return nil, b.unavailable()
	}
	done, err := b.cb.Allow()
	if err != nil {
		return nil, b.unavailable()
	}
	return func(err error) {
		if b.fails(err) && !errors.Is(err, errCancelled) {
			b.mu.Lock()
			b.last = err
			b.mu.Unlock()
			b.definite.Store(definite(err))
		}
		b.heard(err)
		done(err)
	}, nil
}

// heard notes whether there was an answer.
func (b *breaker) heard(err error) {
	if !errors.Is(err, errCancelled) {
		b.quiet.Store(b.fails(err) && !refused(err))
	}
}

// onRecover has fn called when the breaker closes again, onTrip when it opens.
// Neither may block.
func (b *breaker) onRecover(fn func()) {
	b.mu.Lock()
	b.recovered = append(b.recovered, fn)
	b.mu.Unlock()
}

func (b *breaker) onTrip(fn func()) {
	b.mu.Lock()
	b.tripped = append(b.tripped, fn)
	b.mu.Unlock()
}

func (b *breaker) startProbing() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	why, tripped := b.last, b.tripped
	b.probes.Go(func() {
		defer stop()
		for _, fn := range tripped {
			fn()
		}
		if forbidden(why) { // a check names what is missing, which Redis does not of what a script may not do
			var missing *missingError
			if err := b.probe(ctx, why); errors.As(err, &missing) {
				why = err
				b.mu.Lock()
				b.last = err
				b.mu.Unlock()
			}
		}
		b.log.note(b.of, why)
		b.probing(ctx)
	})
}

// probing runs from the moment the breaker opens until it is closed again.
func (b *breaker) probing(ctx context.Context) {
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
	b.log.note(b.of, nil)
	b.announce()
}

// announce tells whoever waits that operations may be let through again.
func (b *breaker) announce() {
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
	err = b.probe(ctx, b.why())
	failed := b.fails(err)
	if failed && ctx.Err() == nil {
		b.mu.Lock()
		b.last = err
		b.mu.Unlock()
		b.log.note(b.of, err)
	}
	b.heard(err)
	done(err)
	return !failed
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
