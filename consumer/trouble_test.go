package consumer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

// smallDisk mounts a file system of its own for the test.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("needs to mount a file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A full disk stops fetching; nothing is acknowledged that is not durable, and
// everything heals by itself once there is room.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "size=2m")
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
	if err := c.Ready(); err != nil {
		t.Errorf("healed, but not ready: %v", err)
	}
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
	disk := smallDisk(t, "size=8m")
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
		t.Skipf("needs to remount a file system read-only: %v", err)
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
