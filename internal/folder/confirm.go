package folder

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// noAttribute is an extended attribute that nothing has.
const noAttribute = "user.afterword.none"

// Confirm is called after a successful fsync or syncfs, and fails when the success may mean
// nothing. On ext4 one that finds no transaction to wait for succeeds even if that is because
// the device failed, and the transaction with what was written was given up together with the
// journal. It stays like that until somebody begins a transaction and finds the journal dead
// (seen with Linux 6.18: what was appended to a file was lost after fsync and syncfs had
// returned 0). Taking away an attribute that is not there begins one and changes nothing; it
// takes 4 µs, where a sync takes 240 and more.
//
// f is any file or folder of that file system. On others nothing is asked: xfs and btrfs
// remember that they have failed.
func Confirm(f *os.File) error {
	fd := int(f.Fd())
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return fmt.Errorf("statfs: %w", err)
	}
	if st.Type != unix.EXT4_SUPER_MAGIC {
		return nil
	}
	switch err := unix.Fremovexattr(fd, noAttribute); err {
	case unix.EROFS, unix.EIO, unix.EUCLEAN:
		return fmt.Errorf("begin a transaction of the journal: %w", err)
	}
	return nil // there is no such attribute, or this file cannot have any
}
