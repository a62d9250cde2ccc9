package transcript

import (
	"context"
	"errors"
	"io/fs"

	"github.com/google/renameio/v2"
)

// replayFile holds how far an interrupted replay into this folder came.
const replayFile = identityFile + "-replay"

// ReplayNote returns the note of [Store.SetReplayNote], nil when there is none.
func (s *Store) ReplayNote(ctx context.Context) (note []byte, err error) {
	err = s.one(ctx, "read the checkpoint of a replay", func() error {
		note, err = readFile(s.now().root, replayFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return note, err
}

// SetReplayNote notes how far a replay came: atomically, and durable when it
// returns. What the note says has to be durable before.
func (s *Store) SetReplayNote(ctx context.Context, note []byte) error {
	return s.one(ctx, "write the checkpoint of a replay", func() error {
		p, err := s.here()
		if err != nil {
			return err
		}
		return errors.Join(
			renameio.WriteFile(replayFile, note, 0o600, renameio.WithRoot(p.root), renameio.IgnoreUmask()),
			p.owner.name(p.root, replayFile),
			syncFolder(p.root))
	})
}

// DropReplayNote removes the note, durably.
func (s *Store) DropReplayNote(ctx context.Context) error {
	return s.one(ctx, "remove the checkpoint of a replay", func() error {
		root := s.now().root
		if err := root.Remove(replayFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return syncFolder(root)
	})
}
