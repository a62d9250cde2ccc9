package transcript

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// staleTail is the age past which a tail counts as left behind: whoever wrote it
// would have folded it.
const staleTail = 10 * time.Second

// Walk visits every session once. It folds tails older than 10 s that no one
// folds, sweeps temporary files that a crash left behind, and calls changed,
// when that is not nil, with every session that changed at or after since.
// Trouble with one session is given to fault, and the walk goes on.
func (s *Store) Walk(ctx context.Context, since time.Time, changed func(session string) error, fault func(token string, err error)) error {
	if err := s.sweep(ctx); err != nil {
		return err
	}
	return s.names(ctx, "", func(name fileName) (bool, error) {
		docTime, _ := modified(name.document)
		tailTime, tailSize := modified(name.tail)
		stale := tailSize > 0 && time.Since(tailTime) > staleTail
		fresh := changed != nil && (!docTime.Before(since) || !tailTime.Before(since))
		if !stale && !fresh {
			return true, ctx.Err()
		}
		session, err := s.sessionOf(ctx, name)
		switch {
		case errors.Is(err, ErrNoSession): // an empty tail, or nothing that can be read
			return true, nil
		case err != nil && SessionFault(err):
			fault(name.token, err)
			return true, nil
		case err != nil:
			return false, err
		}
		if stale && !s.cfg.ReadOnly {
			s.dirty.mark(session)
		}
		if fresh {
			if err := changed(session); err != nil {
				return false, err
			}
		}
		return true, ctx.Err()
	})
}

// sweep removes temporary documents that a crash left behind. Under the lock of
// a session nobody is folding it, so a temporary file of it is nobody's.
func (s *Store) sweep(ctx context.Context) error {
	if s.cfg.ReadOnly {
		return nil
	}
	for _, shard := range s.shardNames() {
		err := s.one(ctx, "sweep folder "+shard, func() error {
			entries, err := s.readFolder(shard)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			for _, e := range entries {
				token, ok := leftoverOf(e.Name())
				if !ok || token == "" || strings.HasPrefix(e.Name(), identityFile) {
					continue
				}
				if err := s.sweepFile(token, e.Name()); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) sweepFile(token, name string) error {
	if s.locks.acquire(token, 0) != nil {
		return nil // somebody is at work; the next walk comes by
	}
	defer s.locks.release(token)
	dir, err := s.shards.folder(token, false)
	if err != nil {
		return err
	}
	tail, _, err := lockTail(dir, token, true, 0)
	if errors.Is(err, ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer tail.Close()
	if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.log.Info("removed a temporary document that a crash left behind", "session", token)
	return nil
}

// walkFile holds when the last complete walk began.
const walkFile = ".afterword-walk"

// LastWalk returns when the last walk began that was marked complete; zero when
// there was none.
func (s *Store) LastWalk(ctx context.Context) (at time.Time, err error) {
	err = s.one(ctx, "read the time of the last walk", func() error {
		data, err := readFile(s.root, walkFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if i, perr := ParseInstant(strings.TrimSpace(string(data))); perr == nil { // else walk over everything
			at = i.Time()
		}
		return nil
	})
	return at, err
}

// MarkWalk notes that a walk which began at a time is complete. It need not be
// durable: a walk more does no harm.
func (s *Store) MarkWalk(ctx context.Context, began time.Time) error {
	return s.one(ctx, "note the time of the walk", func() error {
		return renameio.WriteFile(walkFile, []byte(InstantOf(began).String()+"\n"), 0o600, renameio.WithRoot(s.root), renameio.IgnoreUmask())
	})
}

// Probe writes and syncs a file as a commit would, and removes it: nil says that
// the folder can be written.
func (s *Store) Probe(ctx context.Context) error {
	if err := s.Err(); err != nil {
		return err
	}
	return s.one(ctx, "probe the transcripts folder", func() error { return probeWritable(s.root) })
}
