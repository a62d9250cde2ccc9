package cache

import (
	"context"
	"errors"
	"sync"
	"time"
)

var errClosed = errors.New("cache: the refresher is closed")

// staleSet is the bounded set of sessions that Redis may be behind with. A
// session is in it once: queued, taken by a worker, or waiting for another try.
type staleSet struct {
	max  int
	wake chan struct{} // there may be something to take
	stop chan struct{} // closed by close

	mu      sync.Mutex
	tasks   map[string]*task
	queue   []string
	later   map[string]*task // those of tasks that wait for another try
	next    time.Time        // when the first of later is due; zero when there is none
	hold    time.Time        // nothing is taken before: Redis refuses everything
	missed  bool
	written bool // Redis took something since the last outage
	closing bool
	empty   chan struct{} // closed while tasks is empty
	room    chan struct{} // closed, and replaced, when a task goes away
}

type task struct {
	again bool // changed while a worker has it
	taken bool
	tries int // failed reads in a row
	due   time.Time
	redis bool // Redis did not take it, so it is tried when Redis recovers
}

func newStaleSet(limit int) *staleSet {
	s := &staleSet{
		max: limit, wake: make(chan struct{}, 1), stop: make(chan struct{}),
		tasks: make(map[string]*task), later: make(map[string]*task),
		empty: make(chan struct{}), room: make(chan struct{}),
	}
	close(s.empty)
	return s
}

func (s *staleSet) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *staleSet) add(sessions []string) {
	s.mu.Lock()
	for _, session := range sessions {
		if !s.addLocked(session) && !s.closing {
			s.missed = true
		}
	}
	s.mu.Unlock()
	s.signal()
}

// addLocked returns false when there is no room.
func (s *staleSet) addLocked(session string) bool {
	if s.closing || !Cacheable(session) {
		return true
	}
	if t := s.tasks[session]; t != nil {
		t.again = t.taken
		return true
	}
	if len(s.tasks) >= s.max {
		return false
	}
	if len(s.tasks) == 0 {
		s.empty = make(chan struct{})
	}
	s.tasks[session] = &task{}
	s.queue = append(s.queue, session)
	return true
}

func (s *staleSet) addWait(ctx context.Context, session string) error {
	for {
		s.mu.Lock()
		added, closing, room := s.addLocked(session), s.closing, s.room
		s.mu.Unlock()
		switch {
		case closing:
			return errClosed
		case added:
			s.signal()
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// take returns up to n sessions, or when to ask again; zero means when woken.
// While Redis is down there are none. last says that there will be none any more.
func (s *staleSet) take(n int, up bool, now time.Time) (batch []string, next time.Time, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !up:
		return nil, time.Time{}, s.closing
	case now.Before(s.hold) && !s.closing:
		return nil, s.hold, false
	}
	if s.closing || !s.next.IsZero() && !now.Before(s.next) {
		s.next = time.Time{}
		for session, t := range s.later {
			if s.closing || !now.Before(t.due) {
				s.enqueueLocked(session, t)
			} else {
				s.dueLocked(t.due)
			}
		}
	}
	n = min(n, len(s.queue))
	batch, s.queue = s.queue[:n:n], s.queue[n:]
	for _, session := range batch {
		s.tasks[session].taken = true
	}
	if len(s.queue) > 0 {
		s.signal() // for another worker
	}
	return batch, s.next, s.closing && n == 0
}

func (s *staleSet) enqueueLocked(session string, t *task) {
	delete(s.later, session)
	s.queue = append(s.queue, session)
	t.redis = false
}

func (s *staleSet) dueLocked(due time.Time) {
	if s.next.IsZero() || due.Before(s.next) {
		s.next = due
	}
}

// pause takes nothing more until then, or until Redis recovers.
func (s *staleSet) pause(until time.Time) {
	s.mu.Lock()
	s.hold = until
	s.mu.Unlock()
}

// done says that a session that was taken is in Redis as it was read.
func (s *staleSet) done(session string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written = true
	t := s.tasks[session]
	if t.again {
		*t = task{}
		s.queue = append(s.queue, session)
		s.signal()
		return
	}
	delete(s.tasks, session)
	close(s.room)
	s.room = make(chan struct{})
	if len(s.tasks) == 0 {
		close(s.empty)
	}
}

// failed counts a failed read.
func (s *staleSet) failed(session string) (tries int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[session]
	t.tries++
	return t.tries
}

// retry puts a session back that was taken. While closing nothing is tried
// again; the session stays counted.
func (s *staleSet) retry(session string, due time.Time, redis bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[session]
	t.taken, t.again = false, false
	if redis {
		t.tries, s.written = 0, false
	}
	if s.closing {
		return
	}
	t.due, t.redis = due, redis
	s.later[session] = t
	s.dueLocked(due)
	s.signal() // somebody has to wait for it
}

// hurry makes everything due that waits for Redis.
func (s *staleSet) hurry() {
	s.mu.Lock()
	s.hold = time.Time{}
	for session, t := range s.later {
		if t.redis {
			s.enqueueLocked(session, t)
		}
	}
	s.mu.Unlock()
	s.signal()
}

// caughtUp reports once that sessions were missed and that there is room and a
// working Redis for them now.
func (s *staleSet) caughtUp() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.missed || !s.written || len(s.tasks) > s.max/2 {
		return false
	}
	s.missed = false
	return true
}

func (s *staleSet) size() (n int, missed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tasks), s.missed
}

func (s *staleSet) emptied() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.empty
}

func (s *staleSet) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return
	}
	s.closing = true
	close(s.stop)
}
