package transcript

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// each runs fn for 0 … n-1, a few at a time, and waits until all are done, until
// one of them takes longer than the file bound, or until ctx ends. Go cannot
// cancel a file operation: one that is late goes on by itself, nothing further
// is started, and the caller must not touch what it works on.
func (s *Store) each(ctx context.Context, op string, n, parallel int, fn func(i int) error) []error {
	r := &run{moved: &s.stats.moved, n: n, errs: make([]error, n), finished: make([]bool, n), done: make(chan struct{})}
	parallel = min(parallel, n)
	r.since = make([]time.Time, parallel)
	if n == 0 {
		return r.errs
	}
	r.running = parallel
	started := time.Now()
	for w := range parallel {
		select {
		case s.slots <- struct{}{}:
		default:
			if err := s.slot(ctx, started); err != nil {
				r.stop(parallel-w, fmt.Errorf("%s: %w", op, err))
				return s.wait(ctx, r, op)
			}
		}
		go func() {
			defer func() { <-s.slots }()
			r.work(w, fn)
		}()
	}
	return s.wait(ctx, r, op)
}

// wait returns how a run ended, and counts it if that was too late.
func (s *Store) wait(ctx context.Context, r *run, op string) []error {
	errs := r.wait(ctx, s.cfg.FileTimeout, op)
	if slices.ContainsFunc(errs, func(err error) bool { return errors.Is(err, ErrLate) }) {
		s.stats.tooLate(op)
	}
	return errs
}

// one runs a single bounded operation.
func (s *Store) one(ctx context.Context, op string, fn func() error) error {
	return s.each(ctx, op, 1, 1, func(int) error { return fn() })[0]
}

// slot waits for a place among the operations under way.
func (s *Store) slot(ctx context.Context, started time.Time) error {
	timer := time.NewTimer(time.Until(started.Add(s.cfg.FileTimeout)))
	defer timer.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return fmt.Errorf("%w: %d operations are under way and none has ended", ErrLate, cap(s.slots))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run is the state that workers and their caller share.
type run struct {
	moved *atomic.Int64 // of the store

	mu       sync.Mutex
	n        int
	next     int
	stopped  bool
	errs     []error
	finished []bool
	since    []time.Time // by worker: when its operation began; zero between two
	running  int
	done     chan struct{}
}

func (r *run) work(w int, fn func(int) error) {
	for i, ok := r.take(w, -1, nil); ok; {
		err := fn(i)
		i, ok = r.take(w, i, err)
	}
}

// take notes the result of the last operation and gives out the next.
func (r *run) take(w, last int, err error) (next int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if last >= 0 {
		r.moved.Store(now.UnixNano())
		if !r.stopped {
			r.errs[last], r.finished[last] = err, true
		}
	}
	if r.stopped || r.next == r.n {
		r.since[w] = time.Time{}
		if r.running--; r.running == 0 {
			close(r.done)
		}
		return 0, false
	}
	r.next++
	r.since[w] = now
	return r.next - 1, true
}

// stop gives up on everything that is not finished; missing workers never began.
func (r *run) stop(missing int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running -= missing; r.running == 0 && missing > 0 {
		close(r.done)
	}
	r.abandon(err)
}

func (r *run) abandon(err error) {
	r.stopped = true
	errs := make([]error, r.n) // late workers keep the old slice
	for i := range errs {
		if errs[i] = r.errs[i]; !r.finished[i] {
			errs[i] = err
		}
	}
	r.errs = errs
}

func (r *run) wait(ctx context.Context, bound time.Duration, op string) []error {
	tick := time.NewTicker(max(bound/16, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return r.errs
		case <-ctx.Done():
			r.mu.Lock()
			defer r.mu.Unlock()
			if !r.stopped {
				r.abandon(fmt.Errorf("%s: %w", op, context.Cause(ctx)))
			}
			return r.errs
		case <-tick.C:
			r.mu.Lock()
			late := r.stopped
			for _, since := range r.since {
				late = late || !since.IsZero() && time.Since(since) > bound
			}
			if late {
				if !r.stopped {
					r.abandon(fmt.Errorf("%s: %w (%v)", op, ErrLate, bound))
				}
				defer r.mu.Unlock()
				return r.errs
			}
			r.mu.Unlock()
		}
	}
}

// SessionFault reports whether err is about the files of one session only, so
// that other sessions can go on: a permission, a link, a corrupt file.
func SessionFault(err error) bool {
	var folder *FolderError
	if errors.As(err, &folder) {
		return false
	}
	var link *ForeignFileError
	var bad *CorruptError
	if errors.As(err, &link) || errors.As(err, &bad) {
		return true
	}
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.EPERM, syscall.ELOOP, syscall.EISDIR, syscall.ENOTDIR, syscall.EFBIG} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
