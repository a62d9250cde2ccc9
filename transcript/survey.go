package transcript

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// corruptMark is in the name of a file that was set aside because it is damaged.
const corruptMark = ".corrupt-"

// Space is what a file system has room for.
type Space struct {
	Bytes      uint64 `json:"bytes"`
	FreeBytes  uint64 `json:"free_bytes"` // for this user
	Inodes     uint64 `json:"inodes"`     // 0 where there is no such limit
	FreeInodes uint64 `json:"free_inodes"`
}

// Survey is what a look at the folder finds, without opening a session's file.
type Survey struct {
	Documents uint64 `json:"documents"`
	// Tails counts those that hold something. Lines that are folded already stay until a
	// session has been quiet, so the age of the oldest tells whether somebody folds.
	Tails      uint64     `json:"tails"`
	TailBytes  int64      `json:"tail_bytes"`
	OldestTail *time.Time `json:"oldest_tail,omitempty"` // absent when there is none
	Corrupt    uint64     `json:"corrupt"`               // files that were set aside
	Complete   bool       `json:"complete"`              // false when the time was too short for all of it
}

// Space asks the file system of the folder.
func (s *Store) Space(ctx context.Context) (Space, error) {
	var space Space
	err := s.one(ctx, "statfs the transcripts folder", func() (err error) {
		space, err = s.statfs()
		return err
	})
	if err != nil {
		return Space{}, err
	}
	return space, nil
}

func (s *Store) statfs() (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.cfg.Dir, &st); err != nil {
		return Space{}, err
	}
	unit := uint64(st.Frsize)
	return Space{Bytes: st.Blocks * unit, FreeBytes: st.Bavail * unit, Inodes: st.Files, FreeInodes: st.Ffree}, nil
}

// Survey counts files until all are seen or ctx is past its deadline, which is no error.
func (s *Store) Survey(ctx context.Context) (Survey, error) {
	var sum Survey
	for _, shard := range s.shardNames() {
		part := sum // a folder that is late goes on with a copy of its own
		err := s.one(ctx, "list folder "+shard, func() error { return s.survey(ctx, shard, &part) })
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, context.DeadlineExceeded):
			return sum, nil
		case err != nil:
			return sum, err
		}
		sum = part
	}
	sum.Complete = true
	return sum, nil
}

func (s *Store) survey(ctx context.Context, shard string, sum *Survey) error {
	entries, err := s.readFolder(shard)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case strings.Contains(name, corruptMark):
			sum.Corrupt++
		case strings.HasPrefix(name, "."): // temporary, or the folder's own
		case strings.HasSuffix(name, documentSuffix):
			sum.Documents++
		case strings.HasSuffix(name, tailSuffix):
			at, size := modified(e)
			if size == 0 {
				continue
			}
			sum.Tails++
			sum.TailBytes += size
			if sum.OldestTail == nil || at.Before(*sum.OldestTail) {
				at = at.UTC()
				sum.OldestTail = &at
			}
		}
	}
	return nil
}
