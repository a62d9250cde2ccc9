package transcript

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"
)

// StaleTail is the age past which a tail counts as left behind: whoever wrote it
// would have folded it.
const StaleTail = 10 * time.Second

// WalkConfig says what a walk does.
type WalkConfig struct {
	// Stale is the age past which a tail is folded. [StaleTail] leaves alone what
	// others are about to fold; 0 folds every tail that holds something, as the
	// first walk of a process has to: its predecessor may have been killed just now.
	Stale time.Duration
	// Changed, if set, is called with every session that changed at or after Since.
	Changed func(session string)
	Since   time.Time
	// Fault is told of trouble with one session; the walk goes on.
	Fault func(token string, err error)
}

// Walk visits every session once: it folds tails that nobody folds and sweeps
// temporary files that a crash left behind.
func (s *Store) Walk(ctx context.Context, cfg WalkConfig) error {
	if err := s.sweep(ctx); err != nil {
		return err
	}
	return s.names(ctx, "", func(name fileName) (bool, error) {
		if err := name.foreign(); err != nil {
			cfg.Fault(name.token, err)
			return true, ctx.Err()
		}
		docTime, _ := modified(name.document)
		tailTime, tailSize := modified(name.tail)
		stale := tailSize > 0 && time.Since(tailTime) > cfg.Stale
		fresh := cfg.Changed != nil && (!docTime.Before(cfg.Since) || !tailTime.Before(cfg.Since))
		if !stale && !fresh {
			return true, ctx.Err()
		}
		session, err := s.sessionOf(ctx, name)
		switch {
		case errors.Is(err, ErrNoSession): // an empty tail, or nothing that can be read
			return true, nil
		case err != nil && SessionFault(err):
			cfg.Fault(name.token, err)
			return true, nil
		case err != nil:
			return false, err
		}
		if stale && !s.cfg.ReadOnly {
			s.dirty.mark(session)
		}
		if fresh {
			cfg.Changed(session)
		}
		return true, ctx.Err()
	})
}

// walkFile holds when the last complete walk began.
const walkFile = ".afterword-walk"

// LastWalk returns when the last walk began that was marked complete; zero when
// there was none.
func (s *Store) LastWalk(ctx context.Context) (time.Time, error) {
	var at time.Time
	err := s.one(ctx, "read the time of the last walk", func() error {
		data, err := readFile(s.now().root, walkFile)
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
	if err != nil {
		return time.Time{}, err // one that is late still sets the time
	}
	return at, nil
}

// MarkWalk notes that a walk which began at a time is complete. The note is
// neither durable nor replaced atomically: one that cannot be read only means
// that the next walk looks at everything.
func (s *Store) MarkWalk(ctx context.Context, began time.Time) error {
	return s.one(ctx, "note the time of the walk", func() error {
		p, err := s.here()
		if err != nil {
			return err
		}
		return errors.Join(
			p.root.WriteFile(walkFile, []byte(InstantOf(began).String()+"\n"), 0o600),
			p.root.Chmod(walkFile, 0o600), // whatever the umask
			p.owner.name(p.root, walkFile))
	})
}

// Probe writes and syncs a file as a commit would, and removes it: nil says that
// the folder can be written.
func (s *Store) Probe(ctx context.Context) error {
	if err := s.Err(); err != nil {
		return err
	}
	return s.one(ctx, "probe the transcripts folder", func() error {
		if err := s.probeFolders(); err != nil {
			return err
		}
		return probeWritable(s.now().root)
	})
}
