package cache

import (
	"fmt"
	"sync"
	"time"
)

// stallRecheck is how long a read looks again before it takes Redis for stalled: a process
// that was stopped itself finds the answers that came meanwhile.
const stallRecheck = 5 * time.Millisecond

// stall notices that Redis has stopped answering before the bounds of single operations
// say so: as many are under way as there are connections, and none has been answered for
// some time. Who asks then would only wait for a connection. With 1,000 reads a second
// and a wait of 250 ms that were 250 to 300 of them until the breaker opened.
type stall struct {
	after time.Duration
	size  int // connections

	mu    sync.Mutex
	busy  int       // operations under way
	moved time.Time // when one was answered last, or the first of them began
}

// begin notes an operation.
func (s *stall) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy++; s.busy == 1 {
		s.moved = time.Now()
	}
}

// end notes that an operation has ended, with an answer or without.
func (s *stall) end(answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy--
	if answered {
		s.moved = time.Now()
	}
}

// check fails with [ErrUnavailable] while nobody is being answered.
func (s *stall) check() error {
	if s.stuck() {
		return fmt.Errorf("%w: none of the operations under way, at least %d, was answered for %s", ErrUnavailable, s.size, s.after)
	}
	return nil
}

// stuck reports whether nobody is being answered.
func (s *stall) stuck() bool {
	if !s.late() {
		return false
	}
	time.Sleep(stallRecheck)
	return s.late()
}

func (s *stall) late() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy >= s.size && time.Since(s.moved) > s.after
}
