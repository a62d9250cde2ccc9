package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	"golang.org/x/sys/unix"
)

// lab is where a benchmark works: a scratch folder, and the processes that it
// started. Nothing in it is deleted before it is closed.
type lab struct {
	Config
	dir    string
	began  time.Time
	result *Result
	closes []func()
	names  int
}

// openLab checks that the disk has room for need bytes, says so, and makes the
// scratch folder.
func openLab(cfg Config, name string, need int64) (*lab, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	parent := cfg.Dir
	if parent == "" {
		parent = os.TempDir()
	}
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("scratch folder: %w", err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(parent, &st); err != nil {
		return nil, fmt.Errorf("scratch folder %s: %w", parent, err)
	}
	free := int64(st.Bavail) * st.Bsize
	if free < need {
		return nil, fmt.Errorf("%s has %s free and this needs about %s: choose another folder, or smaller sizes", parent, Bytes(free), Bytes(need))
	}
	dir, err := os.MkdirTemp(parent, "afterword-bench-")
	if err != nil {
		return nil, fmt.Errorf("scratch folder: %w", err)
	}
	cfg.Say(fmt.Sprintf("needs about %s in %s, which has %s free; it is removed at the end", Bytes(need), dir, Bytes(free)))
	l := &lab{Config: cfg, dir: dir, began: time.Now()}
	l.result = &Result{Bench: name, Began: l.began.UTC().Truncate(time.Second), Machine: machineOf(dir)}
	if cfg.Profile != "" {
		if err := os.MkdirAll(cfg.Profile, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("profiles: %w", err), l.close())
		}
	}
	return l, nil
}

// set notes a size.
func (l *lab) set(name string, value any) {
	l.result.Settings = append(l.result.Settings, Setting{name, value})
}

// profileSelf takes a profile of this process until the lab is closed.
func (l *lab) profileSelf(name string) error {
	if l.Profile == "" {
		return nil
	}
	stop, err := profile(filepath.Join(l.Profile, name+".pprof"))
	if err != nil {
		return err
	}
	l.onClose(stop)
	return nil
}

// profile takes a CPU profile of this process until stop is called.
func profile(file string) (stop func(), err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("profile: %w", err), f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}, nil
}

// finish closes the lab and returns the result, unless there is an error.
func (l *lab) finish(ctx context.Context, err error) (*Result, error) {
	l.result.Seconds = time.Since(l.began).Seconds()
	err = errors.Join(err, l.close())
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return l.result, nil
}

// onClose has fn called at the end, last first.
func (l *lab) onClose(fn func()) { l.closes = append(l.closes, fn) }

func (l *lab) close() error {
	for i := len(l.closes) - 1; i >= 0; i-- {
		l.closes[i]()
	}
	l.Progress("cleaning up", 0, 1)
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("remove scratch folder: %w", err)
	}
	return nil
}

// fresh returns a path that nobody used before, in the scratch folder.
func (l *lab) fresh(name string) string {
	l.names++
	return filepath.Join(l.dir, fmt.Sprintf("%03d-%s", l.names, name))
}

// step names the part of the work of one run.
func (l *lab) step(what string, run int) string {
	return fmt.Sprintf("run %d of %d: %s", run+1, l.Runs, what)
}

// Bytes writes a size for reading.
func Bytes(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
