package transcript

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/afterword-io/afterword/internal/record"
	"github.com/google/renameio/v2"
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
				return fmt.Errorf("%d sessions could not be folded; their turns are durable in their tails", failed)
			}
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("fold: %d sessions are left; their turns are durable in their tails: %w", left, context.Cause(ctx))
		}
	}
}

// folding is one session's way through the fold of a group. It holds the
// session from begin to end.
type folding struct {
	entry  *entry
	dir    *os.Root
	tail   *os.File
	data   []byte // all of the tail
	file   *renameio.PendingFile
	size   int64 // of the document
	err    error
	held   bool
	waited bool // for whoever held the session
	fresh  bool // the tail had lines of which this process did not know that they are durable in the document
}

// foldGroup merges tails into documents: write all, sync once, rename all, sync
// once, and only then empty tails.
func (s *Store) foldGroup(group []*entry) {
	started := time.Now()
	items := make([]folding, len(group))
	dirs := make(map[*os.Root]bool) // whose names have to be durable before tails are emptied
	for i := range items {
		f := &items[i]
		f.entry = group[i]
		wait := s.cfg.FileTimeout
		if i > 0 { // who holds a session must not wait for another: two processes would wait for each other
			wait = 0
		}
		f.waited = wait > 0
		f.err = s.beginFold(f, wait)
		if f.err == nil && f.fresh {
			dirs[f.dir] = true
		}
	}
	if len(dirs) > 0 {
		s.replace(items, dirs)
	}
	folded := 0
	for i := range items {
		f := &items[i]
		if f.file != nil {
			f.err = errors.Join(f.err, f.file.Cleanup()) // does nothing once renamed
			if f.err == nil {
				folded++
			}
		}
		s.endFold(f)
	}
	s.dirty.settled()
	s.stats.folded(folded, time.Since(started))
}

// beginFold locks a session, and writes its new document to a temporary file if
// its tail has anything new. wait bounds the wait for whoever holds the session.
func (s *Store) beginFold(f *folding, wait time.Duration) error {
	if err := s.Err(); err != nil {
		return err
	}
	token := f.entry.token
	if err := s.locks.acquire(token, wait); err != nil {
		return err
	}
	f.held = true
	var info os.FileInfo
	var err error
	if f.dir, err = s.shards.folder(token, false); err == nil {
		f.tail, info, err = lockTail(f.dir, token, false, wait)
	}
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
	f.fresh = true
	doc, size, err := s.readDocument(f.dir, f.entry.session)
	if err != nil {
		return err
	}
	f.size = size
	changed, err := doc.Merge(turns...)
	if err != nil || !changed && !doc.foreign {
		return err
	}
	return s.writeDocument(f, doc)
}

// writeDocument writes the new document beside the old one.
func (s *Store) writeDocument(f *folding, doc *Document) (err error) {
	f.file, err = renameio.NewPendingFile(f.entry.token+documentSuffix, renameio.WithRoot(f.dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return fmt.Errorf("create temporary document: %w", err)
	}
	if f.size, err = doc.WriteTo(f.file); err != nil {
		return fmt.Errorf("write temporary document: %w", err)
	}
	return nil
}

// replace makes the temporary files durable, renames them, and makes that
// durable. A document that holds all lines already needs the latter too: whoever
// renamed it may have died before. A failed sync fails the store: nothing is
// renamed or emptied after it.
func (s *Store) replace(items []folding, dirs map[*os.Root]bool) {
	failAll := func(err error) {
		for i := range items {
			if f := &items[i]; f.fresh && f.err == nil {
				f.err = err
			}
		}
	}
	ctx := context.Background() // bounded by FileTimeout
	if s.durable.how == SyncFS && slices.ContainsFunc(items, func(f folding) bool { return f.file != nil }) {
		if err := s.sync.all(ctx); err != nil {
			failAll(err)
			return
		}
	}
	for i := range items {
		f := &items[i]
		if f.file == nil || f.err != nil {
			continue
		}
		if err := f.file.CloseAtomicallyReplace(); err != nil {
			var path *fs.PathError
			if errors.As(err, &path) && path.Op == "sync" {
				err = s.fail("fsync temporary document", err)
			}
			f.err = fmt.Errorf("replace document: %w", err)
		}
	}
	var err error
	if s.durable.how == SyncFS {
		err = s.sync.all(ctx)
	} else {
		err = s.syncFolders(dirs)
	}
	if err != nil {
		failAll(err)
	}
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
	if f.tail != nil {
		f.tail.Close()
	}
	if f.held {
		s.locks.release(f.entry.token)
	}
	if errors.Is(o.err, ErrBusy) && !f.waited {
		o.err, o.busy = nil, true
	}
	if o.err != nil {
		s.stats.foldFailures.Add(1)
		s.log.Warn("fold failed; the turns stay durable in the tail", "session", f.entry.token, "error", o.err)
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
		t, err := Decode(payload, len(payload))
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
