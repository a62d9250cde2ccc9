package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	unmountTries = 50
	unmountPause = 100 * time.Millisecond
	cleanBound   = time.Minute
)

// cleaner is a process that removes what would outlive this one, mounts and
// network namespaces, as soon as this one closes the pipe between them: at the
// end, and just as well when it is killed.
type cleaner struct {
	cmd  *exec.Cmd
	pipe *os.File
	log  string
}

// startCleaner does not use spawn, whose processes die with this one.
func (l *lab) startCleaner() (*cleaner, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c := &cleaner{pipe: w, log: l.fresh("cleaner.log")}
	log, err := os.Create(c.log)
	if err != nil {
		w.Close()
		return nil, err
	}
	defer log.Close()
	c.cmd = exec.Command(l.Self[0], append(append([]string(nil), l.Self[1:]...), partCommand...)...)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = r, log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is not for it
	if err := c.cmd.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("start cleaner: %w", err)
	}
	return c, json.NewEncoder(w).Encode(partJob{Part: cleanerPart})
}

// will has something removed at the end. It is called before that is made.
func (c *cleaner) will(kind, name string) error {
	_, err := fmt.Fprintf(c.pipe, "%s %s\n", kind, name)
	return err
}

// clean has everything removed, last first, and waits for it.
func (c *cleaner) clean() error {
	c.pipe.Close()
	late := time.AfterFunc(cleanBound, func() { _ = c.cmd.Process.Kill() })
	defer late.Stop()
	if err := c.cmd.Wait(); err != nil {
		said, _ := os.ReadFile(c.log)
		return fmt.Errorf("clean up: %w: %s", err, said)
	}
	return nil
}

// What a cleaner removes.
const (
	mountPoint = "mount"
	namespace  = "netns"
)

// cleanUp is the cleaner's process. No signal ends it before its work is done.
func cleanUp(in *bufio.Reader, say func(partLine)) (err error) {
	say(partLine{Ready: true})
	rest, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	list := strings.Split(strings.TrimSpace(string(rest)), "\n")
	slices.Reverse(list)
	ctx := context.Background()
	for _, line := range list {
		kind, name, _ := strings.Cut(line, " ")
		switch kind {
		case mountPoint:
			err = errors.Join(err, unmount(ctx, name))
		case namespace:
			if _, missing := os.Stat("/run/netns/" + name); missing == nil {
				err = errors.Join(err, command(ctx, "ip", "netns", "del", name))
			}
		}
	}
	return err
}

// unmount thaws and unmounts what is mounted at dir, if anything is.
func unmount(ctx context.Context, dir string) error {
	if command(ctx, "mountpoint", "-q", dir) != nil {
		return nil
	}
	_ = command(ctx, "fsfreeze", "-u", dir) // it says that nothing is frozen
	for range unmountTries {
		if command(ctx, "umount", dir) == nil {
			return nil
		}
		time.Sleep(unmountPause) // who has files open there is being killed
	}
	return command(ctx, "umount", "-l", dir)
}
