package publisher_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// loopDisk is an ext4 of the test's own.
type loopDisk struct {
	t          *testing.T
	image, dir string
	hung       bool
}

func newLoopDisk(t *testing.T) *loopDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		faults.Lack(t, "needs root: mounts a file system")
	}
	base := t.TempDir()
	d := &loopDisk{t: t, image: filepath.Join(base, "image"), dir: filepath.Join(base, "disk")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, 64<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.command("mkfs.ext4", "-q", d.image)
	d.command("mount", "-o", "loop", d.image, d.dir)
	t.Cleanup(func() {
		d.resume()
		if err := unix.Unmount(d.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

func (d *loopDisk) command(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		faults.Lack(d.t, "needs a loop device: %s: %v: %s", name, err, out)
	}
}

// hang makes every write wait, as on a dead disk or file server, until resume.
func (d *loopDisk) hang() {
	d.command("fsfreeze", "-f", d.dir)
	d.hung = true
}

func (d *loopDisk) resume() {
	if d.hung {
		d.command("fsfreeze", "-u", d.dir)
		d.hung = false
	}
}

// remount mounts it again, as it is on disk.
func (d *loopDisk) remount() {
	d.t.Helper()
	servertest.Eventually(d.t, patience, "the disk to be unmounted", func() bool { return unix.Unmount(d.dir, 0) == nil })
	d.command("mount", "-o", "loop", d.image, d.dir)
}

// stillStored checks that the stream takes turns as if there were no spool.
func stillStored(t *testing.T, p *publisher.Publisher, n int) (keys []string) {
	t.Helper()
	for range n {
		began := time.Now()
		r := must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "question"}))
		if took := time.Since(began); took > 5*time.Second { // it would wait for good
			t.Errorf("Publish took %v", took)
		}
		waitStored(t, r)
		keys = append(keys, key("s", r.ID, r.Rev))
	}
	return keys
}

// A full disk keeps turns from being spooled and nothing else; it heals by itself.
func TestSpoolDiskIsFull(t *testing.T) {
	disk := faults.Small(t, 1<<20, 0).Dir()
	w := newStreamWorld(t)
	var lines syncBuffer
	dir := filepath.Join(disk, "spool")
	p := w.spooling(dir, func(c *publisher.Config) { c.Logger = slog.New(slog.NewTextHandler(&lines, nil)) })
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	keys := stillStored(t, p, 50)
	w.srv.Stop()
	rs, more := publishN(t, p, 300)
	servertest.Eventually(t, patience, "the spool to fail", func() bool { return p.Stats().Spool.Failures > 3 })
	if s := p.Stats(); s.Spool.Turns != 0 || s.Spool.Blocked == 0 || rs[0].Level() != publisher.Buffered {
		t.Errorf("%v %+v", rs[0].Level(), s)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	waitLevel(t, publisher.Spooled, rs...)
	if s := p.Stats(); s.Spool.Blocked != 0 {
		t.Errorf("healed: %+v", s)
	}
	if n := strings.Count(lines.String(), "the spool cannot be written"); n != 1 || !strings.Contains(lines.String(), "can be written again") {
		t.Errorf("log:\n%s", lines.String())
	}
	leave(t, p)
	p = w.spooling(dir, nil)
	servertest.Eventually(t, patience, "the spool to be read", func() bool { return p.Stats().Spool.Turns == 300 })
	w.srv.Restart()
	closeNow(t, p)
	w.checkOnce(append(keys, more...))
}

// A disk that dies, so that every operation fails with EIO for good, stops nothing else.
func TestSpoolDiskDies(t *testing.T) {
	disk := newLoopDisk(t).dir
	w := newStreamWorld(t)
	p := w.spooling(filepath.Join(disk, "spool"), nil)
	w.srv.Stop()
	rs, keys := publishN(t, p, 50)
	waitLevel(t, publisher.Spooled, rs...)
	shutdown(t, disk)
	rs, more := publishN(t, p, 50)
	servertest.Eventually(t, patience, "the spool to fail", func() bool { return p.Stats().Spool.Failures > 3 })
	for _, r := range rs {
		if r.Level() != publisher.Buffered {
			t.Fatalf("level %v on a dead disk", r.Level())
		}
	}
	w.srv.Restart()
	waitStored(t, rs...)
	keys = append(append(keys, more...), stillStored(t, p, 20)...)
	closeNow(t, p)
	w.checkOnce(keys)
}

// shutdown makes a file system fail at once, as a disk that is pulled out.
func shutdown(t *testing.T, dir string) {
	t.Helper()
	const ioctl, withoutFlush = 0x8004587d, uint32(2) // EXT4_IOC_SHUTDOWN, of its log
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ioctl, int(withoutFlush)); err != nil {
		faults.Lack(t, "needs to shut a file system down: %v", err)
	}
}

// A hung disk holds up neither callers nor the stream, nor New, nor Close; when it
// answers again, so does the spool.
func TestSpoolDiskHangs(t *testing.T) {
	d := newLoopDisk(t)
	disk, hang, resume := d.dir, d.hang, d.resume
	w := newStreamWorld(t)
	dir := filepath.Join(disk, "spool")
	const bound = 300 * time.Millisecond
	var lines syncBuffer
	set := func(c *publisher.Config) {
		c.SpoolTimeout, c.AckTimeout = bound, time.Second // upkeep is as often as acknowledgements may take
		c.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	}
	p := w.spooling(dir, set)
	waitStored(t, must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: "first", User: "q"})))
	w.purge()
	before := runtime.NumGoroutine()
	w.srv.Stop()
	rs, keys := publishN(t, p, 10)
	waitLevel(t, publisher.Spooled, rs...)

	lates := p.Stats().Spool.Late // a busy disk may have been late already
	hang()
	late, more := publishN(t, p, 500) // the stream is down, and the disk hangs
	servertest.Eventually(t, patience, "it to be noticed", func() bool {
		return p.Stats().Spool.Blocked > bound && strings.Contains(lines.String(), "the spool's disk does not answer")
	})
	if late[0].Level() != publisher.Buffered {
		t.Errorf("level %v", late[0].Level())
	}
	w.srv.Restart()
	waitStored(t, append(rs, late...)...)
	keys = append(append(keys, more...), stillStored(t, p, 100)...)
	servertest.Eventually(t, patience, "no more goroutines than before the disk hung", func() bool { return runtime.NumGoroutine() <= before+10 })
	w.srv.Stop()
	late, more = publishN(t, p, 100)
	keys = append(keys, more...)
	if s := p.Stats(); s.Spool.Late != lates+1 { // once, however long it hangs
		t.Errorf("late %d times before the disk hung: %+v", lates, s)
	}
	resume()
	waitLevel(t, publisher.Spooled, late...)
	servertest.Eventually(t, patience, "the spool to have healed", func() bool {
		return p.Stats().Spool.Blocked == 0 && strings.Contains(lines.String(), "answers again")
	})
	if left := leave(t, p); left.Turns != 100 || left.Spooled != 100 {
		t.Errorf("%v", left)
	}

	// A disk that hangs already when the process starts.
	w.srv.Restart()
	hang()
	began := time.Now()
	other := w.spooling(filepath.Join(disk, "other"), set)
	if took := time.Since(began); took < bound || took > patience/2 { // without a bound, for ever
		t.Errorf("New took %v with a bound of %v", took, bound)
	}
	keys = append(keys, stillStored(t, other, 20)...)
	resume()
	p = w.spooling(dir, set)
	servertest.Eventually(t, patience, "what was spooled to be stored", func() bool { return p.Stats().Stored == 100 })
	w.srv.Stop()
	r := must(t)(other.Publish(t.Context(), transcript.Turn{SessionID: "s", User: "question"}))
	waitLevel(t, publisher.Spooled, r)
	keys = append(keys, key("s", r.ID, 1))

	// Close with turns in a spool that hangs.
	hang()
	_, more = publishN(t, p, 5)
	servertest.Eventually(t, patience, "it to be noticed", func() bool { return p.Stats().Spool.Blocked > bound })
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	began = time.Now()
	var left *publisher.LeftError
	if err := p.Close(ctx); !errors.As(err, &left) || left.Turns != 5 || left.Spooled != 0 {
		t.Errorf("close: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
	resume()
	w.srv.Restart()
	var last *publisher.Publisher
	servertest.Eventually(t, patience, "the old spool to let go", func() bool {
		var err error
		last, err = publisher.New(publisher.Config{Conn: w.js.Conn(), SpoolDir: dir})
		return err == nil
	})
	closeNow(t, other)
	closeNow(t, last)
	// The write that nobody waited for has landed, with as many of the turns as it had, or has not.
	got := w.stored()
	for _, k := range keys {
		if got[k] != 1 {
			t.Errorf("%s is stored %d times", k, got[k])
		}
		delete(got, k)
	}
	for k, n := range got {
		if n != 1 || !slices.Contains(more, k) {
			t.Errorf("%s is stored %d times", k, n)
		}
	}
}
