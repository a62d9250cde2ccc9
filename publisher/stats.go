package publisher

import "time"

// Stats is the state of a publisher at one moment, and what it did since it started.
type Stats struct {
	// Now.
	Turns     int           // accepted and not stored yet, those in flight included
	Bytes     int64         // of their payloads
	InMemory  int           // of these turns; the others are in the spool only
	Memory    int64         // bytes of the payloads in memory
	MaxTurns  int           // of which the buffer holds in memory
	MaxBytes  int64         // of these payloads
	Oldest    time.Duration // since the oldest of them was accepted
	InFlight  int           // sent and not acknowledged yet
	Unsettled int           // stored, and still in Pending
	Blocked   time.Duration // how long nothing has got through to the stream; 0 while turns do
	Aside     int           // of the turns, those that are refused while others are stored
	AsideWhy  error         // what the server said of one of them last

	// Since the start.
	Accepted   uint64
	Stored     uint64
	Retries    uint64    // tries after the first of a turn
	Duplicates uint64    // of the stored, those that the stream already had
	Overflows  uint64    // refused because the buffer was full
	Overflowed time.Time // when that was last; zero is never
	Malformed  uint64    // refused because they break a rule
	SetAside   uint64    // turns that were refused while others were stored
	Late       uint64    // acknowledgements, of a turn or a batch, that did not come in time
	Acks       uint64    // those that came

	Spool SpoolStats // empty without one
}

// Stats returns the publisher's figures, for metrics and readiness.
func (p *Publisher) Stats() Stats {
	now := time.Now()
	c := &p.sender.counts
	s := Stats{
		InFlight:   int(c.inFlight.Load()),
		Retries:    c.retries.Load(),
		Duplicates: c.duplicates.Load(),
		SetAside:   c.setAside.Load(),
		Late:       c.late.Load(),
		Acks:       c.acks.Load(),
		Malformed:  c.malformed.Load(),
	}
	if at := c.blockedAt.Load(); at >= 0 {
		s.Blocked = max(0, now.Sub(p.sender.started)-time.Duration(at))
	}
	if s.Aside = int(c.aside.Load()); s.Aside > 0 {
		if why := c.asideWhy.Load(); why != nil {
			s.AsideWhy = *why
		}
	}
	b := p.buffer
	b.mu.Lock()
	defer b.mu.Unlock()
	s.InMemory, s.Unsettled = b.unstored.turns+b.ready.turns, b.unsettled.turns
	s.Turns, s.Bytes = s.InMemory+b.away, b.unstored.bytes+b.ready.bytes+b.awayBytes
	for _, first := range [...]*entry{b.unstored.front, b.ready.front} {
		if first != nil {
			s.Oldest = max(s.Oldest, now.Sub(first.accepted))
		}
	}
	s.Accepted, s.Stored, s.Overflows, s.Overflowed = b.accepted, b.stored, b.overflows, b.overflowed
	s.Memory, s.MaxTurns, s.MaxBytes = b.unstored.bytes+b.ready.bytes, b.maxTurns, b.maxBytes
	if b.spool != nil {
		s.Spool = b.spool.stats(now)
		s.Spool.Turns, s.Spool.Away = b.spooled, b.away
		for _, g := range b.spool.segments { // the oldest first
			if g.unstored > 0 {
				s.Spool.Oldest = max(0, now.Sub(g.at))
				break
			}
		}
		for _, g := range b.spool.segments {
			if g.away > 0 {
				s.Oldest = max(s.Oldest, now.Sub(g.at))
				break
			}
		}
	}
	return s
}
