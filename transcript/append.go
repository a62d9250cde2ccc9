package transcript

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/afterword-io/afterword/internal/record"
)

// Group is what one session gets from a batch.
type Group struct {
	SessionID string
	Turns     []Snapshot
}

// Batch is a set of groups that were written and are not durable yet.
type Batch struct {
	store  *Store
	place  *place // where it is written to
	groups []Group
	errs   []error

	mu      sync.Mutex
	files   []*os.File        // to be synced one by one, where syncfs will not do
	folders map[*os.Root]bool // with new names
}

// Append adds turns to their transcripts and returns when they are durable, or
// with an error when that is not known. It waits for locked sessions. A session
// at fault fails alone; the error then joins those of all sessions.
func (s *Store) Append(ctx context.Context, turns ...Snapshot) error {
	b := s.write(ctx, GroupBySession(turns), s.cfg.FileTimeout, false)
	if err := b.Sync(ctx); err != nil {
		return err
	}
	return errors.Join(b.errs...)
}

// GroupBySession groups turns by session, in the order of first appearance.
func GroupBySession(turns []Snapshot) []Group {
	at := make(map[string]int, min(len(turns), 1024))
	of := make([]int, len(turns))
	var counts []int
	for i := range turns {
		g, ok := at[turns[i].SessionID]
		if !ok {
			g = len(counts)
			at[turns[i].SessionID] = g
			counts = append(counts, 0)
		}
		of[i] = g
		counts[g]++
	}
	groups := make([]Group, len(counts))
	all := make([]Snapshot, len(turns))
	for g, n := range counts {
		groups[g].Turns, all = all[:0:n], all[n:]
	}
	for i, g := range of {
		groups[g].SessionID = turns[i].SessionID
		groups[g].Turns = append(groups[g].Turns, turns[i])
	}
	return groups
}

// Write appends a batch to the tails, each session in one write. It does not
// wait for locked sessions ([ErrBusy]). Nothing is durable before [Batch.Sync].
// Each session appears in one group only. A turn that its session has no room for is a [*SessionFullError],
// and so are all those in its group: [Store.AppendFull] tells them apart.
func (s *Store) Write(ctx context.Context, groups []Group) *Batch {
	return s.write(ctx, groups, 0, false)
}

func (s *Store) write(ctx context.Context, groups []Group, wait time.Duration, anySize bool) *Batch {
	b := &Batch{store: s, place: s.now(), groups: groups, folders: make(map[*os.Root]bool)}
	parallel := min(8, max(2, runtime.GOMAXPROCS(0)))
	b.errs = s.each(ctx, "append", len(groups), parallel, func(i int) error {
		if err := b.append(&groups[i], wait, anySize); err != nil {
			token := Token(groups[i].SessionID)
			return fmt.Errorf("append to session %s: %w", token, s.blame(token, err))
		}
		return nil
	})
	turns := 0
	for i := range groups {
		if b.errs[i] == nil {
			turns += len(groups[i].Turns)
		}
	}
	s.stats.appended.Add(int64(turns))
	return b
}

// Err returns what became of group i.
func (b *Batch) Err(i int) error { return b.errs[i] }

// Sync makes what was written durable. After an error nothing of the batch
// counts as durable. The batch is used up.
func (b *Batch) Sync(ctx context.Context) error {
	s := b.store
	started := time.Now()
	b.mu.Lock() // a late append may still add a file; it is closed when it ends
	files, folders := b.files, b.folders
	b.files, b.folders = nil, nil
	b.mu.Unlock()
	if !slices.Contains(b.errs, nil) {
		closeAll(files)
		return nil // nothing was written
	}
	var err error
	if b.place != s.now() {
		closeAll(files)
		err = &FolderError{s.cfg.Dir, errMoved}
	} else if b.place.durable.how == SyncFS {
		err = s.sync.all(ctx)
	} else {
		errs := s.each(ctx, "fdatasync", len(files), 8, func(i int) error {
			defer files[i].Close()
			return s.syncFile(files[i])
		})
		if err = cmp.Or(errs...); err == nil { // one failure is enough to say
			err = s.one(ctx, "fsync folders", func() error { return s.syncFolders(folders) })
		}
		for i := range b.groups {
			if err == nil && b.errs[i] == nil {
				s.known.add(Token(b.groups[i].SessionID))
			}
		}
	}
	took := time.Since(started)
	s.stats.synced(took)
	s.cfg.OnSync(took)
	if err != nil {
		return err
	}
	s.dirty.add(b.groups, b.errs, &s.cfg)
	return nil
}

// append writes one group. It holds the session for as long as the file
// operations really take.
func (b *Batch) append(g *Group, wait time.Duration, anySize bool) error {
	s := b.store
	if err := s.Err(); err != nil {
		return err
	}
	if len(g.Turns) == 0 {
		return nil
	}
	size := 0
	for i := range g.Turns {
		size += g.Turns[i].Size() + record.Overhead
	}
	lines := make([]byte, 0, size)
	for i := range g.Turns {
		if g.Turns[i].SessionID != g.SessionID {
			return fmt.Errorf("a turn of session %s is in its group", Token(g.Turns[i].SessionID))
		}
		lines = record.Append(lines, g.Turns[i].Payload())
	}
	token := Token(g.SessionID)
	if err := s.locks.acquire(token, wait); err != nil {
		return err
	}
	defer s.locks.release(token)
	return b.appendLocked(token, lines, wait, anySize)
}

func (b *Batch) appendLocked(token string, lines []byte, wait time.Duration, anySize bool) error {
	s := b.store
	dir, err := s.folder(token, true)
	if err != nil {
		return err
	}
	f, info, err := lockTail(dir, token, true, wait)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if !keep {
			f.Close()
		}
	}()
	size := info.Size()
	if err := s.private(f, info); err != nil {
		return err
	}
	if size > 0 {
		if size, err = cutTorn(f, size); err != nil {
			return err
		}
	}
	if !anySize {
		if err := s.room(dir, token, size, int64(len(lines))); err != nil {
			return err
		}
	}
	if _, err := f.Write(lines); err != nil {
		// Whole lines that got through are harmless; half a line is cut off here,
		// or by the next append.
		if terr := f.Truncate(size); terr != nil && !errors.Is(terr, fs.ErrClosed) {
			return errors.Join(err, terr)
		}
		return err
	}
	if b.place.durable.how == SyncFS {
		return nil
	}
	if keep = b.keep(f, dir, size == 0 || !s.known.has(token)); keep {
		return unlockTail(f) // stays open for fdatasync
	}
	return nil
}

// keep hands a file over to Sync, with its folder when its name may be new. It
// refuses when Sync was there already.
func (b *Batch) keep(f *os.File, dir *os.Root, isNew bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.folders == nil {
		return false
	}
	b.files = append(b.files, f)
	if isNew {
		b.folders[dir] = true
		b.folders[b.place.root] = true
	}
	return true
}

// cutTorn cuts a tail back to its last newline. What is after it is a write that
// a crash cut short; nobody was told that it happened.
func cutTorn(f *os.File, size int64) (int64, error) {
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err != nil {
		return 0, err
	}
	if last[0] == '\n' {
		return size, nil
	}
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		from := max(0, end-int64(len(buf)))
		chunk := buf[:end-from]
		if _, err := f.ReadAt(chunk, from); err != nil {
			return 0, err
		}
		if nl := bytes.LastIndexByte(chunk, '\n'); nl >= 0 {
			size = from + int64(nl) + 1
			return size, f.Truncate(size)
		}
		end = from
	}
	return 0, f.Truncate(0)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
