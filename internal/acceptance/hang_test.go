package acceptance

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/faults"
)

// hungFile is a file that other processes cannot read: their reads wait, in the
// kernel, as on a disk that does not answer, until release. The test's own go
// through.
type hungFile struct {
	path   string
	notify *os.File
	done   chan struct{}

	mu       sync.Mutex
	waiting  []int32 // descriptors of events that are not answered
	held     int     // reads that waited
	released bool
	err      error
}

// hangReads makes reads of a file hang. It takes root and a kernel with fanotify
// permission events, without which the test cannot run.
func hangReads(t *testing.T, path string) *hungFile {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if err != nil {
		faults.Lack(t, "a disk cannot be hung here: fanotify: %v (it takes root)", err)
	}
	h := &hungFile{path: path, notify: os.NewFile(uintptr(fd), "fanotify"), done: make(chan struct{})}
	// The folder is watched, not the file: the document is replaced by its folds.
	err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_ACCESS_PERM|unix.FAN_EVENT_ON_CHILD, unix.AT_FDCWD, filepath.Dir(path))
	if err != nil {
		h.notify.Close()
		faults.Lack(t, "a disk cannot be hung here: fanotify permission events: %v", err)
	}
	go h.decide()
	t.Cleanup(func() {
		h.release()
		h.notify.Close() // lets everybody go who still waits
		<-h.done
		if h.err != nil {
			t.Error(h.err)
		}
	})
	return h
}

// decide answers each read that another process tries.
func (h *hungFile) decide() {
	defer close(h.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := h.notify.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				h.err = fmt.Errorf("fanotify: %w", err)
			}
			return
		}
		const size = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))
		for at := 0; at+size <= n; {
			event := (*unix.FanotifyEventMetadata)(unsafe.Pointer(&buf[at]))
			h.event(event)
			at += int(event.Event_len)
		}
	}
}

func (h *hungFile) event(event *unix.FanotifyEventMetadata) {
	path, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", event.Fd))
	h.mu.Lock()
	defer h.mu.Unlock()
	if path == h.path && int(event.Pid) != os.Getpid() && !h.released {
		h.waiting = append(h.waiting, event.Fd)
		h.held++
		return
	}
	h.allow(event.Fd)
}

// allow runs under mu.
func (h *hungFile) allow(fd int32) {
	var answer [8]byte
	binary.NativeEndian.PutUint32(answer[:4], uint32(fd))
	binary.NativeEndian.PutUint32(answer[4:], unix.FAN_ALLOW)
	if _, err := h.notify.Write(answer[:]); err != nil && !errors.Is(err, os.ErrClosed) {
		h.err = fmt.Errorf("fanotify: %w", err)
	}
	unix.Close(int(fd))
}

// waits is how many reads hang.
func (h *hungFile) waits() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiting)
}

// release lets all reads go on.
func (h *hungFile) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released = true
	for _, fd := range h.waiting {
		h.allow(fd)
	}
	h.waiting = nil
}

// Reads really hang, and go on afterwards.
func TestHangReads(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	other := filepath.Join(dir, "b.json")
	for _, p := range []string{path, other} {
		if err := os.WriteFile(p, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h := hangReads(t, path)
	readFile(t, path) // our own
	if out := shell(t, "cat "+other); out() != "{}" {
		t.Errorf("another file reads %q", out())
	}
	out := shell(t, "cat "+path)
	eventually(t, startSoon, "cat waits", func() error {
		if h.waits() == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	spread(t, 100*time.Millisecond)
	if h.waits() != 1 {
		t.Errorf("%d reads wait", h.waits())
	}
	h.release()
	if got := out(); got != "{}" {
		t.Errorf("released: reads %q", got)
	}
}
