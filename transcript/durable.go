package transcript

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/folder"
)

// Durability is how a batch is made durable.
type Durability string

const (
	// SyncFS is one syncfs for the whole batch. It is sound on ext4, xfs and btrfs
	// with Linux 5.8 or newer, where it reports write-back errors.
	SyncFS Durability = "syncfs"
	// SyncFiles is fdatasync of each file and fsync of each folder with a new one.
	// It is sound everywhere, and slower.
	SyncFiles Durability = "fsync"
)

// durability holds the descriptor for syncfs. It is opened before the first
// write and kept, because write-back errors are reported only to a descriptor
// that was open when they happened.
type durability struct {
	how Durability
	dir *os.File
}

func openDurability(root *os.Root, how Durability) (durability, error) {
	dir, err := root.Open(".")
	if err != nil {
		return durability{}, fmt.Errorf("open transcripts folder: %w", err)
	}
	d := durability{how: how, dir: dir}
	switch how {
	case "":
		d.how = SyncFiles
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(dir.Fd()), &st); err == nil && syncfsReports(int64(st.Type)) {
			d.how = SyncFS
		}
	case SyncFS, SyncFiles:
	default:
		dir.Close()
		return durability{}, fmt.Errorf("unknown durability %q: use %s or %s", how, SyncFS, SyncFiles)
	}
	return d, nil
}

func (d *durability) close() error { return d.dir.Close() }

// call runs a system call on the folder. The descriptor stays open during the call: an operation
// that is late may still be at work when the store is closed.
func (d *durability) call(system func(fd int) error) error {
	conn, err := d.dir.SyscallConn()
	if err != nil {
		return err
	}
	if held := conn.Control(func(fd uintptr) { err = system(int(fd)) }); held != nil {
		return held
	}
	return err
}

// syncAll makes everything written so far durable; only for SyncFS.
func (d *durability) syncAll() error {
	if err := d.call(unix.Syncfs); err != nil {
		return err
	}
	return folder.Confirm(d.dir)
}

// syncfsReports says whether syncfs on this file system tells of write-back
// errors. On FUSE it does nothing at all.
func syncfsReports(magic int64) bool {
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
	default:
		return false
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 8
}

// localFileSystem says whether only this machine can see the file system. What
// is not known to be local counts as shared.
func localFileSystem(magic int64) bool {
	switch magic {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC,
		unix.TMPFS_MAGIC, unix.OVERLAYFS_SUPER_MAGIC, zfsMagic:
		return true
	}
	return false
}

const zfsMagic = 0x2fc12fc1
