package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// DefaultCheckpoint is how often a [Replay] that may be interrupted merges what it has
// read: seldom enough that documents are not written too often.
const DefaultCheckpoint = 5 * time.Second

// ErrCheckpoint says that the folder holds a checkpoint from which this replay
// cannot go on.
var ErrCheckpoint = errors.New("the checkpoint in the transcripts folder does not fit")

// checkpoint says that everything of a replay up to a sequence is durable in a
// folder. It is kept in that folder.
type checkpoint struct {
	Stream   string    `json:"stream"`
	Created  time.Time `json:"stream_created"` // tells it from another stream of that name
	Folder   string    `json:"folder"`         // whose files it speaks of, should it be copied
	Session  string    `json:"session"`        // "" means all
	Since    time.Time `json:"since"`
	Sequence uint64    `json:"sequence"`
}

// progress keeps the checkpoint of one replay. A nil one keeps none.
type progress struct {
	store *transcript.Store
	from  uint64 // where the replay goes on
	at    checkpoint
}

// openProgress reads the checkpoint that an interrupted replay left, if this one
// is to resume. It refuses one that is not of the same replay.
func openProgress(ctx context.Context, cfg *ReplayConfig) (*progress, error) {
	if !cfg.Resume {
		return nil, nil
	}
	rctx, cancel := context.WithTimeout(ctx, cfg.Request)
	defer cancel()
	s, err := cfg.JS.Stream(rctx, stream.Turns)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", stream.Turns, err)
	}
	info := s.CachedInfo()
	p := &progress{store: cfg.Store, at: checkpoint{
		Stream: stream.Turns, Created: stream.Made(info).UTC(), Folder: cfg.Store.Identity().ID, Session: cfg.Session, Since: cfg.Since.UTC(),
	}}
	note, err := cfg.Store.Note(ctx, transcript.NoteReplay)
	if err != nil || note == nil {
		return p, err
	}
	var old checkpoint
	if err := json.Unmarshal(note, &old); err != nil {
		return nil, fmt.Errorf("%w: its file is not what a replay wrote", ErrCheckpoint)
	}
	same := p.at
	same.Sequence = old.Sequence
	switch {
	case old.Stream != same.Stream || !old.Created.Equal(same.Created):
		err = fmt.Errorf("%w: it is of stream %s made at %s, and this one was made at %s", ErrCheckpoint, old.Stream, old.Created.Format(time.RFC3339Nano), same.Created.Format(time.RFC3339Nano))
	case old.Folder != same.Folder:
		err = fmt.Errorf("%w: it is of transcripts folder %s, and this one is %s", ErrCheckpoint, old.Folder, same.Folder)
	case old.Session != same.Session || !old.Since.Equal(same.Since):
		err = fmt.Errorf("%w: it is of a replay of %s", ErrCheckpoint, old.what())
	case old.Sequence > info.State.LastSeq:
		err = fmt.Errorf("%w: it is at sequence %d, and the stream ends at %d", ErrCheckpoint, old.Sequence, info.State.LastSeq)
	}
	if err != nil {
		return nil, err
	}
	p.from, p.at.Sequence = old.Sequence, old.Sequence
	cfg.Logger.Info("the replay goes on where another was interrupted", "sequence", p.from)
	return p, nil
}

// what says in words which replay a checkpoint is of.
func (c *checkpoint) what() string {
	what := "all sessions"
	if c.Session != "" {
		what = fmt.Sprintf("session %q", c.Session)
	}
	if !c.Since.IsZero() {
		what += " since " + c.Since.Format(time.RFC3339Nano)
	}
	return what
}

// after is the sequence up to which everything is there already.
func (p *progress) after() uint64 {
	if p == nil {
		return 0
	}
	return p.from
}

// reached notes that everything up to a sequence is durable. A process that is killed
// falls back to the note before.
func (p *progress) reached(ctx context.Context, sequence uint64) error {
	if p == nil {
		return nil
	}
	p.at.Sequence = sequence
	note, err := json.Marshal(p.at)
	if err != nil {
		return err
	}
	return p.store.SetNote(ctx, transcript.NoteReplay, append(note, '\n'))
}

// finish sweeps the temporary documents that an interrupted replay left, folds stale
// tails on the way, and removes the checkpoint.
func (p *progress) finish(ctx context.Context, cfg *ReplayConfig) error {
	if p == nil {
		return nil
	}
	err := p.store.Walk(ctx, transcript.WalkConfig{Fault: func(token string, err error) {
		cfg.Logger.Warn("a session cannot be folded", "session", token, "error", err)
	}})
	if err != nil {
		return err
	}
	if err := p.store.FoldAll(ctx); err != nil {
		return err
	}
	return p.store.DropNote(ctx, transcript.NoteReplay)
}
