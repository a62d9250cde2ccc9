package consumer

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// positionEvery is how often a folder's position is written at most. A process that is killed
// leaves an older one, which says the same.
const positionEvery = 2 * time.Second

// position says how far a folder has followed the stream. The server does not remember that: it moves
// a consumer past what the stream removes. The folder keeps it, and so knows what it was never given.
type position struct {
	Created  time.Time `json:"stream_created"` // tells the stream from another one of its name
	Sequence uint64    `json:"sequence"`       // the highest that was delivered, or noted as unread
	Delivery uint64    `json:"delivery"`       // which delivery of the durable consumer that was
	Pending  uint64    `json:"pending"`        // what the stream held behind it then
}

func (p *position) same(o position) bool {
	return p.Created.Equal(o.Created) && p.Sequence == o.Sequence && p.Delivery == o.Delivery && p.Pending == o.Pending
}

// follower compares the sequences of the messages that come with their numbers as deliveries: a sequence
// that rises by more was removed before it was delivered. Deliveries to other members, and again to them, count as well, so
// that nothing is called unread that was not.
type follower struct {
	mu     sync.Mutex
	at     position
	again  uint64 // deliveries after at of messages before it
	missed uint64 // not noted in the folder yet

	done  position // of what was committed last
	due   bool     // the folder does not have it
	kept  uint64   // the sequence that the folder has
	wrote time.Time
}

// saw takes in a delivery, and returns how many messages are gone that no delivery was of.
func (f *follower) saw(sequence, delivery, pending uint64) (missed uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case sequence <= f.at.Sequence:
		if delivery > f.at.Delivery {
			f.again++
		}
		return 0
	case delivery >= f.at.Delivery+f.again: // else the server has set its own count back
		missed = max(sequence-f.at.Sequence, delivery-f.at.Delivery-f.again) - (delivery - f.at.Delivery - f.again)
	}
	f.at.Sequence, f.at.Delivery, f.at.Pending, f.again = sequence, delivery, pending, 0
	f.missed += missed
	return missed
}

func (f *follower) now() position {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

func (f *follower) reset(at position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at, f.again, f.missed, f.due, f.kept = at, 0, 0, false, at.Sequence
}

// readPosition returns the position of a folder, nil when it has none.
func readPosition(ctx context.Context, s *transcript.Store) (*position, error) {
	text, err := s.Note(ctx, transcript.NotePosition)
	if err != nil || text == nil {
		return nil, err
	}
	p := &position{}
	if json.Unmarshal(text, p) != nil || p.Created.IsZero() { // the power went: as if it had none
		return nil, nil
	}
	return p, nil
}

func writePosition(ctx context.Context, s *transcript.Store, p position) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.SetNote(ctx, transcript.NotePosition, append(text, '\n'))
}

// follow finds out what the stream has removed that this folder will not get, when it joins a group: info
// is of the stream, and was asked for before the durable consumer; have is nil when there is none yet.
func (c *Consumer) follow(ctx context.Context, info *jetstream.StreamInfo, have *jetstream.ConsumerInfo) error {
	store, state := c.cfg.Store, info.State
	old, err := readPosition(ctx, store)
	if err != nil {
		return err
	}
	gone := uint64(0) // everything up to it is not in the stream
	if state.FirstSeq > 0 {
		gone = state.FirstSeq - 1
	}
	at := position{Created: stream.Made(info), Sequence: gone}
	if have != nil && have.Delivered.Stream > gone {
		at.Sequence, at.Delivery = have.Delivered.Stream, have.Delivered.Consumer
	} else if have != nil {
		at.Delivery = have.Delivered.Consumer
	}
	own := have != nil && have.Config.Metadata[stream.MetaDirectory] == store.Identity().ID
	missed := uint64(0)
	switch {
	case old != nil && (!old.Created.Equal(stream.Made(info)) || old.Sequence > state.LastSeq):
		c.cfg.Logger.Warn("the stream was made again, or set back, since this folder followed it", "group", c.cfg.Group, "stream_created", stream.Made(info))
		if err := stream.MarkContinued(ctx, c.cfg.JS); err != nil {
			c.cfg.Logger.Warn("the stream could not be marked as one that does not have all turns: whoever reads it alone does not know", "error", err)
		}
		missed = old.Pending
		if have == nil {
			missed += state.LastSeq - state.Msgs
		}
	case old == nil && !own:
		missed = stream.Lacks(info)
	case old == nil: // of an older version
	case own && at.Delivery >= old.Delivery:
		f := follower{at: *old}
		missed = min(f.saw(at.Sequence, at.Delivery, 0), removedAfter(state, old.Sequence))
	case gone > old.Sequence:
		missed = gone - old.Sequence
	}
	if err := noteUnread(ctx, store, missed, stream.Made(info), at.Sequence+1, c.cfg.Logger.With("group", c.cfg.Group)); err != nil {
		return err
	}
	at.Pending = state.LastSeq - at.Sequence
	if own && old != nil && old.Created.Equal(at.Created) && old.Sequence > at.Sequence && old.Sequence <= state.LastSeq {
		at = *old // the server has set its own count back
	}
	c.follower.reset(at)
	if old != nil && old.same(at) { // it is looked at every some seconds
		return nil
	}
	return writePosition(ctx, store, at)
}

// removedAfter is how many messages a stream has removed after a sequence at most. Whatever deliveries say, no more
// are unread: a durable consumer whose settings were changed may have been given less.
func removedAfter(state jetstream.StreamState, sequence uint64) uint64 {
	n := uint64(state.NumDeleted)
	if state.FirstSeq > sequence+1 {
		n += state.FirstSeq - 1 - sequence
	}
	return n
}

// begin notes what a replay into a folder that had nothing before, and follows no stream yet, cannot read: before
// anything is merged, so that a kill leaves no folder that looks whole. It reports whether it is such a one.
func (r *replay) begin(ctx context.Context, info *jetstream.StreamInfo) (fresh bool, err error) {
	old, err := readPosition(ctx, r.cfg.Store)
	if err != nil || old != nil && old.Created.Equal(stream.Made(info)) {
		return false, err
	}
	page, err := r.cfg.Store.List(ctx, "", "", 1)
	if err != nil || len(page.Sessions) > 0 {
		return false, err
	}
	r.unread = stream.Lacks(info)
	return true, noteUnread(ctx, r.cfg.Store, r.unread, stream.Made(info), info.State.LastSeq+1, r.cfg.Logger)
}

// follows notes that the folder has all that the stream held when the replay began, for the group that it may
// become the folder of.
func (r *replay) follows(ctx context.Context, info *jetstream.StreamInfo) error {
	old, err := readPosition(ctx, r.cfg.Store)
	if err != nil || old != nil && old.Created.Equal(stream.Made(info)) {
		return err
	}
	return writePosition(ctx, r.cfg.Store, position{Created: stream.Made(info), Sequence: info.State.LastSeq})
}

// noteUnread says in log and folder that messages are gone, of a stream and before a sequence of it.
func noteUnread(ctx context.Context, s *transcript.Store, missed uint64, created time.Time, before uint64, log *slog.Logger) error {
	if missed == 0 {
		return nil
	}
	log.Warn("the stream had removed messages before this folder could read them: what is read from it may lack turns, and says so, until they were copied here and the note is removed",
		"folder", s.Identity().ID, "unread", missed, "before_sequence", before, "note", filepath.Join(s.Dir(), string(transcript.NoteUnread)))
	return s.AddUnread(ctx, missed, created, before)
}

// committed notes that all deliveries up to a position are durable.
func (c *Consumer) committed(ctx context.Context, at position) {
	c.follower.mu.Lock()
	c.follower.done, c.follower.due = at, true
	late := c.follower.missed > 0 || time.Since(c.follower.wrote) >= positionEvery
	c.follower.mu.Unlock()
	if late {
		c.keepPosition(ctx)
	}
}

// keepPosition writes what is to be remembered, what is missing first. What fails is written
// with the next batch, or found out again by the next process.
func (c *Consumer) keepPosition(ctx context.Context) {
	f := &c.follower
	f.mu.Lock()
	at, missed, due, kept := f.done, f.missed, f.due, f.kept
	f.mu.Unlock()
	if !due {
		return
	}
	var err error
	if missed > 0 {
		var info *jetstream.StreamInfo
		if info, err = turnsInfo(ctx, c.cfg.JS, c.cfg.Request); err == nil {
			err = noteUnread(ctx, c.cfg.Store, min(missed, removedAfter(info.State, kept)), at.Created, at.Sequence, c.cfg.Logger.With("group", c.cfg.Group))
		}
	}
	if err == nil {
		err = writePosition(ctx, c.cfg.Store, at)
	}
	if err != nil {
		c.cfg.Logger.Warn("the folder's position in the stream could not be noted; it is tried again", "error", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.missed -= min(f.missed, missed)
	f.due, f.kept, f.wrote = f.done != at, at.Sequence, time.Now()
}
