package transcript

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// Events are what the stream holds of one session.
type Events struct {
	Turns []Snapshot
	// Whole says that the stream has dropped nothing since it was made. It may have
	// been made anew, so this alone proves little.
	Whole bool
	// Since is the latest timestamp that a turn which the stream has dropped can have:
	// all that was ever published of later ones is among Turns. 0 when that is not known.
	Since Instant
}

// Repaired is what [Store.Repair] did. Everything is zero when there was nothing to repair.
type Repaired struct {
	// SetAside are the names that the damaged files have now, in their folder.
	SetAside []string `json:"set_aside,omitempty"`
	// Reasons say what was wrong with each.
	Reasons []string `json:"reasons,omitempty"`
	Turns   int      `json:"turns"` // in the transcript now
	// Restored are those of them that the damaged files did not give any more.
	Restored int `json:"restored"`
	// Unverified are ids of turns that could be read in the damaged document, and
	// that neither its sum nor the stream vouches for.
	Unverified []string `json:"unverified,omitempty"`
	// Missing are ids of turns that the damaged files had and nobody has now.
	Missing []string `json:"missing,omitempty"`
	// Unreadable is how many lines could not be read of which nothing tells the
	// turn, and that the stream did not account for. Where newlines are damaged, too,
	// there may have been more.
	Unreadable int `json:"unreadable,omitempty"`
	// CutShort says that the end of the document was missing, and that it is not
	// known that the stream has all that stood there.
	CutShort bool `json:"cut_short,omitempty"`
}

// Lost reports whether something was, or may have been, in the damaged files
// that nobody has now.
func (r *Repaired) Lost() bool { return len(r.Missing) > 0 || r.Unreadable > 0 || r.CutShort }

// timeInName is how names of files that were set aside tell the time.
const timeInName = "20060102T150405.000000Z"

// Repair sets the damaged files of a session aside and writes its transcript
// anew, from what can still be read of them and what the stream holds. It does
// nothing when no file is damaged. It holds the session from the first read to
// the last rename, so it may be called at any time and by anybody.
//
// A line of a tail whose sum holds is as good as an event. Nothing vouches for
// a line of a document whose sum is wrong, so events win over it.
//
// The new document is durable before a damaged file leaves its place: killed at
// any point, a later call finds everything that this one could read.
func (s *Store) Repair(ctx context.Context, session string, events Events) (Repaired, error) {
	if err := CheckSessionID(session); err != nil {
		return Repaired{}, err
	}
	for i := range events.Turns {
		if events.Turns[i].SessionID != session {
			return Repaired{}, fmt.Errorf("repair session %s: an event of session %s is among its own", Token(session), Token(events.Turns[i].SessionID))
		}
	}
	if s.cfg.ReadOnly {
		return Repaired{}, errors.New("repair: the transcripts are open for reading only")
	}
	token := Token(session)
	var done *Repaired
	err := s.one(ctx, "repair session "+token, func() error {
		if err := s.Err(); err != nil {
			return err
		}
		if err := s.locks.acquire(token, s.cfg.FileTimeout); err != nil {
			return err
		}
		defer s.locks.release(token)
		r := &repair{store: s, session: session, token: token, events: events, now: time.Now()}
		if err := r.run(); err != nil {
			return err
		}
		done = &r.res
		return nil
	})
	if err != nil {
		return Repaired{}, s.blame(token, err)
	}
	return *done, nil
}

// repair is one call of Repair, under the lock of its session.
type repair struct {
	store   *Store
	session string
	token   string
	events  Events
	now     time.Time

	dir     *os.Root
	tail    []byte
	lines   []Snapshot      // of the tail that check
	revs    map[string]int  // the latest that the stream has
	late    map[string]bool // turns of the stream that are later than all that it may have dropped
	inTail  map[revision]bool
	old     []byte
	tailErr error // a *CorruptError, or nil
	docErr  error // a *CorruptError, or nil
	res     Repaired
}

func (r *repair) run() error {
	var err error
	if r.dir, err = r.store.folder(r.token, false); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	tail, info, err := lockTail(r.dir, r.token, true, r.store.cfg.FileTimeout) // the lock is needed, even of a session without a tail
	if err != nil {
		return err
	}
	defer tail.Close()
	if err := r.store.private(tail, info); err != nil {
		return err
	}
	if r.tail, err = readSize(tail, info.Size()); err != nil {
		return err
	}
	lines, tailErr := decodeTail(r.session, r.token, r.tail)
	r.tailErr = tailErr
	doc, docErr := NewDocument(r.session), error(nil)
	switch r.old, err = readFile(r.dir, r.token+documentSuffix); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if doc, docErr = ParseDocument(r.session, r.old); docErr != nil {
			doc = NewDocument(r.session)
		}
	}
	var bad *CorruptError
	if docErr != nil && !errors.As(docErr, &bad) {
		return named(docErr, r.token+documentSuffix) // a newer version's
	}
	r.docErr = named(docErr, r.token+documentSuffix)
	if r.tailErr == nil && r.docErr == nil {
		return nil
	}
	doc, changed, err := r.rebuild(doc, lines)
	if err != nil {
		return err
	}
	r.res.Turns = doc.Len()
	return r.replace(doc, changed)
}

// rebuild merges what can be read with the events, and notes what is missing.
func (r *repair) rebuild(doc *Document, lines []Snapshot) (*Document, bool, error) {
	var fromTail *salvaged
	if r.tailErr != nil {
		fromTail = salvageTail(r.session, r.tail)
		lines = fromTail.turns
	}
	r.lines = lines
	r.index()
	trusted, err := MergeAll(r.session, lines...)
	if err != nil {
		return nil, false, err
	}
	if _, err := trusted.Merge(r.events.Turns...); err != nil {
		return nil, false, err
	}
	winners, err := trusted.Turns()
	if err != nil {
		return nil, false, err
	}
	before := make(map[string]int, doc.Len()+len(lines)) // the latest revisions that the files gave
	had, err := doc.Turns()
	if err != nil {
		return nil, false, err
	}
	changed := doc.foreign
	var fromDoc *salvaged
	if r.docErr != nil {
		fromDoc = salvageDocument(r.session, r.old)
		if doc, err = r.judge(fromDoc, winners); err != nil {
			return nil, false, err
		}
		had = fromDoc.turns
		changed = true
	}
	for _, list := range [][]Snapshot{lines, had} {
		for i := range list {
			before[list[i].ID] = max(before[list[i].ID], list[i].Rev)
		}
	}
	merged, err := doc.Merge(winners...)
	if err != nil {
		return nil, false, err
	}
	for i := range doc.lines {
		if before[string(doc.lines[i].id)] == 0 {
			r.res.Restored++
		}
	}
	return doc, changed || merged, r.account(doc, before, fromDoc, fromTail)
}

// replace makes the new document durable and puts it in the place of the damaged
// files. A session of which nothing is left has no document then.
func (r *repair) replace(doc *Document, changed bool) error {
	s := r.store
	name := r.token + documentSuffix
	if changed && doc.Len() > 0 {
		f, err := renameio.NewPendingFile(name, renameio.WithRoot(r.dir), renameio.WithStaticPermissions(0o600))
		if err != nil {
			return fmt.Errorf("create temporary document: %w", err)
		}
		defer f.Cleanup() // does nothing once renamed
		if err := s.now().owner.file(f.File); err != nil {
			return err
		}
		if _, err := doc.WriteTo(f); err != nil {
			return fmt.Errorf("write temporary document: %w", err)
		}
		if err := s.syncFile(f.File); err != nil {
			return err
		}
		if r.docErr != nil { // a second name for it, so that there is a document at every instant
			if err := r.setAside(name, r.docErr, r.link); err != nil {
				return err
			}
		}
		if err := f.CloseAtomicallyReplace(); err != nil {
			var path *fs.PathError
			if errors.As(err, &path) && path.Op == "sync" {
				return s.fail("fsync temporary document", err)
			}
			if r.docErr != nil { // it has not left its place
				err = errors.Join(err, r.dir.Remove(r.res.SetAside[0]))
			}
			return fmt.Errorf("replace document: %w", err)
		}
	} else if r.docErr != nil {
		if err := r.setAside(name, r.docErr, r.dir.Rename); err != nil {
			return err
		}
	}
	folder := map[*os.Root]bool{r.dir: true}
	if r.tailErr == nil {
		return s.syncFolders(folder)
	}
	if err := s.syncFolders(folder); err != nil { // its lines have to be durable elsewhere first
		return err
	}
	return r.setAside(r.token+tailSuffix, r.tailErr, r.dir.Rename)
}

// setAside gives a damaged file its other name, and makes that durable.
func (r *repair) setAside(name string, cause error, move func(from, to string) error) error {
	for at := r.now; ; at = at.Add(time.Microsecond) {
		aside := asideName(name, at)
		if _, err := r.dir.Lstat(aside); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := move(name, aside); err != nil {
			return fmt.Errorf("set %s aside: %w", name, err)
		}
		if err := r.store.syncFolders(map[*os.Root]bool{r.dir: true}); err != nil {
			return err
		}
		r.res.SetAside = append(r.res.SetAside, aside)
		r.res.Reasons = append(r.res.Reasons, reasonOf(cause))
		return nil
	}
}

// link gives the damaged document a second name, or where the file system has
// no such thing, makes a copy.
func (r *repair) link(from, to string) error {
	err := r.dir.Link(from, to)
	if err == nil || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	f, err := r.dir.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(r.old)
	if err == nil {
		err = r.store.now().owner.file(f)
	}
	if err == nil {
		err = r.store.syncFile(f)
	}
	return errors.Join(err, f.Close())
}

// asideName is the name of a damaged file that was set aside.
func asideName(name string, at time.Time) string {
	return name + corruptMark + at.UTC().Format(timeInName)
}

func reasonOf(err error) string {
	var bad *CorruptError
	if errors.As(err, &bad) {
		return bad.Reason
	}
	return err.Error()
}

// OnCorrupt has fn called with every session of which an operation of this store
// meets a damaged file. It must not block, and is called again until
// [Store.Repair] has mended it.
func (s *Store) OnCorrupt(fn func(session string)) { s.onCorrupt.Store(&fn) }

// corrupted tells whoever wants to know of a damaged file.
func (s *Store) corrupted(session string, err error) {
	var bad *CorruptError
	if errors.As(err, &bad) {
		if fn := s.onCorrupt.Load(); fn != nil {
			(*fn)(session)
		}
	}
}
