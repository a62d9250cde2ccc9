package publisher

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/folder"
	"github.com/afterword-io/afterword/internal/record"
	"github.com/afterword-io/afterword/transcript"
)

// open makes the folder, locks it and looks for what an earlier process left.
func (s *spool) open() error {
	if err := s.openFolder(); err != nil {
		return fmt.Errorf("spool folder %s: %w", s.cfg.SpoolDir, err)
	}
	return nil
}

func (s *spool) openFolder() (err error) {
	if err := makePrivate(s.cfg.SpoolDir); err != nil {
		return err
	}
	if s.root, err = os.OpenRoot(s.cfg.SpoolDir); err != nil {
		return err
	}
	if s.lock, _, err = openSpoolFile(s.root, spoolLock, os.O_RDWR|os.O_CREATE); err != nil {
		return err
	}
	err = unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		return errors.New("another publisher uses it: each needs a folder of its own")
	case err != nil:
		return &os.PathError{Op: "flock", Path: spoolLock, Err: err}
	}
	return s.list()
}

// makePrivate creates a folder that only its owner can look into, durably. One that
// is there already is left as it is, or refused, unless it was handed over with a group.
func makePrivate(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.Mode()&fs.ModeSymlink != 0:
		return errors.New("it is a symbolic link: give the folder itself")
	case info.IsDir() && info.Mode().Perm()&0o077 != 0:
		if _, ok := folder.HandedOver(dir); ok {
			break
		}
		return fmt.Errorf("others may look into it (mode %#o): chmod it to 0700, or give a folder that does not exist yet", info.Mode().Perm())
	}
	return folder.Make(dir)
}

// list finds the segments that are there.
func (s *spool) list() error {
	dir, err := s.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, whole, ok := segmentNumber(e.Name())
		if !ok {
			continue
		}
		s.number = max(s.number, number)
		if !whole {
			continue
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file: move it out of the spool folder", e.Name())
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		s.counts.bytes.Add(info.Size())
		s.counts.segments.Add(1)
		s.leftover = append(s.leftover, e.Name())
	}
	slices.Sort(s.leftover)
	s.counts.unread.Store(int64(len(s.leftover)))
	return nil
}

// recover takes over the next segment of an earlier process; more is true when
// it has done something.
func (s *spool) recover(now time.Time) (more bool) {
	if len(s.leftover) == 0 {
		return false
	}
	name := s.leftover[0]
	s.leftover = s.leftover[1:]
	var err error
	s.op(func() { err = s.takeOver(name) })
	if s.counts.unread.Load() > 0 && s.counts.unread.Add(-1) == 0 {
		s.buffer.wake.insist() // a sender that drains waits for it
	}
	if err != nil { // the rest goes on
		s.leftover = append(s.leftover, name)
		s.readFailed(name, err, now)
		return false
	}
	s.readsAgain()
	return true
}

// takeOver reads a segment of an earlier process. A last line that is not whole was
// cut short by a crash, and nobody was told that it is spooled: it is cut off. Any
// other line that does not check is damage.
func (s *spool) takeOver(name string) error {
	f, info, err := openSpoolFile(s.root, name, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	g := &segment{name: name, at: info.ModTime(), onDisk: int64(len(data))}
	bad := 0
	var first error
	damaged := func(err error) {
		if bad++; bad == 1 {
			first = err
		}
	}
	var payloadBytes int64
	whole := int64(0)
	for whole < int64(len(data)) {
		end := bytes.IndexByte(data[whole:], '\n')
		if end < 0 {
			break
		}
		size := int64(end) + 1
		snap, err := decodeLine(data[whole : whole+size])
		if err != nil {
			damaged(fmt.Errorf("at byte %d: %w", whole, err))
		} else {
			g.lines = append(g.lines, line{from: whole, size: int32(size), state: isAway})
			payloadBytes += size - record.Overhead
			s.observe(snap.SessionID, snap.Timestamp)
		}
		whole += size
	}
	g.size, g.unstored, g.away = whole, len(g.lines), len(g.lines)
	if torn := int64(len(data)) - whole; torn > 0 && bad == 0 {
		if err := f.Truncate(whole); err != nil {
			return fmt.Errorf("cut off the torn end: %w", err)
		}
		s.counts.bytes.Add(-torn)
		g.onDisk = whole
		s.log.Info("cut off the torn end of a segment", "segment", name, "bytes", torn)
	}
	if bad > 0 {
		s.damaged(g, bad, first)
	}
	if g.unstored > 0 {
		s.log.Info("publishing what an earlier process has spooled", "segment", name, "turns", g.unstored)
	}
	s.buffer.adopt(s, g, payloadBytes)
	return nil
}

// damaged notes that lines of a segment cannot be read. What can be is published;
// then the file is set aside.
func (s *spool) damaged(g *segment, bad int, err error) {
	if !g.damaged {
		g.damaged = true
		s.counts.setAside.Add(1)
	}
	s.counts.damage.Add(uint64(bad))
	s.log.Error("a segment of the spool is damaged: it is set aside once the rest of it is stored; look for the turns in it",
		"segment", g.name, "lines", bad, "error", err)
}

// decodeLine checks one line, newline included.
func decodeLine(data []byte) (snap transcript.Snapshot, err error) {
	whole, err := record.Scan(data, func(payload []byte) (err error) {
		snap, err = transcript.DecodeStored(payload)
		return err
	}, nil)
	if err == nil && (whole != len(data) || snap.ID == "") {
		err = errors.New("the line is not whole")
	}
	return snap, err
}

func (s *spool) readFailed(name string, err error, now time.Time) {
	s.counts.failures.Add(1)
	if s.reads.fail(now, s.cfg.RetryMax) {
		s.log.Error("the spool cannot be read, trying again", "segment", name, "error", err)
	}
}

func (s *spool) readsAgain() {
	if !s.reads.since.IsZero() {
		s.log.Info("the spool can be read again")
		s.reads.since, s.reads.until = time.Time{}, time.Time{}
	}
}
