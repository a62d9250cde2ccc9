package publisher

import (
	"slices"
	"time"

	"github.com/afterword-io/afterword/internal/record"
)

// lockedSteps bounds how many entries the spool goes through under one hold of
// the buffer's lock.
const lockedSteps = 256

// takeUnspooled appends to dst turns that are to be spooled, old enough and up to so
// many bytes; wait is how long until there are more. full is true when a turn finds no room.
func (b *buffer) takeUnspooled(dst []*entry, most, room int64, now time.Time) (group []*entry, wait time.Duration, full bool) {
	bytes := int64(0)
	for {
		b.mu.Lock()
		for range lockedSteps {
			e := b.unspooled
			if e == nil || len(dst) == groupTurns {
				b.mu.Unlock()
				return dst, upkeepEvery, false
			}
			size := e.size + record.Overhead
			if wait := spoolAfter - now.Sub(e.accepted); wait > 0 {
				b.mu.Unlock()
				return dst, wait, false
			}
			if bytes+size > room || len(dst) > 0 && bytes+size > most {
				b.mu.Unlock()
				return dst, upkeepEvery, bytes+size > room
			}
			bytes += size
			dst = append(dst, e)
			b.unspooled = e.next
		}
		b.mu.Unlock()
	}
}

// dropStored drops turns that were stored since they were taken to be spooled.
func (b *buffer) dropStored(group []*entry) []*entry {
	if len(group) == 0 {
		return group
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.DeleteFunc(group, func(e *entry) bool { return e.stored })
}

// markSpooled notes that a group is durable in g. Lines start at 0 in it.
func (b *buffer) markSpooled(g *segment, group []*entry, lines []line) {
	for len(group) > 0 {
		n := min(len(group), markAtOnce)
		b.mu.Lock()
		if len(g.lines) == 0 {
			g.at = group[0].accepted
		}
		for i, e := range group[:n] {
			l := lines[i]
			l.from += g.size
			if e.stored {
				l.state = isDone
			} else {
				e.seg, e.line = g, len(g.lines)
				g.unstored++
				b.spooled++
			}
			g.lines = append(g.lines, l)
		}
		b.mu.Unlock()
		group, lines = group[n:], lines[n:]
	}
}

// landed notes that a spooled turn is stored. It runs under the lock.
func (b *buffer) landed(e *entry) {
	e.seg.lines[e.line].state = isDone
	b.spooled--
	if e.seg.unstored--; e.seg.unstored == 0 {
		b.spool.hurry()
	}
	e.seg = nil
}

// unload lets turns leave memory that are spooled and not sent yet, oldest first,
// while the buffer is more than half full; more is true when there are others.
func (b *buffer) unload() (more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, removed := b.unsent, 0
	for range lockedSteps {
		if e == nil || b.unstored.turns <= b.maxTurns/2 && b.unstored.bytes <= b.maxBytes/2 {
			return false
		}
		next := e.next
		if g := e.seg; g != nil {
			if e == b.unsent {
				b.unsent = next
			}
			b.unstored.remove(e)
			b.forget(e)
			l := &g.lines[e.line]
			l.state, l.receipt = isAway, e.weak()
			g.away++
			g.first = min(g.first, e.line)
			b.away++
			b.awayBytes += e.size
			e.seg = nil
			removed++
		}
		e = next
	}
	return removed > 0
}

// nextAway returns which lines to read back: neighbours of one segment, from the
// oldest on. n is 0 when there are none, or enough are in memory.
func (b *buffer) nextAway(s *spool, now time.Time) (g *segment, at, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away == 0 || !s.wants(&b.ready) {
		return nil, 0, 0
	}
	i := slices.IndexFunc(s.segments, func(g *segment) bool { return g.away > 0 && !now.Before(g.until) })
	if i < 0 {
		return nil, 0, 0
	}
	g = s.segments[i]
	for g.first < len(g.lines) && g.lines[g.first].state != isAway {
		g.first++
	}
	at = g.first
	bytes := b.ready.bytes
	for ; at+n < len(g.lines) && n < s.loadTurns; n++ {
		l := &g.lines[at+n]
		next := n > 0 && l.from != g.lines[at+n-1].from+int64(g.lines[at+n-1].size)
		if bytes += int64(l.size); l.state != isAway || next || n > 0 && bytes > s.loadBytes {
			break
		}
	}
	return g, at, n
}

// comeBack puts lines that were read back at the sender's disposal. Those that could not be
// read, which are nil, are lost for the reason why.
func (b *buffer) comeBack(g *segment, at int, entries []*entry, why error) {
	for chunk := range slices.Chunk(entries, lockedSteps) {
		b.mu.Lock()
		for _, e := range chunk {
			l := &g.lines[at]
			at++
			receipt := l.receipt.Value()
			g.away--
			b.away--
			b.awayBytes -= int64(l.size) - record.Overhead
			g.first = at
			if e == nil {
				l.state = isDone
				g.unstored--
				b.spooled--
				if receipt != nil {
					receipt.refused(why)
				}
				continue
			}
			l.state = inMemory
			e.origin = receipt
			b.seq++
			e.seq = b.seq
			b.ready.push(e)
			b.link(e)
		}
		b.mu.Unlock()
		b.wake.insist()
	}
}

// adopt takes over a segment of an earlier process, all of it away.
func (b *buffer) adopt(s *spool, g *segment, payloadBytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.segments = append(s.segments, g)
	b.spooled += g.unstored
	b.away += g.away
	b.awayBytes += payloadBytes
}

func (b *buffer) addSegment(s *spool, g *segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.segments = append(s.segments, g)
}

func (b *buffer) dropSegment(s *spool, g *segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.segments = slices.DeleteFunc(s.segments, func(o *segment) bool { return o == g })
}

// finished returns the segments with nothing left to store.
func (b *buffer) finished(s *spool) (done []*segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range s.segments {
		if g.unstored == 0 {
			done = append(done, g)
		}
	}
	return done
}

// emptied forgets the lines of a segment that has none any more.
func (b *buffer) emptied(g *segment) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g.lines, g.first = g.lines[:0], 0
}
