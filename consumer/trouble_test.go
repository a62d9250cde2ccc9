package consumer

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

// loopDisk mounts an ext4 of its own for the test. hang makes every write to it
// wait, and resume lets them go on: what a dead disk or file server does.
func loopDisk(t *testing.T) (dir string, hang, resume func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		faults.Lack(t, "needs root: mounts a file system")
	}
	base := t.TempDir()
	image := filepath.Join(base, "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(base, "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	command := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			faults.Lack(t, "needs a loop device: %s: %v: %s", name, err, out)
		}
	}
	command("mkfs.ext4", "-q", image)
	command("mount", "-o", "loop", image, dir)
	hung := false
	hang = func() { command("fsfreeze", "-f", dir); hung = true }
	resume = func() { command("fsfreeze", "-u", dir); hung = false }
	t.Cleanup(func() {
		if hung {
			resume()
		}
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, hang, resume
}

// A hung disk holds nobody up for longer than the file bound: commits give up,
// fetching stops, reads still answer, and all of it heals by itself.
func TestHungDisk(t *testing.T) {
	disk, hang, resume := loopDisk(t)
	f := newFixture(t)
	dir := filepath.Join(disk, "transcripts")
	const bound = 2 * time.Second
	store, err := transcript.Open(transcript.Config{Dir: dir, FileTimeout: bound})
	if err != nil {
		t.Fatal(err)
	}
	turns := conversation(t, 5, 30)
	f.publish(turns[:60]...)
	c, stop := f.start(Config{Store: store, ProbeMax: 500 * time.Millisecond})
	f.drained(DefaultGroup)
	before := runtime.NumGoroutine()

	hang()
	f.publish(turns[60:]...)
	began := time.Now()
	servertest.Eventually(t, 20*time.Second, "fetching stops", func() bool {
		return errors.Is(c.Ready(), transcript.ErrLate)
	})
	t.Logf("fetching stopped %v after the disk hung, with a bound of %v", time.Since(began), bound)
	servertest.Eventually(t, 20*time.Second, "a read that needs no write", func() bool { // late on a busy machine, perhaps
		_, err := store.Recent(t.Context(), turns[0].SessionID, 10)
		return err == nil
	})
	appended := time.Now()
	if err := store.Append(t.Context(), makeTurn(t, "chat/0", 99, 1)); !errors.Is(err, transcript.ErrLate) && !errors.Is(err, transcript.ErrBusy) {
		t.Errorf("append to a hung disk: %v", err)
	}
	if took := time.Since(appended); took > 10*bound { // without one, never
		t.Errorf("append to a hung disk came back after %v", took)
	}
	servertest.Eventually(t, 30*time.Second, "some probes more", func() bool { return c.Stats().Pauses > 0 && time.Since(began) > 5*bound })
	if d := c.Stalled(); d > 20*bound { // a hung disk is no reason to kill this process
		t.Errorf("the disk hangs, and so does the consumer, for %s", d)
	}
	if now := runtime.NumGoroutine(); now > before+transcript.DefaultMaxOps+20 {
		t.Errorf("%d goroutines, %d before the disk hung", now, before)
	}
	resume()
	f.drained(DefaultGroup)
	f.ready(c)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, want := documents(t, dir), undisturbed(t, turns)
	// The append that nobody waited for may have landed or not.
	path := transcript.DocumentPath(transcript.Sharded, "chat/0")
	if strings.Contains(got[path], "t000099") {
		want = undisturbed(t, append(turns, makeTurn(t, "chat/0", 99, 1)))
	}
	sameDocuments(t, got, want)
}

// A full disk stops fetching; nothing is acknowledged that is not durable, and
// everything heals by itself once there is room.
func TestFullDisk(t *testing.T) {
	disk := faults.Small(t, 2<<20, 0).Dir()
	f := newFixture(t)
	dir := filepath.Join(disk, "transcripts")
	store := f.store(dir)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 2<<20-128<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	turns := conversation(t, 8, 60)
	c, stop := f.start(Config{Store: store, ProbeMax: 500 * time.Millisecond})
	f.publish(turns...)
	servertest.Eventually(t, 20*time.Second, "fetching stops", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "no space left")
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	f.drained(DefaultGroup)
	f.ready(c)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Stats().Pauses == 0 {
		t.Error("no pause was counted")
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}

// A file system that becomes read-only does the same.
func TestReadOnlyDisk(t *testing.T) {
	disk := faults.Small(t, 8<<20, 0).Dir()
	f := newFixture(t)
	dir := filepath.Join(disk, "transcripts")
	store, err := transcript.Open(transcript.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	turns := conversation(t, 3, 20)
	f.publish(turns[:30]...)
	c, stop := f.start(Config{Store: store, ProbeMax: 500 * time.Millisecond})
	f.drained(DefaultGroup)
	if err := store.FoldAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		faults.Lack(t, "needs to remount a file system read-only: %v", err)
	}
	f.publish(turns[30:]...)
	servertest.Eventually(t, 20*time.Second, "fetching stops", func() bool {
		err := c.Ready()
		return err != nil && strings.Contains(err.Error(), "read-only")
	})
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}

// While a folder is away nothing is tried again and again: fetching stops, and goes on
// with the folder. No turn becomes a dead letter.
func TestFoldersThatAreAway(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store := f.store(dir)
	turns := conversation(t, 3, 12)
	c, stop := f.start(Config{Store: store, ProbeMax: 50 * time.Millisecond, Deliveries: 1})
	third := len(turns) / 3
	f.publish(turns[:third]...)
	f.drained(DefaultGroup)
	for i, path := range []string{dir, filepath.Join(dir, filepath.Dir(transcript.DocumentPath(transcript.Sharded, turns[0].SessionID)))} {
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		f.publish(turns[third*(i+1) : max(third*(i+2), i*len(turns))]...)
		servertest.Eventually(t, 30*time.Second, "fetching stops", func() bool {
			var folder *transcript.FolderError
			return errors.As(c.Ready(), &folder)
		})
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
		f.drained(DefaultGroup)
		f.ready(c)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := c.Stats().Dead; n != 0 {
		t.Errorf("%d dead letters", n)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}
