package publisher

import (
	"slices"

	"github.com/afterword-io/afterword/transcript"
)

// pendingScan bounds how many turns of one session are looked at, newest first,
// while Publish may be waiting for the lock.
const pendingScan = 4096

// Pending returns the turns of a session that were accepted and perhaps cannot
// be read elsewhere yet, in transcript order, each once with its winning
// snapshot. Of a session with thousands of them it returns the newest. A turn leaves
// when it is settled, and a stored one at the latest when the bounds of [Config] say so.
func (p *Publisher) Pending(session string) []transcript.Snapshot {
	var entries []*entry
	p.buffer.mu.Lock()
	for e, n := p.buffer.sessions[session], 0; e != nil && n < pendingScan; e, n = e.older, n+1 {
		entries = append(entries, e)
	}
	p.buffer.mu.Unlock()

	turns := make([]transcript.Snapshot, 0, len(entries))
	index := make(map[string]int, len(entries))
	for _, e := range entries { // a snapshot never changes, so no lock is needed
		i, ok := index[e.snap.ID]
		switch {
		case !ok:
			index[e.snap.ID] = len(turns)
			turns = append(turns, e.snap)
		case e.snap.Beats(&turns[i]):
			turns[i] = e.snap
		}
	}
	slices.SortFunc(turns, func(x, y transcript.Snapshot) int { return x.Compare(&y) })
	return turns
}

// Settle says that the session's history shows revision rev of turn id, or a newer
// one: Pending forgets it. A turn that is not stored yet is still brought to the stream.
func (p *Publisher) Settle(session, id string, rev int) {
	p.buffer.settle(session, id, rev)
}

// Level returns how safe revision rev of a turn is; the least safe counts when it was published
// more than once. ok is false when the publisher does not know the turn, or does not any more.
func (p *Publisher) Level(session, id string, rev int) (level Level, ok bool) {
	return p.buffer.level(session, id, rev)
}

// Away returns how many turns are in the spool only: as long as that is so, Pending
// and Level do not know them.
func (p *Publisher) Away() int {
	p.buffer.mu.Lock()
	defer p.buffer.mu.Unlock()
	return p.buffer.away
}

func (b *buffer) settle(session, id string, rev int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.sessions[session]
	for n := 0; e != nil && n < pendingScan; n++ {
		older := e.older
		if e.snap.Rev <= rev && e.snap.ID == id {
			b.forget(e)
		}
		e = older
	}
}

func (b *buffer) level(session, id string, rev int) (level Level, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for e, n := b.sessions[session], 0; e != nil && n < pendingScan; e, n = e.older, n+1 {
		if e.snap.Rev != rev || e.snap.ID != id {
			continue
		}
		if l := e.receipt.Level(); !ok || l < level {
			level, ok = l, true
		}
	}
	return level, ok
}

// link puts e at the head of its session's chain.
func (b *buffer) link(e *entry) {
	head := b.sessions[e.snap.SessionID]
	if head != nil {
		head.newer = e
	}
	e.older = head
	b.sessions[e.snap.SessionID] = e
}

func (b *buffer) unlink(e *entry) {
	switch {
	case e.newer != nil:
		e.newer.older = e.older
	case e.older != nil:
		b.sessions[e.snap.SessionID] = e.older
	default:
		delete(b.sessions, e.snap.SessionID)
	}
	if e.older != nil {
		e.older.newer = e.newer
	}
	e.newer, e.older = nil, nil
}
