package faults

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// node is an inode as the kernel knows it.
type node struct {
	fs.Inode
	f *Forgetful
	*inode
}

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

func (n *node) path(name string) string {
	p := n.Path(nil)
	if name == "" {
		return p
	}
	if p == "" {
		return name
	}
	return p + "/" + name
}

// child makes the kernel's node of an inode.
func (n *node) child(ctx context.Context, i *inode, out *fuse.Attr) *fs.Inode {
	i.attr(out)
	mode := uint32(fuse.S_IFREG)
	if i.folder {
		mode = fuse.S_IFDIR
	}
	return n.NewInode(ctx, &node{f: n.f, inode: i}, fs.StableAttr{Mode: mode, Ino: i.ino})
}

func (n *inode) attr(out *fuse.Attr) {
	out.Ino, out.Size, out.Nlink = n.ino, uint64(len(n.data)), 1
	out.Mode = n.mode | fuse.S_IFREG
	if n.folder {
		out.Mode = n.mode | fuse.S_IFDIR
	}
	out.SetTimes(nil, &n.mtime, &n.mtime)
}

// change changes names of a folder.
func (n *inode) change(change map[string]*inode) {
	apply(n.names, change)
	n.changes = append(n.changes, change)
	n.mtime = time.Now()
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	i := n.names[name]
	if i == nil {
		return nil, syscall.ENOENT
	}
	return n.child(ctx, i, &out.Attr), 0
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	var list []fuse.DirEntry
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		mode := uint32(fuse.S_IFREG)
		if n.names[name].folder {
			mode = fuse.S_IFDIR
		}
		list = append(list, fuse.DirEntry{Name: name, Mode: mode, Ino: n.names[name].ino})
	}
	return fs.NewListDirStream(list), 0
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.attr(&out.Attr)
	return 0
}

func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	size, resize := in.GetSize()
	if resize {
		if errno := n.f.ask("truncate", n.path("")); errno != 0 {
			return errno
		}
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if resize {
		n.resize(int(size))
	}
	if mode, ok := in.GetMode(); ok {
		n.mode = mode & 0o7777
	}
	if at, ok := in.GetMTime(); ok {
		n.mtime = at
	}
	n.attr(&out.Attr)
	return 0
}

func (n *inode) resize(size int) {
	if size <= len(n.data) {
		n.data = bytes.Clone(n.data[:size])
	} else {
		n.data = append(n.data, make([]byte, size-len(n.data))...)
	}
	n.mtime = time.Now()
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.f.ask("folder", n.path(name)); errno != 0 {
		return nil, errno
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if n.names[name] != nil {
		return nil, syscall.EEXIST
	}
	i := n.f.newInode(true, mode)
	n.change(map[string]*inode{name: i})
	return n.child(ctx, i, &out.Attr), 0
}

func (n *node) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.f.ask("create", n.path(name)); errno != 0 {
		return nil, nil, 0, errno
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	i := n.names[name]
	if i == nil {
		i = n.f.newInode(false, mode)
		n.change(map[string]*inode{name: i})
	}
	return n.child(ctx, i, &out.Attr), nil, fuse.FOPEN_DIRECT_IO, 0
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		n.f.mu.Lock()
		defer n.f.mu.Unlock()
		n.resize(0)
	}
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if errno := n.f.ask("read", n.path("")); errno != 0 {
		return nil, errno
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if off >= int64(len(n.data)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(dest[:copy(dest, n.data[off:])]), 0
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if errno := n.f.ask("write", n.path("")); errno != 0 {
		return 0, errno
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if end := int(off) + len(data); end > len(n.data) {
		n.resize(end)
	}
	copy(n.data[off:], data)
	n.mtime = time.Now()
	return uint32(len(data)), 0
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno { return n.remove(name) }
func (n *node) Rmdir(_ context.Context, name string) syscall.Errno  { return n.remove(name) }

func (n *node) remove(name string) syscall.Errno {
	if errno := n.f.ask("remove", n.path(name)); errno != 0 {
		return errno
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	i := n.names[name]
	switch {
	case i == nil:
		return syscall.ENOENT
	case len(i.names) > 0:
		return syscall.ENOTEMPTY
	}
	n.change(map[string]*inode{name: nil})
	return 0
}

// Rename is one change when it stays in a folder, and two that can be torn apart otherwise.
func (n *node) Rename(_ context.Context, name string, to fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if errno := n.f.ask("rename", n.path(name)); errno != 0 {
		return errno
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	i, other := n.names[name], to.(*node)
	switch {
	case i == nil:
		return syscall.ENOENT
	case flags != 0:
		return syscall.EINVAL
	case other.inode == n.inode:
		n.change(map[string]*inode{name: nil, newName: i})
	default:
		other.change(map[string]*inode{newName: i})
		n.change(map[string]*inode{name: nil})
	}
	return 0
}

func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	if errno := n.f.ask("fsync", n.path("")); errno != 0 {
		return errno
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.safe = bytes.Clone(n.data)
	n.kept, n.changes = maps.Clone(n.names), nil
	return 0
}

func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Blocks, out.Bfree, out.Bavail, out.Files, out.Ffree, out.NameLen = 4096, 1<<20, 1<<20, 1<<20, 1<<20, 1<<20, 255
	return 0
}

// Link gives a file a second name.
func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if errno := n.f.ask("create", n.path(name)); errno != 0 {
		return nil, errno
	}
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	if n.names[name] != nil {
		return nil, syscall.EEXIST
	}
	i := target.(*node).inode
	n.change(map[string]*inode{name: i})
	return n.child(ctx, i, &out.Attr), 0
}
