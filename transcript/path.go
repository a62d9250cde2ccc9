package transcript

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Layout places the files of sessions in the transcripts folder.
type Layout string

const (
	// Sharded spreads sessions over 256 folders, by the first byte of the
	// SHA-256 of their token. It is the default.
	Sharded Layout = "sharded"
	// Flat keeps all files in one folder, for programs that open
	// <session_id>.json themselves.
	Flat Layout = "flat"
)

const (
	documentSuffix = ".json"
	tailSuffix     = ".tail"
)

// Shard is the number of the folder in which the files of a token are, in the
// sharded layout.
func Shard(token string) byte {
	sum := sha256.Sum256([]byte(token))
	return sum[0]
}

// shardOf names the folder of a token.
func shardOf(token string) string { return hex.EncodeToString([]byte{Shard(token)}) }

// Shards are the names of all folders of the sharded layout.
func Shards() []string {
	names := make([]string, 256)
	for i := range names {
		names[i] = hex.EncodeToString([]byte{byte(i)})
	}
	return names
}

// DocumentPath returns where the document of a session is, from the transcripts
// folder on.
func DocumentPath(layout Layout, session string) string {
	token := Token(session)
	if layout == Flat {
		return token + documentSuffix
	}
	return shardOf(token) + "/" + token + documentSuffix
}

// shards holds the folders that files are opened in, each once, so that opening
// a file resolves one name and can never leave the tree.
type shards struct {
	place    *place
	flat     bool
	replaced func() // is told that a folder stands in the place of another

	mu      sync.RWMutex
	open    map[string]shard
	dirs    map[*os.Root]*os.File // for what os.Root cannot do
	retired []*os.Root            // were replaced; operations may still be at work in them
}

type shard struct {
	root *os.Root
	id   fileID
}

// folder returns the folder of a token. With create it is made; without, a
// missing one is fs.ErrNotExist.
func (h *shards) folder(token string, create bool) (*os.Root, error) {
	if h.flat {
		return h.place.root, nil
	}
	return h.named(shardOf(token), create)
}

// named returns a folder of the sharded layout as it stands at its name now. One that was
// there and is gone is a [*FolderError]: nobody knows what is in it.
func (h *shards) named(name string, create bool) (*os.Root, error) {
	h.mu.RLock()
	known := h.open[name]
	h.mu.RUnlock()
	var st unix.Stat_t
	err := h.place.durable.call(func(fd int) error { return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	switch {
	case err == nil && known.root != nil && idOf(&st) == known.id:
		return known.root, nil
	case errors.Is(err, unix.ENOENT) && known.root != nil:
		return nil, &FolderError{name, errGone}
	case errors.Is(err, unix.ENOENT) && create:
		if err := h.make(name); err != nil {
			return nil, err
		}
	case errors.Is(err, unix.ENOENT):
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	case err != nil:
		return nil, &FolderError{name, err}
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return nil, &FolderError{name, &ForeignFileError{Path: name, Kind: "a symbolic link"}}
	}
	return h.reopen(name)
}

func (h *shards) make(name string) error {
	root := h.place.root
	if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := root.Chmod(name, 0o700); err != nil { // whatever the umask
		return err
	}
	return h.place.owner.name(root, name)
}

func (h *shards) reopen(name string) (*os.Root, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	root, err := h.place.root.OpenRoot(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = errGone // just now
	}
	if err != nil {
		return nil, &FolderError{name, err}
	}
	info, err := root.Stat(".")
	if err != nil {
		root.Close()
		return nil, &FolderError{name, err}
	}
	st, _ := info.Sys().(*syscall.Stat_t)
	id := fileID{uint64(st.Dev), st.Ino}
	known := h.open[name]
	if known.root != nil && known.id == id { // somebody else was first
		root.Close()
		return known.root, nil
	}
	if known.root != nil && isEmpty(root) {
		root.Close()
		return nil, &FolderError{name, errEmptied}
	}
	if h.open == nil {
		h.open = make(map[string]shard)
	}
	h.open[name] = shard{root, id}
	if known.root != nil {
		h.retired = append(h.retired, known.root)
		h.replaced()
	}
	return root, nil
}

// isEmpty reports whether a folder holds nothing. One that was used holds something for ever.
func isEmpty(root *os.Root) bool {
	f, err := root.Open(".")
	if err != nil {
		return false // what is wrong is told when a file is opened
	}
	defer f.Close()
	_, err = f.Readdirnames(1)
	return errors.Is(err, io.EOF)
}

// dir returns a descriptor of a folder, which stays open.
func (h *shards) dir(r *os.Root) (*os.File, error) {
	h.mu.RLock()
	f := h.dirs[r]
	h.mu.RUnlock()
	if f != nil {
		return f, nil
	}
	f, err := r.Open(".")
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if other := h.dirs[r]; other != nil {
		f.Close()
		return other, nil
	}
	if h.dirs == nil {
		h.dirs = make(map[*os.Root]*os.File)
	}
	h.dirs[r] = f
	return f, nil
}

func (h *shards) close() (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range h.dirs {
		err = errors.Join(err, f.Close())
	}
	h.dirs = nil
	for _, known := range h.open {
		err = errors.Join(err, known.root.Close())
	}
	for _, r := range h.retired {
		err = errors.Join(err, r.Close())
	}
	h.open, h.retired = nil, nil
	return err
}

// ForeignFileError is something other than a regular file or folder of ours at
// one of our paths. It is refused: a symbolic link could lead a write anywhere.
type ForeignFileError struct {
	Path string // in the transcripts folder
	Kind string
}

func (e *ForeignFileError) Error() string {
	return fmt.Sprintf("%s is %s: move it out of the transcripts folder", e.Path, e.Kind)
}

// openOurs opens a file of ours; what it is still has to be checked.
func openOurs(dir *os.Root, name string, flag int) (*os.File, error) {
	f, err := dir.OpenFile(name, flag|unix.O_NONBLOCK, 0o600) // never wait for the other end of a pipe
	if err != nil {
		if info, lerr := dir.Lstat(name); lerr == nil && !info.Mode().IsRegular() {
			return nil, foreign(name, info)
		}
	}
	return f, err
}

// ours checks that an open file is a regular one, and reports whether it is the
// one at its path: it may have been replaced meanwhile. A link is refused.
func ours(dir *os.Root, name string, f *os.File) (info os.FileInfo, same bool, err error) {
	if info, err = f.Stat(); err != nil {
		return nil, false, err
	}
	if !info.Mode().IsRegular() {
		return nil, false, foreign(name, info)
	}
	at, err := dir.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return info, false, nil
	case err != nil:
		return nil, false, err
	case at.Mode()&fs.ModeSymlink != 0:
		return nil, false, foreign(name, at)
	}
	return info, os.SameFile(at, info), nil
}

// openFile opens a file of ours for reading. It may be replaced at any time; the
// one that was opened is as good. The caller closes it.
func openFile(dir *os.Root, name string) (*os.File, os.FileInfo, error) {
	f, err := openOurs(dir, name, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	info, _, err := ours(dir, name, f)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func foreign(name string, info os.FileInfo) error {
	return &ForeignFileError{Path: name, Kind: kindOf(info.Mode())}
}

func kindOf(mode fs.FileMode) string {
	if mode&fs.ModeSymlink != 0 {
		return "a symbolic link"
	}
	return "not a regular file"
}

// leftoverOf returns the token whose fold left a temporary file behind: renameio
// names it "." + name + digits.
func leftoverOf(name string) (token string, ok bool) {
	rest, ok := strings.CutPrefix(name, ".")
	if !ok {
		return "", false
	}
	rest = strings.TrimRight(rest, "0123456789")
	return strings.CutSuffix(rest, documentSuffix)
}
