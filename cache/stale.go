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

	mu     sync.Mutex
	tasks  map[string]*task
	queue  []string
	later  map[string]*task // those of tasks that wait for another try
	next   time.Time        // when the first of later is due; zero when there is none
	hold   time.Time        // nothing is taken before: Redis refuses everything
	missed bool
	// behind says that sessions were missed, and that no walk that began later than
	// missedAt has refreshed all of them.
	behind   bool
	missedAt time.Time
	// lost says of behind that Redis has lost what it had: a walk has to go back as far as
	// entries live.
	lost              bool
	walked, walkedAll time.Time     // when the last walk began that refreshed all it found, and the last that went back so far
	marking           bool          // unmarked is kept
	unmarked          []string      // were refreshed since the last mark
	failing           int           // how many of tasks have failed
	changed           chan struct{} // gets something when what Redis is behind with may have changed
	written           bool          // Redis took something since the last outage
	closing           bool
	empty             chan struct{} // closed while tasks is empty
	room              chan struct{} // closed, and replaced, when a task goes away
}

type task struct {
	again  bool // changed while a worker has it
	taken  bool
	failed bool // its refresh has failed, so that Redis is behind with it
	tries  int  // failed reads in a row
	due    time.Time
	redis  bool // Redis did not take it, so it is tried when Redis recovers
}

func newStaleSet(limit int) *staleSet {
	s := &staleSet{
		max: limit, wake: make(chan struct{}, 1), stop: make(chan struct{}),
		tasks: make(map[string]*task), later: make(map[string]*task),
		empty: make(chan struct{}), room: make(chan struct{}), changed: make(chan struct{}, 1),
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

// tell says that what Redis is behind with may have changed.
func (s *staleSet) tell() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *staleSet) add(sessions []string) {
	s.mu.Lock()
	for _, session := range sessions {
		if !s.addLocked(session) && !s.closing {
			s.missed, s.behind, s.missedAt = true, true, time.Now()
		}
	}
	s.mu.Unlock()
	s.signal()
	s.tell()
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
	if s.marking && len(s.unmarked) <= s.max {
		s.unmarked = append(s.unmarked, session)
	}
	if t.failed {
		s.failing--
		defer s.tell()
	}
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
	if !t.failed {
		t.failed = true
		s.failing++
		s.tell()
	}
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

// isBehind reports whether Redis is behind with a session. While Redis takes no writes,
// it is with all that wait.
func (s *staleSet) isBehind(session string, writable bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind {
		return true
	}
	t := s.tasks[session]
	return t != nil && (t.failed || !writable)
}

// behindWith lists the sessions that Redis is behind with; all is true instead when they are more
// than limit, or when nobody knows which.
func (s *staleSet) behindWith(limit int, writable bool) (sessions []string, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.failing
	if !writable {
		n = len(s.tasks)
	}
	switch {
	case s.behind || n > limit:
		return nil, true
	case n == 0:
		return nil, false
	}
	for session, t := range s.tasks {
		if t.failed || !writable {
			sessions = append(sessions, session)
		}
	}
	return sessions, false
}

// walkedSince says that a walk over all sessions, which began at a time, has refreshed what it found.
// all says that it went back as far as entries live.
func (s *staleSet) walkedSince(began time.Time, all bool) {
	s.mu.Lock()
	s.walked = later(s.walked, began)
	if all {
		s.walkedAll = later(s.walkedAll, began)
	}
	if began.After(s.missedAt) && (all || !s.lost) {
		s.behind, s.lost = false, false
	}
	s.mu.Unlock()
	s.tell()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// lastWalk is when the last walk began, or the last that went back as far as entries live.
func (s *staleSet) lastWalk(all bool) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all {
		return s.walkedAll
	}
	return s.walked
}

// lose says that Redis has lost something that was written.
func (s *staleSet) lose() {
	s.mu.Lock()
	s.behind, s.lost, s.missedAt, s.unmarked = true, true, time.Now(), nil
	s.mu.Unlock()
	s.tell()
}

func (s *staleSet) hasLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// takeUnmarked returns the sessions that were refreshed since it was called last; all is true when
// there were too many.
func (s *staleSet) takeUnmarked() (sessions []string, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.marking = true
	sessions, s.unmarked = s.unmarked, nil
	return sessions, len(sessions) > s.max
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
