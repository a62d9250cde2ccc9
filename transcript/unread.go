package transcript

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"
)

// Unread is what a folder lacks: messages that the stream removed before anything read them into
// this folder. Nobody knows of which sessions they were, so everything that is read from such a folder may be
// short, and says so, until a person removes its note: once the turns were copied into the
// folder, or when they are lost for good.
type Unread struct {
	Messages uint64    `json:"messages"`
	Since    time.Time `json:"since"`          // when it was noticed first
	Stream   time.Time `json:"stream_created"` // which stream, and before which of its messages, they were
	Before   uint64    `json:"before"`
	Do       string    `json:"do"`
}

// unreadDo is for whoever opens the note.
const unreadDo = "turns may be missing from every transcript in this folder; remove this file once they were copied here, or when they are lost for good"

// errUnreadSession is that a folder that lacks turns has nothing of a session.
var errUnreadSession = fmt.Errorf("%w: %w", ErrNoSession, ErrPartial)

// Unread returns what the folder lacks, nil when it is whole.
func (s *Store) Unread(ctx context.Context) (*Unread, error) {
	text, err := s.Note(ctx, NoteUnread)
	if err != nil || text == nil {
		return nil, err
	}
	u := &Unread{}
	if json.Unmarshal(text, u) != nil { // somebody wrote it by hand: how many is not known
		u = &Unread{}
	}
	return u, nil
}

// AddUnread notes more messages that this folder will not get: of a stream, all before a sequence. What
// another member of its group has noted is not counted again.
func (s *Store) AddUnread(ctx context.Context, messages uint64, stream time.Time, before uint64) error {
	u, err := s.Unread(ctx)
	if err != nil || u != nil && u.Stream.Equal(stream) && before <= u.Before {
		return err
	}
	if u == nil {
		u = &Unread{Since: time.Now().UTC().Truncate(time.Second)}
	}
	u.Messages, u.Stream, u.Before, u.Do = u.Messages+messages, stream, before, unreadDo
	text, err := json.Marshal(u)
	if err != nil {
		return err
	}
	return s.SetNote(ctx, NoteUnread, append(text, '\n'))
}

// lacks reports whether the folder has that note. It is part of a file operation.
func (s *Store) lacks() (bool, error) {
	var st unix.Stat_t
	err := s.now().durable.call(func(fd int) error { return unix.Fstatat(fd, string(NoteUnread), &st, unix.AT_SYMLINK_NOFOLLOW) })
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &FolderError{s.cfg.Dir, err}
	}
	return true, nil
}
