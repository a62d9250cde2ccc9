package transcript

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// Defaults of [NewMemory].
const (
	// DefaultReadMemory is for some thousand readers of transcripts in files. Less refuses
	// readers sooner; more lets the process grow.
	DefaultReadMemory     = 256 << 20
	DefaultReadMemoryWait = 2 * time.Second
)

// ErrMemory says that readers hold all the memory that they may: try again later.
var ErrMemory = errors.New("all memory for reading transcripts is in use")

// Memory bounds what all readers of a process hold of transcripts at one time. A nil
// Memory has no bound. It is safe for concurrent use.
type Memory struct {
	size    int64
	wait    time.Duration
	sem     *semaphore.Weighted
	held    atomic.Int64
	refused atomic.Uint64
}

// NewMemory makes a bound of so many bytes, for which a reader waits at most so long.
// Zeros mean the defaults.
func NewMemory(size int64, wait time.Duration) *Memory {
	size = cmp.Or(size, DefaultReadMemory)
	return &Memory{size: size, wait: cmp.Or(wait, DefaultReadMemoryWait), sem: semaphore.NewWeighted(size)}
}

// MemoryStats are figures of a [Memory].
type MemoryStats struct {
	Size, Held int64  // bytes
	Refused    uint64 // readers that waited in vain
}

// Stats returns the figures.
func (m *Memory) Stats() MemoryStats {
	if m == nil {
		return MemoryStats{}
	}
	return MemoryStats{Size: m.size, Held: m.held.Load(), Refused: m.refused.Load()}
}

// Hold begins with nothing.
func (m *Memory) Hold() *Held { return &Held{memory: m} }

// Held is what one reader holds; nil has no bound.
type Held struct {
	memory *Memory

	mu      sync.Mutex // an operation that is late still asks for memory
	granted int64
	used    int64
	over    bool
}

// Grow takes n bytes more, and waits for them if it must: it fails with [ErrMemory]. A
// reader that needs more than there is waits until it is alone. It is not called by two
// goroutines at once.
func (h *Held) Grow(ctx context.Context, n int64) error {
	if h == nil || h.memory == nil || h.take(n) == nil {
		return nil
	}
	m := h.memory
	h.mu.Lock()
	more := min(h.used, m.size) - h.granted
	h.mu.Unlock()
	wctx, cancel := context.WithTimeout(ctx, m.wait)
	defer cancel()
	if err := m.sem.Acquire(wctx, more); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		m.refused.Add(1)
		return fmt.Errorf("%w: waited %v for %d bytes of %d: read again later, or raise --read-memory", ErrMemory, m.wait, more, m.size)
	}
	m.held.Add(more)
	h.mu.Lock()
	h.granted += more
	h.mu.Unlock()
	return nil
}

// take is Grow for operations that must not wait, because they hold a place among the
// file operations. Its error tells [Store.withMemory] how much to wait for.
func (h *Held) take(n int64) error {
	if h == nil || h.memory == nil {
		return nil
	}
	m := h.memory
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return ErrMemory
	}
	h.used += n
	more := min(h.used, m.size) - h.granted
	if more <= 0 {
		return nil
	}
	if !m.sem.TryAcquire(more) {
		return &shortError{h.used}
	}
	m.held.Add(more)
	h.granted += more
	return nil
}

// Release gives everything back, for good.
func (h *Held) Release() {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	if h.granted > 0 {
		h.memory.held.Add(-h.granted)
		h.memory.sem.Release(h.granted)
		h.granted = 0
	}
}

// shortError says how much memory an operation needs that could not have it at once.
type shortError struct{ need int64 }

func (e *shortError) Error() string { return ErrMemory.Error() }

func (e *shortError) Unwrap() error { return ErrMemory }

// withMemory calls fn with as much memory as it turns out to need, at least so much. The
// caller releases it; after an error there is nothing to release.
func (s *Store) withMemory(ctx context.Context, least int64, fn func(h *Held) error) (*Held, error) {
	for {
		h := s.cfg.Memory.Hold()
		err := h.Grow(ctx, least)
		if err == nil {
			h.used = 0
			if err = fn(h); err == nil {
				return h, nil
			}
		}
		h.Release()
		var short *shortError
		if !errors.As(err, &short) {
			return nil, err
		}
		least = short.need
	}
}
