package transcript

import (
	"context"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/folder"
)

// syncer makes everything written so far durable, once for all who ask at the
// same time: a caller is served by a sync that began after its call.
type syncer struct {
	store *Store

	mu      sync.Mutex
	current *round // under way
	next    *round // begins when the current one has ended
}

type round struct {
	done chan struct{}
	err  error
}

// all waits for a sync of the whole file system that began after the call.
func (y *syncer) all(ctx context.Context) error {
	r := y.join()
	return y.store.one(ctx, "syncfs", func() error {
		<-r.done
		return r.err
	})
}

func (y *syncer) join() *round {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.current != nil {
		if y.next == nil {
			y.next = &round{done: make(chan struct{})}
		}
		return y.next
	}
	y.current = &round{done: make(chan struct{})}
	go y.loop(y.current)
	return y.current
}

func (y *syncer) loop(r *round) {
	for r != nil {
		if r.err = y.store.Err(); r.err == nil {
			if err := y.store.now().durable.syncAll(); err != nil {
				r.err = y.store.fail("syncfs", err)
			}
		}
		close(r.done)
		y.mu.Lock()
		r, y.next = y.next, nil
		y.current = r
		y.mu.Unlock()
	}
}

// syncFile makes the content of one file durable.
func (s *Store) syncFile(f *os.File) error {
	if err := s.Err(); err != nil {
		return err
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return s.fail(fmt.Sprintf("fdatasync %s", f.Name()), err)
	}
	return nil
}

// syncFolders makes new names in folders durable, and confirms that what was synced before
// it is.
func (s *Store) syncFolders(dirs map[*os.Root]bool) error {
	for dir := range dirs {
		if err := s.Err(); err != nil {
			return err
		}
		if err := syncFolder(dir); err != nil {
			return s.fail("fsync "+dir.Name(), err)
		}
	}
	if err := folder.Confirm(s.now().durable.dir); err != nil {
		return s.fail("fsync", err)
	}
	return nil
}
