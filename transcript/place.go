package transcript

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/folder"
)

// place is the transcripts folder as it was opened. What stands at its path may be
// replaced while it is open: unmounted, moved away, restored from a copy.
type place struct {
	root    *os.Root
	id      fileID
	durable durability
	shards  shards
	owner   *owner // who owns what root makes in it; nil for whoever runs
}

// fileID tells one file or folder from another.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino} }

// owner is a user and a group.
type owner struct{ uid, gid int }

func ownerOf(st *unix.Stat_t) *owner {
	if os.Geteuid() != 0 || st.Uid == 0 {
		return nil
	}
	return &owner{int(st.Uid), int(st.Gid)}
}

// file gives a file or folder to the owner of the transcripts folder.
func (o *owner) file(f *os.File) error {
	if o == nil {
		return nil
	}
	return folder.Give(f, o.uid, o.gid)
}

// name is file by name.
func (o *owner) name(dir *os.Root, name string) error {
	if o == nil {
		return nil
	}
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(o.file(f), f.Close())
}

// FolderError is trouble with a folder of many sessions: it was moved or unmounted, or cannot
// be entered or written. It passes, and says nothing of any one session.
type FolderError struct {
	Path string
	Err  error
}

func (e *FolderError) Error() string { return "folder " + e.Path + ": " + e.Err.Error() }

func (e *FolderError) Unwrap() error { return e.Err }

// errGone is not fs.ErrNotExist on purpose: nobody knows what was in it.
var (
	errGone    = errors.New("it was there and is gone: move it back, or mount it again; if it is to begin anew, start afterword again")
	errEmptied = errors.New("an empty folder stands in its place: move the first one back, or a copy of it; if it is to begin anew, start afterword again")
	errMoved   = errors.New("it was replaced while it was written to; the turns are to be written again")
	errOther   = errors.New("another folder stands in its place: move the first one back, or start afterword again with the one that it is to use")
)

// openPlace opens the folder that stands at the path now.
func openPlace(cfg *Config) (*place, error) {
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, err
	}
	p := &place{root: root}
	if p.durable, err = openDurability(root, cfg.Durability); err != nil {
		root.Close()
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(p.durable.dir.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("stat transcripts folder: %w", err), p.close())
	}
	p.id, p.owner = idOf(&st), ownerOf(&st)
	p.shards = shards{place: p}
	return p, nil
}

func (p *place) close() error {
	return errors.Join(p.shards.close(), p.durable.close(), p.root.Close())
}

// now returns the folder without a look at what stands at its path.
func (s *Store) now() *place { return s.place.Load() }

// here returns the folder that stands at the path, which is opened again when it was replaced by
// one with the same identity. Its error is a [*FolderError].
func (s *Store) here() (*place, error) {
	var st unix.Stat_t
	err := unix.Stat(s.cfg.Dir, &st)
	if p := s.now(); err == nil && idOf(&st) == p.id {
		return p, nil
	}
	s.reopening.Lock()
	defer s.reopening.Unlock()
	switch err := unix.Stat(s.cfg.Dir, &st); {
	case errors.Is(err, unix.ENOENT):
		return nil, &FolderError{s.cfg.Dir, errGone}
	case err != nil:
		return nil, &FolderError{s.cfg.Dir, err}
	case idOf(&st) == s.now().id:
		return s.now(), nil
	}
	p, err := openPlace(&s.cfg)
	if err != nil {
		return nil, &FolderError{s.cfg.Dir, err}
	}
	id, err := readIdentity(p.root)
	if err != nil || id.ID != s.identity.ID || id.Layout != s.identity.Layout {
		p.close()
		return nil, &FolderError{s.cfg.Dir, errOther}
	}
	p.shards.flat, p.shards.replaced = s.identity.Layout == Flat, s.forget
	s.retired = append(s.retired, s.now()) // operations may still be at work in it
	s.place.Store(p)
	s.forget()
	s.log.Warn("the transcripts folder was replaced by a copy of itself, which is used from now on", "folder", s.cfg.Dir)
	return p, nil
}

// forget drops what is known of files: others stand in their places.
func (s *Store) forget() {
	s.known.forget()
	s.dirty.forget()
}

// folder returns the folder of a token. With create it is made; without, a
// missing one is fs.ErrNotExist.
func (s *Store) folder(token string, create bool) (*os.Root, error) {
	p, err := s.here()
	if err != nil {
		return nil, err
	}
	return p.shards.folder(token, create)
}

// blame tells trouble with the folder of a token from trouble with one of its files.
func (s *Store) blame(token string, err error) error {
	var known *FolderError
	if errors.As(err, &known) {
		s.trouble(known)
		return err
	}
	if !errors.Is(err, unix.EACCES) {
		return err
	}
	name := "."
	if s.identity.Layout != Flat {
		name = shardOf(token)
	}
	if s.access(name) != nil {
		known = &FolderError{name, denied(err)}
		s.trouble(known)
		return known
	}
	return err
}

// access checks that this process may look into a folder, and write there if it is to.
func (s *Store) access(name string) error {
	mode := uint32(unix.R_OK | unix.X_OK)
	if !s.cfg.ReadOnly {
		mode |= unix.W_OK
	}
	err := s.now().durable.call(func(fd int) error { return unix.Faccessat(fd, name, mode, unix.AT_EACCESS) })
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return &FolderError{name, denied(err)}
}

// denied adds what to do about a folder that this process may not use.
func denied(err error) error {
	if errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: give it back to the user that afterword runs as", err)
	}
	return err
}

// trouble notes a folder for [Store.Probe] to look at.
func (s *Store) trouble(err *FolderError) {
	s.troubledMu.Lock()
	defer s.troubledMu.Unlock()
	if s.troubled == nil {
		s.troubled = make(map[string]bool)
	}
	if !s.troubled[err.Path] {
		s.troubled[err.Path] = true
		s.log.Warn("a folder of transcripts cannot be used; this is looked at until it can", "folder", err.Path, "error", err.Err)
	}
}

// probeFolders looks at the folders that were in trouble.
func (s *Store) probeFolders() error {
	p, err := s.here()
	if err != nil {
		return err
	}
	if err := s.access("."); err != nil {
		return err
	}
	s.troubledMu.Lock()
	names := slices.Collect(maps.Keys(s.troubled))
	s.troubledMu.Unlock()
	for _, name := range names {
		if isShard(name) {
			if _, err := p.shards.named(name, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := s.access(name); err != nil {
				return err
			}
		}
		s.troubledMu.Lock()
		delete(s.troubled, name)
		s.troubledMu.Unlock()
		s.log.Info("a folder of transcripts can be used again", "folder", name)
	}
	return nil
}

// Troubled returns what is wrong with a folder that could not be used, to read or to write, and still cannot be.
func (s *Store) Troubled(ctx context.Context) error {
	s.troubledMu.Lock()
	n := len(s.troubled)
	s.troubledMu.Unlock()
	if n == 0 {
		return nil
	}
	return s.one(ctx, "look at the transcripts folder", s.probeFolders)
}

// isShard reports whether a name is that of a folder of the sharded layout.
func isShard(name string) bool {
	return len(name) == 2 && isHex(name[0]) && isHex(name[1])
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
