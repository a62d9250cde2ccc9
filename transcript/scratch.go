package transcript

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// scratchMemory is how much a [Scratch] keeps in memory, outside the heap of Go. The
// sync of a document's group writes all that is dirty on its disk, a scratch file too.
const scratchMemory = 64 << 20

// scratchWindow is how much is written to the disk at a time.
const scratchWindow = 8 << 20

// Scratch is for what does not fit into memory: after the first 64 MiB, a file
// without a name on the disk of the transcripts. It is gone when it is closed or the
// process ends, however it ends, and is never made durable on purpose.
type Scratch struct {
	store  *Store
	memory []byte
	file   *os.File // what is behind memory
	size   int64
	begun  int64 // so much of file is on its way to the disk
}

// Scratch makes an empty one.
func (s *Store) Scratch(ctx context.Context) (*Scratch, error) {
	memory, err := unix.Mmap(-1, 0, scratchMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes of scratch memory: %w", scratchMemory, err)
	}
	x := &Scratch{store: s, memory: memory}
	err = s.one(ctx, "open a scratch file", func() error {
		var fd int
		err := s.now().durable.call(func(dir int) (err error) {
			fd, err = unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
			return err
		})
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
		return nil, errors.Join(err, unix.Munmap(memory))
	}
	return x, nil
}

// Append writes data at the end and returns where it begins.
func (x *Scratch) Append(ctx context.Context, data []byte) (at int64, err error) {
	at = x.size
	if end := at + int64(len(data)); end <= scratchMemory {
		copy(x.memory[at:], data)
		x.size = end
		return at, nil
	}
	at = max(at, scratchMemory)
	if err := x.store.one(ctx, "write to a scratch file", func() error {
		_, err := x.file.WriteAt(data, at-scratchMemory)
		if begun := (at - scratchMemory) &^ (scratchWindow - 1); err == nil && begun > x.begun {
			// Begin to write it now, while the disk has nothing else to do, and not with the first
			// sync of a document. It is a hint: whether it is heard does not matter.
			_ = unix.SyncFileRange(int(x.file.Fd()), x.begun, begun-x.begun, unix.SYNC_FILE_RANGE_WRITE)
			x.begun = begun
		}
		return err
	}); err != nil {
		return 0, err
	}
	x.size = at + int64(len(data))
	return at, nil
}

// ReadAt fills data with what begins at a place.
func (x *Scratch) ReadAt(ctx context.Context, data []byte, at int64) error {
	if at+int64(len(data)) > x.size {
		return fmt.Errorf("read %d bytes at %d of %d in a scratch file", len(data), at, x.size)
	}
	if at < scratchMemory {
		copy(data, x.memory[at:])
		return nil
	}
	return x.store.one(ctx, "read a scratch file", func() error {
		if _, err := x.file.ReadAt(data, at-scratchMemory); err != nil {
			return fmt.Errorf("read %d bytes at %d: %w", len(data), at, err)
		}
		return nil
	})
}

// Empty drops what was written; what of it has not reached the disk never will.
func (x *Scratch) Empty(ctx context.Context) error {
	x.size, x.begun = 0, 0
	return x.store.one(ctx, "empty a scratch file", func() error { return x.file.Truncate(0) })
}

// Close gives memory and file back.
func (x *Scratch) Close() error { return errors.Join(unix.Munmap(x.memory), x.file.Close()) }
