package transcript

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// replacement is a document on its way to being replaced, together with those of
// other sessions. Its session is held from hold or holdNew to letGo.
type replacement struct {
	token string
	dir   *os.Root
	tail  *os.File // carries the lock against other processes; nil when there is none
	held  bool

	created bool                  // its tail, and perhaps its folder, may be new
	unseen  bool                  // it has neither document nor tail, and so no lock against other processes
	fresh   bool                  // there were turns of which this process did not know that they are durable in the document
	file    *renameio.PendingFile // the new document; nil when nothing changes
	size    int64                 // of the document
	err     error
}

// enter locks a session against the rest of this process, and finds its folder.
func (s *Store) enter(r *replacement, token string, create bool, wait time.Duration) (err error) {
	r.token, r.created = token, create
	if err := s.locks.acquire(token, wait); err != nil {
		return err
	}
	r.held = true
	r.dir, err = s.folder(token, create)
	return err
}

// hold locks a session that has a tail against everybody else; wait bounds the
// wait for who holds it. A missing tail is fs.ErrNotExist.
func (s *Store) hold(r *replacement, token string, wait time.Duration) (info os.FileInfo, err error) {
	if err := s.enter(r, token, false, wait); err != nil {
		return nil, err
	}
	r.tail, info, err = lockTail(r.dir, token, false, wait)
	return info, err
}

// holdNew is hold for a session that need not have a tail. It makes one, unless
// there is no document either: such a session is unseen, and goes to its place without a lock.
func (s *Store) holdNew(r *replacement, token string, wait time.Duration) error {
	if err := s.enter(r, token, true, wait); err != nil {
		return err
	}
	var err error
	if r.unseen, err = unseen(r.dir, token); err != nil || r.unseen {
		return err
	}
	tail, info, err := lockTail(r.dir, token, true, wait)
	if err != nil {
		return err
	}
	r.tail = tail
	return s.private(tail, info)
}

func unseen(dir *os.Root, token string) (bool, error) {
	for _, suffix := range [...]string{tailSuffix, documentSuffix} {
		if _, err := dir.Lstat(token + suffix); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

// letGo ends hold, whatever came of it.
func (s *Store) letGo(r *replacement) {
	if r.tail != nil {
		r.tail.Close()
	}
	if r.held {
		s.locks.release(r.token)
	}
}

// writeMerged merges turns into the document and writes the new one beside it,
// if there is anything new.
func (s *Store) writeMerged(r *replacement, session string, turns []Snapshot) error {
	r.fresh = true
	if info, err := r.dir.Lstat(r.token + documentSuffix); err == nil && info.Size() > wholeDocument {
		if large, err := s.writeLarge(r, session, turns); large || err != nil {
			return err
		}
	}
	doc := NewDocument(session)
	if !r.unseen {
		var err error
		if doc, r.size, err = s.readDocument(r.dir, session); err != nil {
			return err
		}
	}
	changed, err := doc.Merge(turns...)
	if err != nil || !changed && !doc.foreign {
		return err
	}
	return s.writeNew(r, doc.WriteTo)
}

// writeNew writes the new document beside the old one.
func (s *Store) writeNew(r *replacement, write func(io.Writer) (int64, error)) (err error) {
	r.file, err = renameio.NewPendingFile(r.token+documentSuffix, renameio.WithRoot(r.dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("create temporary document: %w", err)
	}
	if err := s.now().owner.file(r.file.File); err != nil {
		return fmt.Errorf("create temporary document: %w", err)
	}
	if r.size, err = write(r.file); err != nil {
		return fmt.Errorf("write temporary document: %w", err)
	}
	return nil
}

// wholeDocument is the size in bytes up to which a document is merged in memory. A
// larger one is read twice in pieces, which takes longer and holds no more than the new turns.
const wholeDocument = 8 << 20

// writeLarge is writeMerged for a large document; ok is false for one in another layout.
func (s *Store) writeLarge(r *replacement, session string, turns []Snapshot) (ok bool, err error) {
	ctx := context.Background() // the caller bounds all of it
	b, err := s.openBase(r.dir, session)
	if err != nil || b == nil {
		return false, err
	}
	defer b.close()
	if b.foreign {
		return false, nil
	}
	b.direct()
	v := &View{SessionID: session, base: b, held: []*Held{nil}}
	v.add(turns)
	if err := v.plan(ctx); err != nil {
		return false, err
	}
	if r.size = b.size; !v.changed() {
		return true, nil
	}
	return true, s.writeNew(r, func(w io.Writer) (int64, error) { return v.WriteTo(ctx, w) })
}

// replaceAll replaces the documents of a group. What became of each is in its err;
// it returns how many were replaced. With later, a sync of the whole file system that
// the caller makes later is what makes the new names durable, where there is such a sync.
func (s *Store) replaceAll(group []*replacement, later bool) (replaced int) {
	s.replace(group, later)
	for _, r := range group {
		switch {
		case r.file == nil:
		case r.err == nil:
			replaced++
		default:
			_ = r.file.Cleanup() // does nothing once renamed; what it cannot remove is swept
		}
	}
	return replaced
}

// replace makes the temporary files durable, renames them, and makes that
// durable. A document that holds everything already needs the latter too: whoever
// renamed it may have died before. A failed sync fails the store: nothing is
// renamed or emptied after it.
func (s *Store) replace(group []*replacement, later bool) {
	dirs := make(map[*os.Root]bool) // whose names have to be durable
	files := false
	for _, r := range group {
		if r.err != nil || !r.fresh {
			continue
		}
		dirs[r.dir] = true
		if r.created {
			dirs[s.now().root] = true
		}
		files = files || r.file != nil
	}
	if len(dirs) == 0 {
		return
	}
	failAll := func(err error) {
		for _, r := range group {
			if r.fresh && r.err == nil {
				r.err = err
			}
		}
	}
	ctx := context.Background() // bounded by FileTimeout
	if s.now().durable.how == SyncFS && files {
		if err := s.sync.all(ctx); err != nil {
			failAll(err)
			return
		}
	}
	for _, r := range group {
		switch {
		case r.file == nil || r.err != nil:
		case r.unseen:
			r.err = s.putFirst(r)
		default:
			r.err = s.rename(r)
		}
	}
	var err error
	switch {
	case s.now().durable.how != SyncFS:
		err = s.syncFolders(dirs)
	case !later:
		err = s.sync.all(ctx)
	}
	if err != nil {
		failAll(err)
	}
}

// renameNew renames a file unless there is one of the new name, which is fs.ErrExist.
func (s *Store) renameNew(dir *os.Root, from, to string) error {
	f, err := s.now().shards.dir(dir)
	if err != nil {
		return err
	}
	err = unix.Renameat2(int(f.Fd()), from, int(f.Fd()), to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system that cannot, such as NFS
		if err = dir.Link(from, to); err == nil {
			return dir.Remove(from)
		}
		return err
	}
	if err != nil {
		return &os.LinkError{Op: "renameat2", Old: from, New: to, Err: err}
	}
	return nil
}

// rename puts the new document into the place of the old one. Where the sync of
// the group has made it durable it is only renamed: a sync of its own would be a
// flush of the disk for every document.
func (s *Store) rename(r *replacement) error {
	if s.now().durable.how != SyncFS {
		err := r.file.CloseAtomicallyReplace()
		var path *fs.PathError
		if errors.As(err, &path) && path.Op == "sync" {
			err = s.fail("fsync temporary document", err)
		}
		if err != nil {
			return fmt.Errorf("replace document: %w", err)
		}
		return nil
	}
	err := r.file.File.Close()
	if err == nil {
		err = r.dir.Rename(filepath.Base(r.file.Name()), r.token+documentSuffix)
	}
	if err != nil {
		return fmt.Errorf("replace document: %w", err)
	}
	return nil
}

// errSeen says that somebody else began the session at the same time.
var errSeen = errors.New("the session has files by now")

// putFirst puts the first document of an unseen session into its place, unless there
// is one. Who else begins the session makes its tail first and reads the document
// then. So when there is no tail after the document has its name, everybody will
// read it; otherwise the merge has to be made again, under the lock.
func (s *Store) putFirst(r *replacement) error {
	if s.now().durable.how != SyncFS {
		if err := r.file.Sync(); err != nil {
			return s.fail("fsync temporary document", err)
		}
	}
	err := r.file.File.Close()
	if err == nil {
		err = s.renameNew(r.dir, filepath.Base(r.file.Name()), r.token+documentSuffix)
	}
	if errors.Is(err, fs.ErrExist) {
		return errSeen
	}
	if err != nil {
		return fmt.Errorf("place document: %w", err)
	}
	switch _, err := r.dir.Lstat(r.token + tailSuffix); {
	case err == nil:
		return errSeen
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("place document: %w", err)
	}
	return nil
}
