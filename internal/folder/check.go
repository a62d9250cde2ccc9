package folder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links may lead to a folder, as in the kernel.
const maxLinks = 40

// Check refuses a folder of data that other users may write or replace, or that is theirs. The
// folder may be reached through symbolic links, those
// that are named below it may not be links. What does not exist yet is no error: it is made in the
// folder above, which is checked.
func Check(dir string, below ...string) error {
	whole, links, err := resolve(dir)
	if err != nil {
		return fmt.Errorf("data folder %s: %w", dir, err)
	}
	if err := checkOne(dir, whole); err != nil {
		return err
	}
	of := ownerOf(whole)
	for _, at := range append(links, whole) {
		if err := checkAbove(dir, at, &of); err != nil {
			return err
		}
	}
	for _, name := range below {
		path := filepath.Join(dir, name)
		if err := checkOwner(path, &of); err != nil {
			return err
		}
		if err := checkOne(path, path); err != nil {
			return err
		}
	}
	return nil
}

// ownerOf describes a folder, or the nearest one above it that is there; what is missing will
// belong to this process, or is given to the owner of that one by [Inherit].
func ownerOf(path string) (st unix.Stat_t) {
	for at := path; ; at = filepath.Dir(at) {
		if unix.Stat(at, &st) == nil {
			if me := os.Geteuid(); at != path && me != 0 {
				st.Uid, st.Gid = uint32(me), uint32(os.Getegid())
			}
			return st
		}
		if at == filepath.Dir(at) {
			return st
		}
	}
}

// checkOwner refuses, for root, a folder of another user than the one that it is in, who
// could replace what is in it.
func checkOwner(path string, above *unix.Stat_t) error {
	var st unix.Stat_t
	if os.Geteuid() != 0 || unix.Lstat(path, &st) != nil || st.Uid == 0 || st.Uid == above.Uid {
		return nil
	}
	return fmt.Errorf("data folder %s belongs to user %d, and the one that it is in to user %d: chown %d %s", path, st.Uid, above.Uid, above.Uid, path)
}

// resolve returns the path of a folder without symbolic links, and the links that led there. What
// does not exist is no link.
func resolve(dir string) (whole string, links []string, err error) {
	rest, err := filepath.Abs(dir)
	if err != nil {
		return "", nil, err
	}
	whole = "/"
	for rest = rest[1:]; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		at := filepath.Join(whole, name) // which takes one up for ..
		to, err := os.Readlink(at)
		switch {
		case errors.Is(err, unix.EINVAL), errors.Is(err, fs.ErrNotExist): // no link
			whole = at
			continue
		case err != nil:
			return "", nil, err
		}
		if links = append(links, at); len(links) > maxLinks {
			return "", nil, &fs.PathError{Op: "open", Path: dir, Err: unix.ELOOP}
		}
		if filepath.IsAbs(to) {
			whole = "/"
		}
		rest = strings.Trim(to, "/") + "/" + rest
		rest = strings.TrimSuffix(rest, "/")
	}
	return whole, links, nil
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
		if err := checkOwner(path, &above); err != nil {
			return err
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
	_, handedOver := HandedOver(path)
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFLNK:
		return fmt.Errorf("data folder %s is a symbolic link, which could lead anywhere: give the folder that it leads to with --data-dir, or mount that here", shown)
	case kind != unix.S_IFDIR:
		return fmt.Errorf("data folder %s is not a folder: choose another with --data-dir", shown)
	case handedOver:
		return nil
	case st.Mode&0o002 != 0 && setgid(&st):
		return fmt.Errorf("data folder %s may be written by every user (mode %#o), who could replace what is in it: chmod o-w %s", shown, st.Mode&0o7777, shown)
	case me != 0 && int(st.Uid) != me:
		return fmt.Errorf("data folder %s belongs to user %d, and afterword runs as user %d: run it as that user, or give it the folder: chown -R %d %s", shown, st.Uid, me, me, shown)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("data folder %s may be written by other users (mode %#o), who could replace what is in it: chmod go-w %s", shown, st.Mode&0o7777, shown)
	}
	return nil
}

// HandedOver returns the group that a folder was handed over to as Kubernetes does with fsGroup: it
// leaves the owner, gives the group of the volume all that the owner may, and sets setgid, which
// hands the group on. The group is one of this process's; the folder is root's, or this process's own and
// in such a folder of root, or a volume mounted there. Without that, setgid is no reason to trust a group.
func HandedOver(dir string) (gid int, ok bool) {
	whole, _, err := resolve(dir)
	if err != nil {
		return 0, false
	}
	for at := whole; ; at = filepath.Dir(at) {
		var st unix.Stat_t
		if unix.Lstat(at, &st) != nil || !setgid(&st) || at != whole && int(st.Gid) != gid {
			return 0, false
		}
		gid = int(st.Gid)
		switch mounted := isMount(at, &st); {
		case st.Mode&0o002 != 0 && !(mounted && inPod()):
			return 0, false
		case st.Uid == 0 || mounted:
			return gid, true
		}
	}
}

// setgid reports whether a folder has the bit that hands on its group, which is one of this
// process's, and is no other user's.
func setgid(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFDIR && st.Mode&unix.S_ISGID != 0 && inGroup(st.Gid) && (st.Uid == 0 || int(st.Uid) == os.Geteuid())
}

// isMount reports whether a folder is the top of a volume.
func isMount(at string, st *unix.Stat_t) bool {
	var above unix.Stat_t
	return unix.Lstat(filepath.Dir(at), &above) == nil && (above.Dev != st.Dev || at == "/")
}

// inPod reports whether Kubernetes runs this process. An emptyDir with fsGroup has mode 2777, and only
// containers of the pod see it.
func inPod() bool { return os.Getenv("KUBERNETES_SERVICE_HOST") != "" }

// checkAbove refuses a folder or a symbolic link that leads there, at, if other users than root, that of this process and the owner
// of the folder may replace it: it is their link, or in a folder of theirs, or in one that others may write.
func checkAbove(shown, at string, of *unix.Stat_t) error {
	trusted := func(st *unix.Stat_t) bool {
		return st.Uid == 0 || int(st.Uid) == os.Geteuid() || st.Uid == of.Uid || st.Uid == nobody && namespaced()
	}
	volume := func(at string) bool { _, ok := HandedOver(at); return ok }
	var st unix.Stat_t
	if unix.Lstat(at, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK && !trusted(&st) {
		return fmt.Errorf("data folder %s is reached through the symbolic link %s of user %d, who may replace it: give the folder that it leads to", shown, at, st.Uid)
	}
	for at != "/" {
		at = filepath.Dir(at)
		switch err := unix.Lstat(at, &st); {
		case errors.Is(err, unix.ENOENT):
			continue
		case err != nil:
			return fmt.Errorf("data folder %s: look at %s above it: %w", shown, at, err)
		case !trusted(&st):
			return fmt.Errorf("data folder %s is in %s of user %d, who may replace it: choose another", shown, at, st.Uid)
		case st.Mode&unix.S_ISVTX != 0: // whoever writes there may not rename what is of others
		case volume(at):
		case st.Mode&0o002 != 0:
			return fmt.Errorf("data folder %s is in %s, where every user may replace it (mode %#o): chmod o-w %s, or choose another", shown, at, st.Mode&0o7777, at)
		case st.Mode&0o020 != 0 && !member(st.Gid, of):
			return fmt.Errorf("data folder %s is in %s, where the group %d may replace it (mode %#o): chmod g-w %s, or choose another", shown, at, st.Gid, st.Mode&0o7777, at)
		}
	}
	return nil
}

// nobody is the user that owns, in a user namespace, what belongs to users who are not in it: root
// of the machine among them.
const nobody = 65534

// namespaced reports whether this process is in a user namespace without all users of the machine.
func namespaced() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(b)), " ") != "0 0 4294967295"
}

// member reports whether a group is that of root, of this process, or, for root, of the owner of
// the folder. Many systems give each user a group, which may write what the user makes. The group of the
// folder says nothing: setgid above hands it on.
func member(gid uint32, of *unix.Stat_t) bool {
	if gid == 0 || inGroup(gid) {
		return true
	}
	if os.Geteuid() != 0 || of.Uid == 0 {
		return false
	}
	owner, err := user.LookupId(fmt.Sprint(of.Uid))
	if err != nil {
		return false
	}
	groups, err := owner.GroupIds()
	return err == nil && slices.Contains(groups, fmt.Sprint(gid))
}

// inGroup reports whether this process is in a group.
func inGroup(gid uint32) bool {
	groups, err := os.Getgroups()
	return int(gid) == os.Getegid() || err == nil && slices.Contains(groups, int(gid))
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
