package transcript

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Scratch is a file without a name on the disk of the transcripts, for what does
// not fit into memory. It is gone when it is closed or the process ends, however
// it ends, and is never made durable on purpose.
type Scratch struct {
	store *Store
	file  *os.File
	size  int64
}

// Scratch opens an empty scratch file.
func (s *Store) Scratch(ctx context.Context) (*Scratch, error) {
	x := &Scratch{store: s}
	err := s.one(ctx, "open a scratch file", func() error {
		fd, err := unix.Openat(int(s.durable.dir.Fd()), ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
		if err == nil {
			x.file = os.NewFile(uintptr(fd), "scratch file in "+s.cfg.Dir)
			return nil
		}
		if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) {
			return &os.PathError{Op: "open scratch file in", Path: s.cfg.Dir, Err: err}
		}
		// A file system without nameless files, such as NFS.
		if x.file, err = os.CreateTemp("", "afterword-scratch-"); err != nil {
			return err
		}
		return os.Remove(x.file.Name())
	})
	if err != nil {
		return nil, err
	}
	return x, nil
}

// Append writes data at the end and returns where it begins.
func (x *Scratch) Append(ctx context.Context, data []byte) (at int64, err error) {
	at = x.size
	if err := x.store.one(ctx, "write to a scratch file", func() error {
		_, err := x.file.WriteAt(data, at)
		return err
	}); err != nil {
		return 0, err
	}
	x.size += int64(len(data))
	return at, nil
}

// ReadAt fills data with what begins at a place.
func (x *Scratch) ReadAt(ctx context.Context, data []byte, at int64) error {
	return x.store.one(ctx, "read a scratch file", func() error {
		if _, err := x.file.ReadAt(data, at); err != nil {
			return fmt.Errorf("read %d bytes at %d: %w", len(data), at, err)
		}
		return nil
	})
}

// Empty drops what was written; what of it has not reached the disk never will.
func (x *Scratch) Empty(ctx context.Context) error {
	x.size = 0
	return x.store.one(ctx, "empty a scratch file", func() error { return x.file.Truncate(0) })
}

// Close gives the file back.
func (x *Scratch) Close() error { return x.file.Close() }
