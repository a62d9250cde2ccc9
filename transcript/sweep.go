package transcript

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"
)

// sweep removes temporary documents that a crash left behind. Under the lock of
// a session nobody is folding it, so a temporary file of it is nobody's.
func (s *Store) sweep(ctx context.Context) error {
	if s.cfg.ReadOnly {
		return nil
	}
	if err := s.one(ctx, "sweep the transcripts folder", s.sweepOwn); err != nil {
		return err
	}
	for _, shard := range s.shardNames() {
		var entries []fs.DirEntry
		err := s.one(ctx, "sweep folder "+shard, func() (err error) {
			if entries, err = s.readFolder(shard); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range entries {
			token, ok := leftoverOf(e.Name())
			if !ok || token == "" || strings.HasPrefix(e.Name(), identityFile) {
				continue
			}
			if err := s.one(ctx, "sweep "+e.Name(), func() error { return s.sweepFile(token, e.Name()) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepOwn removes what a crash left of files that belong to the folder itself.
// They live for milliseconds; one that is old is nobody's.
func (s *Store) sweepOwn() error {
	entries, err := s.readFolder(".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		if at, _ := modified(e); name == walkFile || slices.Contains(notes, Note(name)) || time.Since(at) < time.Minute ||
			!strings.HasPrefix(name, "."+identityFile) && !strings.HasPrefix(name, identityFile+"-") {
			continue
		}
		if err := s.now().root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// sweepFile removes a file that nobody is at work on. Who has the session is waited
// for, but not for long: the next walk comes by.
func (s *Store) sweepFile(token, name string) error {
	wait := s.cfg.FileTimeout / 4
	if s.locks.acquire(token, wait) != nil {
		return nil
	}
	defer s.locks.release(token)
	dir, err := s.folder(token, false)
	if err != nil {
		return err
	}
	if _, err := dir.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil // it was no leftover, but a document under way
	}
	tail, info, err := lockTail(dir, token, true, wait)
	if errors.Is(err, ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer tail.Close()
	if err := s.private(tail, info); err != nil {
		return err
	}
	err = dir.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		s.log.Info("removed a temporary document that a crash left behind", "session", token)
	}
	return err
}
