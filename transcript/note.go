package transcript

import (
	"context"
	"errors"
	"io/fs"

	"github.com/google/renameio/v2"
)

// Note is a small file in the transcripts folder, beside its identity.
type Note string

// The notes.
const (
	// NoteReplay says how far an interrupted replay into this folder came.
	NoteReplay Note = identityFile + "-replay"
	// NotePosition says how far the folder has followed the stream.
	NotePosition Note = identityFile + "-position"
	// NoteUnread says that the folder lacks turns: see [Store.AddUnread].
	NoteUnread Note = identityFile + "-unread"
)

// notes are all of them, which no sweep removes.
var notes = []Note{NoteReplay, NotePosition, NoteUnread}

// Note returns what was set, nil when there is none.
func (s *Store) Note(ctx context.Context, n Note) ([]byte, error) {
	var text []byte
	err := s.one(ctx, "read "+string(n), func() (err error) {
		text, err = readFile(s.now().root, string(n))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, err // one that is late still sets the text
	}
	return text, nil
}

// SetNote replaces a note: atomically, and durable when it returns. What it says has to be durable before.
func (s *Store) SetNote(ctx context.Context, n Note, text []byte) error {
	return s.one(ctx, "write "+string(n), func() error {
		p, err := s.here()
		if err != nil {
			return err
		}
		return errors.Join(
			renameio.WriteFile(string(n), text, 0o600, renameio.WithRoot(p.root), renameio.IgnoreUmask()),
			p.owner.name(p.root, string(n)),
			syncFolder(p.root))
	})
}

// DropNote removes a note, durably.
func (s *Store) DropNote(ctx context.Context, n Note) error {
	return s.one(ctx, "remove "+string(n), func() error {
		root := s.now().root
		if err := root.Remove(string(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return syncFolder(root)
	})
}
