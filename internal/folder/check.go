package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Check refuses a folder of data that other users may write, or that is theirs: they could
// replace what is in it. The folder may be reached through a symbolic link, those
// that are named below it may not. What does not exist yet is no error.
func Check(dir string, below ...string) error {
	whole, err := filepath.Abs(dir)
	if err == nil {
		whole, err = filepath.EvalSymlinks(whole)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data folder %s: %w", dir, err)
	}
	if err := checkOne(dir, whole); err != nil {
		return err
	}
	for at := filepath.Dir(whole); ; at = filepath.Dir(at) {
		if err := checkAbove(dir, at); err != nil {
			return err
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	for _, name := range below {
		if err := checkOne(filepath.Join(dir, name), filepath.Join(whole, name)); err != nil {
			return err
		}
	}
	return nil
}

// CheckIn refuses folders in a folder of data that other users may write, or that are theirs,
// as [Check] does, and what is no folder. One of root is left to whoever uses it.
func CheckIn(dir string, names ...string) error {
	var above, st unix.Stat_t
	if unix.Stat(dir, &above) != nil {
		return nil
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := unix.Lstat(path, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Uid == 0 && os.Geteuid() != 0 {
			continue
		}
		if st.Uid != 0 && st.Uid != above.Uid && os.Geteuid() == 0 {
			return fmt.Errorf("data folder %s belongs to user %d, and the one that it is in to user %d: chown %d %s", path, st.Uid, above.Uid, above.Uid, path)
		}
		if err := checkOne(path, path); err != nil {
			return err
		}
	}
	return nil
}

// CheckAll is [CheckIn] for all folders in a folder of data, at any depth.
func CheckAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == dir {
			return nil
		}
		return CheckIn(filepath.Dir(path), d.Name())
	})
}

// checkOne looks at a folder; shown is how the user calls it.
func checkOne(shown, path string) error {
	var st unix.Stat_t
	switch err := unix.Lstat(path, &st); {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return fmt.Errorf("data folder %s: %w", shown, err)
	}
	me := os.Geteuid()
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFLNK:
		return fmt.Errorf("data folder %s is a symbolic link, which could lead anywhere: give the folder that it leads to with --data-dir, or mount that here", shown)
	case kind != unix.S_IFDIR:
		return fmt.Errorf("data folder %s is not a folder: choose another with --data-dir", shown)
	case ours(&st):
		return nil
	case me != 0 && int(st.Uid) != me:
		return fmt.Errorf("data folder %s belongs to user %d, and afterword runs as user %d: run it as that user, or give it the folder: chown -R %d %s", shown, st.Uid, me, me, shown)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("data folder %s may be written by other users (mode %#o), who could replace what is in it: chmod go-w %s", shown, st.Mode&0o7777, shown)
	}
	return nil
}

// ours reports whether a volume was handed over as Kubernetes does with fsGroup: to the group
// that this process runs as, with the bit that hands it on.
func ours(st *unix.Stat_t) bool {
	me := os.Geteuid()
	return me != 0 && (st.Uid == 0 || int(st.Uid) == me) && int(st.Gid) == os.Getegid() && st.Mode&unix.S_ISGID != 0 && st.Mode&0o002 == 0
}

// HandedOver reports whether a folder is in a volume that was handed over to the group that this
// process runs as, as Kubernetes does with fsGroup: it gives the group all that the owner may.
func HandedOver(dir string) bool {
	var st unix.Stat_t
	return unix.Stat(dir, &st) == nil && ours(&st)
}

// checkAbove refuses a folder in which everybody may rename what is in it.
func checkAbove(shown, path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("data folder %s: look at %s above it: %w", shown, path, err)
	}
	if st.Mode&0o002 != 0 && st.Mode&unix.S_ISVTX == 0 {
		return fmt.Errorf("data folder %s is in %s, where every user may replace it (mode %#o): chmod o-w %s, or choose another", shown, path, st.Mode&0o7777, path)
	}
	return nil
}

// Owner returns the user that a folder belongs to, or the nearest one above it that is there, which it returns too.
func Owner(dir string) (at string, uid int, err error) {
	at, err = filepath.Abs(dir)
	if err != nil {
		return "", 0, err
	}
	var st unix.Stat_t
	for {
		err := unix.Stat(at, &st)
		if err == nil {
			return at, int(st.Uid), nil
		}
		if !errors.Is(err, unix.ENOENT) || at == filepath.Dir(at) {
			return "", 0, &fs.PathError{Op: "stat", Path: at, Err: err}
		}
		at = filepath.Dir(at)
	}
}

// Inherit gives a file or folder that root made to the owner of the folder that it is in,
// for a service that runs as that user. It does nothing for other users.
func Inherit(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var above unix.Stat_t
	if err := unix.Stat(filepath.Dir(path), &above); err != nil {
		return &fs.PathError{Op: "stat", Path: filepath.Dir(path), Err: err}
	}
	if above.Uid == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return Give(f, int(above.Uid), int(above.Gid))
}

// Give changes the owner of an open file or folder, unless it has another name: who owns the
// folder could have put a file of root there.
func Give(f *os.File, uid, gid int) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		return fmt.Errorf("%s has another name, so it is not given to user %d: remove it", f.Name(), uid)
	}
	return f.Chown(uid, gid)
}
