package faults

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Thin is an ext4 on a device that has less room than it promises.
type Thin struct {
	*Disk
	below *Disk // where the image of the device is
	tool  string
	free  func()
}

// NewThin makes one of 64 MiB, of which there are 24.
func NewThin(t testing.TB) *Thin {
	t.Helper()
	d := &Thin{below: Small(t, 24<<20, 16), tool: needTool(t, "fsck.ext4")}
	d.Disk = loop(t, d.below, "ext4", 64<<20, "-E", "lazy_itable_init=1,lazy_journal_init=1") // writes little
	f := d.stranger(os.O_CREATE)
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return d
}

// stranger opens a file that nobody else uses, and writes to it.
func (d *Thin) stranger(flag int) *os.File {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.dir, "stranger"), os.O_WRONLY|os.O_APPEND|flag, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := f.WriteString("x"); err != nil {
		f.Close()
		d.t.Fatal(err)
	}
	return f
}

// Exhaust takes the rest of the room: a write to a block that the device does not have yet
// fails, which a file system sees as an I/O error.
func (d *Thin) Exhaust() {
	d.t.Helper()
	d.free = d.below.Fill()
}

// LoseJournal has the journal of an exhausted device fail at the sync of a stranger, when the
// content of file is on the device already and its size is not: so it is after a write that
// the kernel flushed by itself. Nobody begins a transaction then, so nobody notices.
func (d *Thin) LoseJournal(file string) {
	d.t.Helper()
	f := d.stranger(0)
	defer f.Close()
	written, err := os.Open(file)
	if err != nil {
		d.t.Fatal(err)
	}
	defer written.Close()
	const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for _, f := range []*os.File{f, written} {
		if err := unix.SyncFileRange(int(f.Fd()), 0, 0, all); err != nil {
			d.t.Fatalf("flush %s: %v", f.Name(), err)
		}
	}
	if err := f.Sync(); err == nil {
		d.t.Fatal("the journal has room to be written")
	}
}

// Mend gives the device its room and mounts again, after a check of the file system. Who has
// files open has to end before.
func (d *Thin) Mend() {
	d.t.Helper()
	d.free()
	d.unmount()
	if d.on {
		d.t.Fatalf("unmount %s: still in use after %v", d.dir, unmountBound)
	}
	out, err := exec.Command(d.tool, "-fy", d.device).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() < 4) { // 1 and 2: corrected
		d.t.Fatalf("fsck: %v: %s", err, out)
	}
	d.mount()
}
