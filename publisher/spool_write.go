package publisher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/folder"
	"github.com/afterword-io/afterword/internal/record"
)

// write spools the next group of turns with one fsync, and returns how long until
// there can be another; 0 is at once.
func (s *spool) write(now time.Time) (wait time.Duration) {
	if until := s.writes.until.Sub(now); until > 0 {
		return until
	}
	s.group = s.buffer.dropStored(s.group)
	if len(s.group) == 0 {
		room := s.cfg.SpoolMaxBytes - s.counts.bytes.Load()
		var full bool
		s.group, wait, full = s.buffer.takeUnspooled(s.group, min(groupBytes, s.segmentMax), room, now)
		s.noteFull(full, now)
		if len(s.group) == 0 {
			return wait
		}
	}
	lines := make([]line, 0, len(s.group))
	s.buf = s.buf[:0]
	for _, e := range s.group {
		from := len(s.buf)
		s.buf = record.Append(s.buf, e.snap.Payload())
		lines = append(lines, line{from: int64(from), size: int32(len(s.buf) - from)})
	}
	var op string
	var err error
	s.op(func() { op, err = s.append() })
	if err != nil {
		// Nothing of the group is known to be on disk. The segment is never written or
		// synced again: after a failed fsync the kernel has forgotten what it could not write.
		s.seal()
		s.failed(op, err, now)
		s.reclaim(now) // when nothing else is in it
		return s.writes.until.Sub(now)
	}
	s.wrote(now)
	s.lastWrite = now
	s.buffer.markSpooled(s.current, s.group, lines)
	s.current.size = s.current.onDisk
	for _, e := range s.group {
		e.raise(Spooled)
	}
	clear(s.group)
	s.group = s.group[:0]
	return 0
}

// noteFull says once that the spool is full; it has to be half empty to be full again.
func (s *spool) noteFull(full bool, now time.Time) {
	switch bytes := s.counts.bytes.Load(); {
	case full && !s.full:
		s.log.Warn("the spool is full, turns are only buffered until there is room", "bytes", bytes)
		s.full = true
	case bytes < s.cfg.SpoolMaxBytes/2:
		s.full = false
	}
	if !full {
		s.counts.fullSince.Store(0)
	} else if s.counts.fullSince.Load() == 0 {
		s.counts.fullSince.Store(max(1, int64(now.Sub(s.started))))
	}
}

// append writes the buffer to the current segment and makes it durable.
func (s *spool) append() (op string, err error) {
	if s.current != nil && s.current.size > 0 && s.current.size+int64(len(s.buf)) > s.segmentMax {
		s.seal()
	}
	if s.current == nil {
		if err := s.create(); err != nil {
			return "create segment", err
		}
	}
	g := s.current
	n, err := g.file.Write(s.buf)
	s.grow(g, int64(n))
	if err != nil {
		if terr := g.file.Truncate(g.size); terr == nil { // gives the room back
			s.grow(g, g.size-g.onDisk)
		}
		return "write", err
	}
	began := time.Now()
	if err = unix.Fdatasync(int(g.file.Fd())); err == nil {
		err = folder.Confirm(g.file)
	}
	s.counts.syncs.Add(1)
	s.counts.syncTime.Add(int64(time.Since(began)))
	if err != nil {
		return "fdatasync", err
	}
	return "", nil
}

func (s *spool) grow(g *segment, by int64) {
	g.onDisk += by
	s.counts.bytes.Add(by)
}

// seal ends the current segment: nothing is written to it any more.
func (s *spool) seal() {
	if s.current != nil {
		s.current.close()
		s.current = nil
	}
}

// create begins a segment. Its name is durable before anything in it counts.
func (s *spool) create() error {
	s.number++
	name := segmentName(s.number)
	f, _, err := openSpoolFile(s.root, name, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	dir, err := s.root.Open(".")
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return errors.Join(fmt.Errorf("fsync folder: %w", err), f.Close(), s.root.Remove(name))
	}
	s.current = &segment{name: name, file: f}
	s.counts.segments.Add(1)
	s.buffer.addSegment(s, s.current)
	return nil
}

// reclaim removes the segments whose turns are all stored, and empties the current
// one when that is worth it.
func (s *spool) reclaim(now time.Time) {
	for _, g := range s.buffer.finished(s) {
		if g == s.current {
			if g.size > 0 && (g.size >= emptyFrom || now.Sub(s.lastWrite) >= spoolIdle) {
				s.op(func() { s.empty(g, now) })
			}
			continue
		}
		s.op(func() { s.remove(g) })
	}
}

// empty gives back the room of the current segment. That this is not durable does no
// harm: turns that come back are published again, which adds nothing.
func (s *spool) empty(g *segment, now time.Time) {
	if err := g.file.Truncate(0); err != nil {
		s.seal() // removed in the next round
		s.failed("empty segment", err, now)
		return
	}
	s.grow(g, -g.onDisk)
	g.size = 0
	s.buffer.emptied(g)
}

// remove lets go of a segment: one that is damaged is kept, under another name.
func (s *spool) remove(g *segment) {
	g.close()
	var err error
	if g.damaged {
		aside := asideName(g.name, time.Now())
		if err = s.root.Rename(g.name, aside); err == nil {
			s.log.Error("a damaged segment of the spool was set aside; all else in it is stored", "segment", g.name, "as", aside)
		}
	} else {
		err = s.root.Remove(g.name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It stays until the next start, which publishes it again and adds nothing by that.
		s.counts.failures.Add(1)
		s.log.Error("a segment of the spool cannot be removed", "segment", g.name, "error", err)
	}
	if s.current == g {
		s.current = nil
	}
	s.counts.bytes.Add(-g.onDisk)
	s.counts.segments.Add(-1)
	s.buffer.dropSegment(s, g)
}
