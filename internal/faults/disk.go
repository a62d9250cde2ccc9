package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// shutdownNow is EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN, which are the same number.
	shutdownNow = 0x8004587d
	// withoutLog ends the file system without writing its journal: what is not on
	// the device by then never will be, as when the power goes.
	withoutLog = 2

	unmountBound = 10 * time.Second
)

// Disk is a file system of a test's own. It is lost with the test.
type Disk struct {
	t      testing.TB
	kind   string
	device string // "" for tmpfs
	dir    string
	on     bool
}

// Loop makes an ext4 or xfs file system in a file and mounts it.
func Loop(t testing.TB, kind string) *Disk {
	t.Helper()
	size := map[string]int64{"ext4": 256 << 20, "xfs": 320 << 20}[kind] // xfs refuses less
	return loop(t, Small(t, 1<<30, 16), kind, size)                     // in memory: a flush costs nothing
}

// loop makes it in a file of another disk.
func loop(t testing.TB, below *Disk, kind string, size int64, options ...string) *Disk {
	t.Helper()
	mkfs := needTool(t, "mkfs."+kind)
	losetup := needTool(t, "losetup")
	image := filepath.Join(below.Dir(), kind+".img")
	f, err := os.Create(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	must(t, mkfs, append(options, "-q", image)...)
	out, err := exec.Command(losetup, "--find", "--show", image).Output()
	if err != nil {
		Lack(t, "this fault needs a loop device, and there is none: %v", err)
	}
	d := &Disk{t: t, kind: kind, device: strings.TrimSpace(string(out)), dir: filepath.Join(t.TempDir(), "disk")}
	t.Cleanup(func() {
		d.unmount()
		exec.Command(losetup, "--detach", d.device).Run()
	})
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d.mount()
	return d
}

// Small mounts a tmpfs of so many bytes and inodes; 0 inodes is no limit.
func Small(t testing.TB, bytes, inodes int64) *Disk {
	t.Helper()
	NeedRoot(t)
	d := &Disk{t: t, kind: "tmpfs", dir: filepath.Join(t.TempDir(), "disk")}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.unmount)
	if err := unix.Mount("tmpfs", d.dir, "tmpfs", 0, fmt.Sprintf("size=%d,nr_inodes=%d,mode=700", bytes, inodes)); err != nil {
		Lack(t, "this fault needs a tmpfs of its own: %v", err)
	}
	d.on = true
	return d
}

// Dir is where it is mounted.
func (d *Disk) Dir() string { return d.dir }

// Cut takes the power away: from here on nothing reaches the device, and every
// operation fails. Who has files open has to end before [Disk.Restore].
func (d *Disk) Cut() {
	d.t.Helper()
	root, err := os.Open(d.dir)
	if err != nil {
		d.t.Fatal(err)
	}
	defer root.Close()
	if err := unix.IoctlSetPointerInt(int(root.Fd()), shutdownNow, withoutLog); err != nil {
		d.t.Fatalf("shut %s down: %v", d.kind, err)
	}
}

// Restore gives the power back: the file system is unmounted, and its journal is
// recovered as it is mounted again.
func (d *Disk) Restore() {
	d.t.Helper()
	d.unmount()
	if d.on {
		d.t.Fatalf("unmount %s: still in use after %v", d.dir, unmountBound)
	}
	d.mount()
}

// ReadOnly makes it read-only, as a kernel does after an error, or writable again.
func (d *Disk) ReadOnly(on bool) {
	d.t.Helper()
	flags := uintptr(unix.MS_REMOUNT)
	if on {
		flags |= unix.MS_RDONLY
	}
	// It is busy while a file is open for writing. An operator would wait too.
	var err error
	for deadline := time.Now().Add(unmountBound); time.Now().Before(deadline); {
		if err = unix.Mount("", d.dir, "", flags, ""); !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	if err != nil {
		d.t.Fatalf("remount %s: %v", d.dir, err)
	}
}

// Fill takes all the space there is; the function it returns gives it back.
func (d *Disk) Fill() (free func()) {
	d.t.Helper()
	path := filepath.Join(d.dir, "full")
	f, err := os.Create(path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for size := len(block); size > 0; {
		if _, err := f.Write(block[:size]); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				d.t.Fatal(err)
			}
			size /= 2
		}
	}
	if err := f.Sync(); err != nil && !errors.Is(err, unix.ENOSPC) {
		d.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			d.t.Fatal(err)
		}
	}
}

// FillInodes takes all inodes there are; the function it returns gives them back.
func (d *Disk) FillInodes() (free func()) {
	d.t.Helper()
	dir := filepath.Join(d.dir, "inodes")
	if err := os.Mkdir(dir, 0o700); err != nil {
		d.t.Fatal(err)
	}
	const most = 1 << 20
	for i := range most {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil {
			d.t.Fatal(err)
		}
		f.Close()
	}
	return func() {
		if err := os.RemoveAll(dir); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *Disk) mount() {
	d.t.Helper()
	if err := unix.Mount(d.device, d.dir, d.kind, 0, ""); err != nil {
		d.t.Fatalf("mount %s: %v", d.kind, err)
	}
	d.on = true
}

func (d *Disk) unmount() {
	for deadline := time.Now().Add(unmountBound); d.on && time.Now().Before(deadline); {
		if err := unix.Unmount(d.dir, 0); err == nil || errors.Is(err, unix.EINVAL) {
			d.on = false
			return
		}
		time.Sleep(5 * time.Millisecond) // the kernel closes the files of a killed process a little later
	}
	if d.on {
		unix.Unmount(d.dir, unix.MNT_DETACH) // at the end of a test that failed
	}
}
