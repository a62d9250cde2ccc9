package faults

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// Forgetful is a file system in memory that keeps no more than POSIX promises:
// content of a file that was fsynced, names in a folder that was fsynced. What
// else there was may or may not be there after [Forgetful.Cut], each change by
// itself, so it is less kind than any real one, whose journal keeps an order.
type Forgetful struct {
	t      testing.TB
	dir    string
	server *fuse.Server

	mu   sync.Mutex
	root *inode
	ino  uint64
	hook func(op, path string) syscall.Errno
}

// inode is a file or a folder.
type inode struct {
	ino    uint64
	folder bool
	mode   uint32
	mtime  time.Time

	data, safe []byte // of a file: as it reads, and as it was synced
	names      map[string]*inode
	kept       map[string]*inode   // names as they were synced
	changes    []map[string]*inode // since then; nil takes a name away
}

// NewForgetful mounts an empty one. It takes root, or a kernel and a
// container that allow FUSE.
func NewForgetful(t testing.TB) *Forgetful {
	t.Helper()
	NeedRoot(t)
	if _, err := os.Stat("/dev/fuse"); err != nil {
		Lack(t, "this fault needs FUSE: %v", err)
	}
	f := &Forgetful{t: t, dir: filepath.Join(t.TempDir(), "forgetful")}
	if err := os.Mkdir(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f.root = f.newInode(true, 0o700)
	t.Cleanup(f.unmount)
	f.mount()
	return f
}

// Dir is where it is mounted.
func (f *Forgetful) Dir() string { return f.dir }

// Hook is asked before every operation on a path: an error is its result, and it
// may wait. op is read, write, create, truncate, rename, remove, fsync, or folder.
func (f *Forgetful) Hook(hook func(op, path string) syscall.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// Cut takes the power away and gives it back. Who has files open has to be gone.
func (f *Forgetful) Cut(rnd *rand.Rand) {
	f.t.Helper()
	f.unmount()
	f.mu.Lock()
	f.root = f.root.survivor(rnd, make(map[*inode]*inode))
	f.mu.Unlock()
	f.mount()
}

// survivor is what is left of an inode.
func (n *inode) survivor(rnd *rand.Rand, done map[*inode]*inode) *inode {
	if s, ok := done[n]; ok {
		return s
	}
	s := &inode{ino: n.ino, folder: n.folder, mode: n.mode, mtime: n.mtime}
	done[n] = s
	if !n.folder {
		s.safe = n.content(rnd)
		s.data = bytes.Clone(s.safe)
		return s
	}
	left := maps.Clone(n.kept)
	for _, change := range n.changes {
		if rnd.IntN(2) == 0 {
			apply(left, change)
		}
	}
	s.kept = make(map[string]*inode)
	for _, name := range slices.Sorted(maps.Keys(left)) {
		s.kept[name] = left[name].survivor(rnd, done)
	}
	s.names = maps.Clone(s.kept)
	return s
}

// content is what was synced, or what was not, or a part of it.
func (n *inode) content(rnd *rand.Rand) []byte {
	switch rnd.IntN(3) {
	case 0:
		return bytes.Clone(n.safe)
	case 1:
		return bytes.Clone(n.data)
	}
	if bytes.HasPrefix(n.data, n.safe) {
		return bytes.Clone(n.data[:len(n.safe)+rnd.IntN(len(n.data)-len(n.safe)+1)])
	}
	return bytes.Clone(n.safe)
}

func apply(names, change map[string]*inode) {
	for name, to := range change {
		if to == nil {
			delete(names, name)
		} else {
			names[name] = to
		}
	}
}

func (f *Forgetful) newInode(folder bool, mode uint32) *inode {
	f.ino++
	n := &inode{ino: f.ino, folder: folder, mode: mode & 0o7777, mtime: time.Now()}
	if folder {
		n.names, n.kept = make(map[string]*inode), make(map[string]*inode)
	}
	return n
}

func (f *Forgetful) mount() {
	f.t.Helper()
	f.mu.Lock()
	root := &node{f: f, inode: f.root}
	f.mu.Unlock()
	server, err := fs.Mount(f.dir, root, &fs.Options{MountOptions: fuse.MountOptions{
		FsName: "forgetful", Name: "forgetful", DirectMountStrict: true, DirectMount: true, MaxWrite: 128 << 10,
	}})
	if err != nil {
		Lack(f.t, "this fault needs FUSE: %v", err)
	}
	f.server = server
}

func (f *Forgetful) unmount() {
	if f.server == nil {
		return
	}
	f.Hook(nil)
	for deadline := time.Now().Add(unmountBound); ; {
		err := syscall.Unmount(f.dir, 0)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			f.t.Errorf("unmount %s: %v", f.dir, err)
			syscall.Unmount(f.dir, 2) // MNT_DETACH
			break
		}
		time.Sleep(5 * time.Millisecond) // the kernel closes the files of a killed process a little later
	}
	f.server.Wait()
	f.server = nil
}

func (f *Forgetful) ask(op, path string) syscall.Errno {
	f.mu.Lock()
	hook := f.hook
	f.mu.Unlock()
	if hook == nil {
		return 0
	}
	return hook(op, path)
}
