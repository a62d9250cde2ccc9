package transcript

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// foldGroup is how many sessions are folded together: they share two syncs. With
	// 256, 30,000 new sessions were folded 1.8 times as fast as with 64. While turns come
	// it is busyGroup: a group holds its sessions, and its syncs delay those of batches.
	// foldBytes bounds what the tails of a group keep in memory.
	foldGroup = 256
	busyGroup = 64
	foldBytes = 16 << 20
	// Past busyTurns in a busyWindow, sessions gather turns for gatherFor before
	// they are folded, so that folding leaves the machine to committing.
	busyTurns  = 50
	busyWindow = 100 * time.Millisecond
	gatherFor  = 5 * time.Second
	// largeShare is how many per cent of a large document gather in its tail. A
	// fold of 100 MB takes 0.8 s, and slows down the syncs beside it: at 3 % that is
	// 0.27 ms for each of its turns, at 8 % 0.1 ms.
	largeShare = 8
	// foldRetry is when a fold that failed is tried again.
	foldRetry = 5 * time.Second
)

// dirty is the set of sessions whose tail may hold more than their document, in
// the order in which they became so.
type dirty struct {
	mu      sync.Mutex
	entries map[string]*entry
	queue   []*entry      // to be folded, oldest first
	wake    chan struct{} // has an element when the queue may have something
	changed chan struct{} // closed and replaced whenever folds end
	hurry   bool          // the store is closing: nothing waits to gather
	seed    maphash.Seed

	window time.Time // when the current count began
	count  int       // turns in it
	rate   int       // turns in the one before
}

// entry is what this process knows of a session's files. It is a hint, checked
// against the files under the lock: other processes work on them too.
type entry struct {
	session string
	token   string

	since   time.Time // of the oldest append that is not folded; zero when there is none
	last    time.Time // of the newest append
	retry   time.Time // when a failed fold may be tried again
	queued  bool
	taken   bool   // by a fold that is under way
	appends uint64 // counts appends, so that a fold knows whether it saw the last
	seen    uint64 // appends when the fold began
	waiting int64  // bytes appended since the last fold, roughly
	large   int64  // size of the document, if it is large

	folded int64  // so many bytes of the tail are in the document…
	prefix uint64 // …if they still hash to this
}

func (d *dirty) init() {
	d.entries = make(map[string]*entry)
	d.wake = make(chan struct{}, 1)
	d.changed = make(chan struct{})
	d.seed = maphash.MakeSeed()
}

func (d *dirty) hash(data []byte) uint64 { return maphash.Bytes(d.seed, data) }

func (d *dirty) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *dirty) entry(session string) *entry {
	e := d.entries[session]
	if e == nil {
		e = &entry{session: session, token: Token(session)}
		d.entries[session] = e
	}
	return e
}

// add notes appends that are durable now.
func (d *dirty) add(groups []Group, errs []error, cfg *Config) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range groups {
		if errs[i] != nil {
			continue
		}
		e := d.entry(groups[i].SessionID)
		for k := range groups[i].Turns {
			e.waiting += int64(groups[i].Turns[k].Size())
		}
		d.count += len(groups[i].Turns)
		e.appends++
		e.last = now
		if e.since.IsZero() {
			e.since = now
		}
		if d.due(e, now, cfg) {
			d.push(e)
		}
	}
	if now.Sub(d.window) > busyWindow {
		d.window, d.rate, d.count = now, d.count, 0
	}
	d.signal()
}

// mark notes a session whose tail was found with something in it.
func (d *dirty) mark(session string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entry(session)
	if e.since.IsZero() {
		e.since = time.Now()
		e.appends++
	}
	d.push(e)
	d.signal()
}

func (d *dirty) push(e *entry) {
	if !e.queued && !e.taken {
		e.queued = true
		d.queue = append(d.queue, e)
	}
}

// due says whether there is something to fold now. A large document waits until
// its tail is worth a rewrite, so that the cost of a turn does not grow with it.
func (d *dirty) due(e *entry, now time.Time, cfg *Config) bool {
	switch {
	case e.since.IsZero() || now.Before(e.retry):
		return false
	case d.hurry || e.large <= cfg.LargeSize:
		return true
	}
	return e.waiting > e.large*largeShare/100 || now.Sub(e.since) > cfg.LargeAge
}

// take gives out the next sessions to fold; without any, wait says how long
// until the first one has gathered enough.
func (d *dirty) take(now time.Time) (group []*entry, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.window) > 2*busyWindow { // nothing was appended lately
		d.rate = 0
	}
	busy := !d.hurry && max(d.rate, d.count) > busyTurns
	most := foldGroup
	if busy {
		most = busyGroup
	}
	for bytes := int64(0); len(group) < most && bytes < foldBytes && len(d.queue) > 0; {
		e := d.queue[0]
		if age := now.Sub(e.since); busy && !e.since.IsZero() && age < gatherFor {
			wait = gatherFor - age
			break
		}
		d.queue[0] = nil
		d.queue = d.queue[1:]
		e.queued, e.taken, e.seen = false, true, e.appends
		group = append(group, e)
		bytes += e.waiting
	}
	if len(d.queue) > 0 && wait == 0 {
		d.signal()
	}
	return group, max(wait, time.Millisecond)
}

// outcome is what a fold found out about a session.
type outcome struct {
	err     error
	busy    bool   // somebody else held the session: again soon
	emptied bool   // the tail has nothing in it any more
	folded  int64  // else so much of it is in the document
	prefix  uint64 // and hashes to this
	size    int64  // of the document; 0 when it was not looked at
}

// settle takes the outcome of a fold.
func (d *dirty) settle(e *entry, o outcome, cfg *Config) {
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	e.taken = false
	if o.err != nil {
		e.retry = now.Add(foldRetry)
		return
	}
	if o.busy {
		d.push(e)
		d.signal()
		return
	}
	e.folded, e.prefix, e.waiting = o.folded, o.prefix, 0
	if o.size > 0 {
		e.large = o.size
	}
	switch {
	case e.appends != e.seen: // more came while the fold was under way
		e.since = now
		if d.due(e, now, cfg) {
			d.push(e)
			d.signal()
		}
	case o.emptied:
		delete(d.entries, e.session)
	default:
		e.since = time.Time{}
	}
}

// settled wakes who waits for folds.
func (d *dirty) settled() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.changed)
	d.changed = make(chan struct{})
}

// tend queues what has become due by time alone: large documents, failed folds,
// and tails to be emptied now that their session is quiet.
func (d *dirty) tend(now time.Time, cfg *Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.entries {
		quiet := e.since.IsZero() && now.Sub(e.last) > cfg.QuietAfter && !now.Before(e.retry)
		if quiet || d.due(e, now, cfg) {
			d.push(e)
		}
	}
	d.signal()
}

// quiet says whether a session's tail may be emptied.
func (d *dirty) quiet(e *entry, now time.Time, cfg *Config) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return now.Sub(e.last) > cfg.QuietAfter
}

// forget drops what is known of the content of tails and documents.
func (d *dirty) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.entries {
		e.folded, e.prefix, e.large = 0, 0, 0
	}
}

// known returns how much of the tail is folded, as far as this process knows.
func (d *dirty) known(e *entry) (folded int64, prefix uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return e.folded, e.prefix
}

// rush makes everything due at once and reports how many sessions are not folded
// yet, leaving out those that failed, and a channel that closes when that may
// have changed. With again, what failed before is tried once more.
func (d *dirty) rush(again bool) (left, failed int, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hurry = true
	now := time.Now()
	for _, e := range d.entries {
		if again {
			e.retry = time.Time{}
		}
		switch {
		case e.taken:
			left++
		case e.since.IsZero():
		case now.Before(e.retry):
			failed++
		default:
			d.push(e)
			left++
		}
	}
	d.signal()
	return left, failed, d.changed
}

// waitingSince returns how many sessions wait to be folded, and the oldest of them since when.
func (d *dirty) waitingSince() (n int, oldest time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.entries {
		if e.since.IsZero() {
			continue
		}
		n++
		if oldest.IsZero() || e.since.Before(oldest) {
			oldest = e.since
		}
	}
	return n, oldest
}
