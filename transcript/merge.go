package transcript

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	// mergeSessions and mergeBytes bound what is merged together: it shares a sync,
	// and its sessions are locked meanwhile.
	mergeSessions = 512
	mergeBytes    = 16 << 20
)

// Merge merges turns into documents, past the tails. It returns when the documents are
// whole and in their places; [Store.SyncMerges] makes durable that they are. It is for
// many turns at a time that can be had again if it fails, such as those of a replay:
// it costs one write of each document and a sync for hundreds of them, where
// [Store.Append] and the folds after it cost two files and several writes. What tails hold
// stays in them.
//
// Each session appears in one group only. A session at fault fails alone; the
// error joins those of all sessions. A session that is locked for longer than half the
// file bound is [ErrBusy].
func (s *Store) Merge(ctx context.Context, groups []Group) error {
	var errs []error
	for len(groups) > 0 {
		n, size := 0, 0
		for n < len(groups) && n < mergeSessions && size < mergeBytes {
			for i := range groups[n].Turns {
				size += groups[n].Turns[i].Size()
			}
			n++
		}
		some := groups[:n:n]
		groups = groups[n:]
		for len(some) > 0 {
			var busy []Group
			var failed []error
			if err := s.one(ctx, "merge into documents", func() error {
				busy, failed = s.mergeGroup(some)
				return nil
			}); err != nil {
				return errors.Join(append(errs, err)...)
			}
			errs = append(errs, failed...)
			some = busy
		}
	}
	return errors.Join(errs...)
}

// SyncMerges returns when all that was merged before is durable.
func (s *Store) SyncMerges(ctx context.Context) error {
	p := s.now()
	if merged := s.merged.Swap(nil); merged != nil && merged != p {
		return &FolderError{s.cfg.Dir, errMoved}
	}
	if p.durable.how != SyncFS {
		return s.Err() // each was made durable by itself
	}
	return s.sync.all(ctx)
}

// mergeGroup merges groups together. It waits for the first session only: who
// holds a session must not wait for another. It returns those that it found locked,
// or begun by somebody else meanwhile: they are to be merged again.
func (s *Store) mergeGroup(groups []Group) (busy []Group, errs []error) {
	started := time.Now()
	s.merged.CompareAndSwap(nil, s.now())
	items := make([]*replacement, len(groups))
	for i := range items {
		items[i] = &replacement{}
		wait := s.cfg.FileTimeout / 2 // the other half is for the files
		if i > 0 {
			wait = 0
		}
		items[i].err = s.beginMerge(items[i], &groups[i], wait)
	}
	merged := s.replaceAll(items, true)
	for i, r := range items {
		s.letGo(r)
		switch {
		case i > 0 && errors.Is(r.err, ErrBusy), errors.Is(r.err, errSeen):
			busy = append(busy, groups[i])
		case r.err != nil:
			r.err = s.blame(r.token, r.err)
			s.corrupted(groups[i].SessionID, r.err)
			errs = append(errs, fmt.Errorf("merge into session %s: %w", Token(groups[i].SessionID), r.err))
		}
	}
	s.stats.folded(merged, time.Since(started))
	return busy, errs
}

func (s *Store) beginMerge(r *replacement, g *Group, wait time.Duration) error {
	if err := s.Err(); err != nil {
		return err
	}
	for i := range g.Turns {
		if g.Turns[i].SessionID != g.SessionID {
			return fmt.Errorf("a turn of session %s is in its group", Token(g.Turns[i].SessionID))
		}
	}
	if err := s.holdNew(r, Token(g.SessionID), wait); err != nil {
		return err
	}
	turns, err := s.fit(r, g)
	if err != nil || len(turns) == 0 {
		return err
	}
	return s.writeMerged(r, g.SessionID, turns)
}

// private gives a file that was just made the permissions of ours, whatever the umask, and the
// owner of the folder.
func (s *Store) private(f *os.File, info os.FileInfo) error {
	if info.Size() > 0 {
		return nil
	}
	if info.Mode().Perm() != 0o600 {
		if err := f.Chmod(0o600); err != nil {
			return err
		}
	}
	return s.now().owner.file(f)
}
