package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const diskBytes = 1 << 30 // of the image, of which the disk has only what is written

// errSkipped says that something cannot be measured here, and why.
var errSkipped = errors.New("skipped")

// disk is a file system of its own that can hang: every write to it then waits,
// as on a dead disk or file server.
type disk struct {
	dir    string
	frozen bool
}

// canHangDisks reports what is missing to hang a disk.
func canHangDisks() error {
	return needs("mkfs.ext4", "mount", "umount", "mountpoint", "fsfreeze")
}

// needs reports what is missing of root and programs.
func needs(programs ...string) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: needs root", errSkipped)
	}
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%w: needs %s", errSkipped, name)
		}
	}
	return nil
}

// mountDisk makes a file system in a file and mounts it.
func (l *lab) mountDisk(ctx context.Context, c *cleaner) (*disk, error) {
	image := l.fresh("image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(image, diskBytes); err != nil {
		return nil, err
	}
	if err := command(ctx, "mkfs.ext4", "-q", "-F", image); err != nil {
		return nil, err
	}
	d := &disk{dir: l.fresh("disk")}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return nil, err
	}
	if err := c.will(mountPoint, d.dir); err != nil {
		return nil, err
	}
	if err := command(ctx, "mount", "-o", "loop", image, d.dir); err != nil {
		return nil, fmt.Errorf("%w: needs a loop device: %w", errSkipped, err)
	}
	return d, nil
}

// transcripts is a folder on the disk.
func (d *disk) transcripts() string { return filepath.Join(d.dir, "transcripts") }

func (d *disk) hang(ctx context.Context) error {
	d.frozen = true
	return command(ctx, "fsfreeze", "-f", d.dir)
}

// resume goes through even when ctx has ended, or nobody could be killed who waits
// for the disk.
func (d *disk) resume(ctx context.Context) error {
	if !d.frozen {
		return nil
	}
	d.frozen = false
	return command(context.WithoutCancel(ctx), "fsfreeze", "-u", d.dir)
}
