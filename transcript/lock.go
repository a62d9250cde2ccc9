package transcript

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// locks is a mutex per session, held by one append or fold at a time. It is not
// bound to a goroutine: an operation that is late keeps its lock until it ends.
type locks struct {
	mu   sync.Mutex
	held map[string]*heldLock
}

type heldLock struct {
	free    chan struct{} // has an element when nobody holds it
	waiting int           // who holds it, or waits for it
}

func (l *locks) init() { l.held = make(map[string]*heldLock) }

// acquire takes the lock of a token, and waits for it at most so long. It fails
// with ErrBusy.
func (l *locks) acquire(token string, wait time.Duration) error {
	l.mu.Lock()
	h := l.held[token]
	if h == nil {
		l.held[token] = &heldLock{free: make(chan struct{}, 1), waiting: 1}
		l.mu.Unlock()
		return nil
	}
	if wait == 0 {
		l.mu.Unlock()
		return ErrBusy
	}
	h.waiting++
	l.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-h.free:
		return nil
	case <-timer.C:
		l.leave(token, h)
		return ErrBusy
	}
}

func (l *locks) release(token string) {
	l.mu.Lock()
	h := l.held[token]
	l.mu.Unlock()
	h.free <- struct{}{}
	l.leave(token, h)
}

func (l *locks) leave(token string, h *heldLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.waiting--; h.waiting == 0 {
		delete(l.held, token)
	}
}

// flockPoll is how often a lock that another process holds is tried again.
const flockPoll = 2 * time.Millisecond

// lockTail opens the tail of a token and locks it against other processes until
// it is closed; wait bounds how long. Without create, a missing tail is fs.ErrNotExist.
func lockTail(dir *os.Root, token string, create bool, wait time.Duration) (*os.File, os.FileInfo, error) {
	name := token + tailSuffix
	flag := os.O_RDWR | os.O_APPEND
	if create {
		flag |= os.O_CREATE
	}
	for deadline := time.Now().Add(wait); ; {
		f, err := openOurs(dir, name, flag)
		if err != nil {
			return nil, nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			info, same, err := ours(dir, name, f)
			if err == nil && same {
				return f, info, nil
			}
			f.Close()
			if err != nil {
				return nil, nil, err
			}
			continue // replaced between opening and locking
		}
		f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, nil, &os.PathError{Op: "flock", Path: name, Err: err}
		}
		if time.Now().After(deadline) {
			return nil, nil, ErrBusy
		}
		time.Sleep(flockPoll)
	}
}

// unlockTail lets other processes have the tail while it stays open.
func unlockTail(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_UN)
}
