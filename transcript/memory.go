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
func (m *Memory) Hold() *Held {
	h := &Held{memory: m}
	if m != nil {
		h.patience = m.wait
	}
	return h
}

// Held is what one reader holds; nil has no bound.
type Held struct {
	memory   *Memory
	patience time.Duration // how much longer it waits, all waits together

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
	wctx, cancel := context.WithTimeout(ctx, h.patience)
	defer cancel()
	began := time.Now()
	err := m.sem.Acquire(wctx, more)
	h.patience -= time.Since(began)
	if err != nil {
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
	h.free()
}

// free is called with mu held.
func (h *Held) free() {
	if h.granted > 0 {
		h.memory.held.Add(-h.granted)
		h.memory.sem.Release(h.granted)
		h.granted = 0
	}
}

type keepKey struct{}

// Keep returns a context whose reads of paths go on holding, after they return, what their turns take, until
// the Held is released. Without it they hold memory only until they return. Of several reads, one after another, only
// what the last returned is held.
func Keep(ctx context.Context) (context.Context, *Held) {
	kept := &Held{}
	return context.WithValue(ctx, keepKey{}, kept), kept
}

// HoldIn is Hold for a read of a path: it begins with what an earlier read of the same context held.
func (m *Memory) HoldIn(ctx context.Context) *Held {
	h := m.Hold()
	if kept, _ := ctx.Value(keepKey{}).(*Held); kept != nil && m != nil {
		kept.give(h, m.size)
	}
	return h
}

// Return releases all but what turns take, if the context keeps that.
func (h *Held) Return(ctx context.Context, turns []Snapshot) {
	if h == nil {
		return
	}
	if kept, _ := ctx.Value(keepKey{}).(*Held); kept != nil && h.memory != nil {
		n := int64(0)
		for i := range turns {
			n += int64(turns[i].Size())
		}
		h.give(kept, n)
	}
	h.Release()
}

// give moves up to n bytes to another reader, unless that has come to its end.
func (h *Held) give(to *Held, n int64) {
	h.mu.Lock()
	n = min(n, h.granted)
	h.granted -= n
	memory := h.memory
	h.mu.Unlock()
	if n == 0 {
		return
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	to.memory = memory
	if to.granted += n; to.over {
		to.free()
	}
}

// shortError says how much memory an operation needs that could not have it at once.
type shortError struct{ need int64 }

func (e *shortError) Error() string { return ErrMemory.Error() }

func (e *shortError) Unwrap() error { return ErrMemory }

// withMemory calls fn with as much memory as it turns out to need, at least so much. The
// caller releases it; after an error there is nothing to release.
func (s *Store) withMemory(ctx context.Context, least int64, fn func(h *Held) error) (*Held, error) {
	patience := s.cfg.Memory.Hold().patience
	for {
		h := s.cfg.Memory.HoldIn(ctx)
		h.patience = patience
		err := h.Grow(ctx, least)
		if err == nil {
			h.used = 0
			if err = fn(h); err == nil {
				return h, nil
			}
		}
		h.Release()
		patience = h.patience
		var short *shortError
		if !errors.As(err, &short) {
			return nil, err
		}
		least = short.need
	}
}
