package transcript

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/internal/record"
)

// foldLoop folds what is dirty, oldest first. It blocks on a hung disk, where it
// holds only sessions that nobody could write anyway.
func (s *Store) foldLoop() {
	for {
		group, wait := s.dirty.take(time.Now())
		if len(group) > 0 {
			s.foldGroup(group)
			continue
		}
		timer := time.NewTimer(max(wait, 10*time.Millisecond))
		select {
		case <-s.closing:
			timer.Stop()
			return
		case <-s.dirty.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// tendLoop looks after what becomes due by time alone.
func (s *Store) tendLoop() {
	tick := time.NewTicker(max(min(s.cfg.QuietAfter, s.cfg.LargeAge)/2, 10*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-s.closing:
			return
		case now := <-tick.C:
			s.dirty.tend(now, &s.cfg)
		}
	}
}

// FoldAll folds everything that is committed, and returns when documents hold
// all turns or ctx ends.
func (s *Store) FoldAll(ctx context.Context) error {
	for again := true; ; again = false {
		left, failed, changed := s.dirty.rush(again)
		if left == 0 {
			if failed > 0 {
				return fmt.Errorf("%s could not be folded; all turns are durable in tails", plural.Of(failed, "session"))
			}
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("fold: %s left; all turns are durable in tails: %w", plural.Of(left, "session"), context.Cause(ctx))
		}
	}
}

// folding is one session's way through the fold of a group.
type folding struct {
	replacement
	entry  *entry
	data   []byte // all of the tail
	waited bool   // for whoever held the session
}

// foldGroup merges tails into documents: write all, sync once, rename all, sync
// once, and only then empty tails.
func (s *Store) foldGroup(group []*entry) {
	started := time.Now()
	items := make([]folding, len(group))
	replacements := make([]*replacement, len(group))
	for i := range items {
		f := &items[i]
		f.entry = group[i]
		wait := s.cfg.FileTimeout
		if i > 0 { // who holds a session must not wait for another: two processes would wait for each other
			wait = 0
		}
		f.waited = wait > 0
		f.err = s.beginFold(f, wait)
		replacements[i] = &f.replacement
	}
	folded := s.replaceAll(replacements, false)
	for i := range items {
		s.endFold(&items[i])
	}
	s.dirty.settled()
	took := time.Since(started)
	s.stats.folded(folded, took)
	s.cfg.OnFold(took)
}

// beginFold locks a session, and writes its new document to a temporary file if
// its tail has anything new. wait bounds the wait for whoever holds the session.
func (s *Store) beginFold(f *folding, wait time.Duration) error {
	if err := s.Err(); err != nil {
		return err
	}
	info, err := s.hold(&f.replacement, f.entry.token, wait)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no tail, nothing to fold
	}
	if err != nil {
		return err
	}
	if f.data, err = readSize(f.tail, info.Size()); err != nil {
		return err
	}
	fresh := f.data
	if n, prefix := s.dirty.known(f.entry); n > 0 && n <= int64(len(f.data)) && s.dirty.hash(f.data[:n]) == prefix {
		fresh = f.data[n:]
	}
	turns, err := decodeTail(f.entry.session, f.entry.token, fresh)
	if err != nil || len(turns) == 0 {
		return err
	}
	return s.writeMerged(&f.replacement, f.entry.session, turns)
}

// endFold empties the tail if it is time, and lets the session go.
func (s *Store) endFold(f *folding) {
	o := outcome{err: f.err, size: f.size, emptied: f.tail == nil}
	if f.err == nil && f.tail != nil {
		o.folded = int64(len(f.data))
		if n := len(f.data); n > 0 && f.data[n-1] != '\n' { // torn: the next append cuts it
			o.folded = 0
		}
		o.prefix = s.dirty.hash(f.data[:o.folded])
		if o.folded == 0 || o.folded > s.cfg.TailLimit || s.dirty.quiet(f.entry, time.Now(), &s.cfg) {
			if o.emptied, o.err = s.emptyTail(f); o.emptied {
				o.folded = 0
			}
		}
	}
	s.letGo(&f.replacement)
	if errors.Is(o.err, ErrBusy) && !f.waited {
		o.err, o.busy = nil, true
	}
	if o.err != nil {
		o.err = s.blame(f.entry.token, o.err)
		s.stats.foldFailures.Add(1)
		level := slog.LevelWarn
		if folder := new(FolderError); errors.As(o.err, &folder) {
			level = slog.LevelDebug // said once, for all of its sessions
		}
		s.log.Log(context.Background(), level, "fold failed; the turns stay durable in the tail", "session", f.entry.token, "error", o.err)
		s.corrupted(f.entry.session, o.err)
	}
	s.dirty.settle(f.entry, o, &s.cfg)
}

// emptyTail truncates a tail whose lines are all durable in the document, unless
// something was appended since it was read.
func (s *Store) emptyTail(f *folding) (bool, error) {
	info, err := f.tail.Stat()
	if err != nil {
		return false, err
	}
	if info.Size() != int64(len(f.data)) {
		return false, nil
	}
	if info.Size() == 0 {
		return true, nil
	}
	if err := f.tail.Truncate(0); err != nil {
		return false, fmt.Errorf("empty tail: %w", err)
	}
	return true, nil
}

// decodeTail reads the lines of a tail, which the turns alias. An unterminated last line is skipped: a
// write under way, or one that a crash cut short.
func decodeTail(session, token string, data []byte) ([]Snapshot, error) {
	var turns []Snapshot
	_, err := record.Scan(data, func(payload []byte) error {
		if t, ok := scanCanonical(session, payload); ok && t.from < t.to {
			turns = append(turns, t)
			return nil
		}
		t, err := DecodeStored(payload)
		if err != nil {
			return err
		}
		if t.SessionID != session {
			return fmt.Errorf("a turn of session %s is in it", Token(t.SessionID))
		}
		turns = append(turns, t)
		return nil
	}, nil)
	if err != nil {
		return nil, &CorruptError{Path: token + tailSuffix, Reason: err.Error()}
	}
	return turns, nil
}
