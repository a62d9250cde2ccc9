package publisher

import (
	"os"
	"time"

	"github.com/afterword-io/afterword/internal/record"
)

// load reads turns back that left memory, oldest first, for the sender to take;
// more is true when it has read some.
func (s *spool) load(now time.Time) (more bool) {
	g, at, n := s.buffer.nextAway(s, now)
	if n == 0 {
		return false
	}
	first, last := &g.lines[at], &g.lines[at+n-1] // nobody else changes where lines are
	from := first.from
	data := make([]byte, last.from+int64(last.size)-from)
	var err error
	s.op(func() { err = s.read(g, data, from) })
	if err != nil { // other segments go on
		if s.counts.failures.Add(1); g.until.IsZero() {
			s.log.Error("a segment of the spool cannot be read, trying again", "segment", g.name, "error", err)
		}
		g.until = now.Add(s.cfg.RetryMax)
		return true
	}
	entries := make([]*entry, n)
	bad := 0
	var why error
	for i := range entries {
		l := &g.lines[at+i]
		snap, err := decodeLine(data[l.from-from:][:l.size])
		if err != nil {
			if bad++; bad == 1 {
				why = err
			}
			continue
		}
		entries[i] = &entry{
			receipt: Receipt{ID: snap.ID, Timestamp: snap.Timestamp, Rev: snap.Rev, level: Spooled},
			snap:    snap, size: int64(l.size) - record.Overhead, accepted: g.at,
			seg: g, line: at + i,
		}
	}
	if bad > 0 {
		s.damaged(g, bad, why)
	}
	s.buffer.comeBack(g, at, entries, why)
	return true
}

func (s *spool) read(g *segment, data []byte, from int64) error {
	f, _, err := openSpoolFile(s.root, g.name, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(data, from)
	return err
}
