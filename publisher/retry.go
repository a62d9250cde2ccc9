package publisher

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// overtakenLimit is how often a turn may fail while others are stored before it
// is the turn that is held at fault, and no longer the stream.
const overtakenLimit = 3

// gate says whether the stream takes turns. It closes at a failure and then
// lets one turn through at a time, with backoff, until one is stored.
type gate struct {
	backoff *backoff.ExponentialBackOff
	closed  bool
	since   time.Time
	until   time.Time // no probe before
	probe   *entry    // the one turn that was let through
	probes  int       // failed ones since it closed
}

// fail takes note of a failure that the stream is held responsible for.
func (g *gate) fail(e *entry, now time.Time) {
	switch {
	case !g.closed:
		g.backoff.Reset()
		g.closed, g.since, g.probe, g.probes = true, now, nil, 0
	case g.probe == e:
		g.probe = nil
		g.probes++
	default: // sent before it closed
		return
	}
	g.until = now.Add(min(g.backoff.NextBackOff(), g.backoff.MaxInterval))
}

// hurry allows a probe at once and starts the backoff anew.
func (g *gate) hurry() {
	g.backoff.Reset()
	g.until = time.Time{}
}

func (g *gate) open() { g.closed, g.probe = false, nil }

// allowed returns how many turns may be sent now, and otherwise how long that
// stays so; 0 means until something happens.
func (g *gate) allowed(now time.Time, free int) (n int, wait time.Duration) {
	switch {
	case !g.closed:
		return free, 0
	case g.probe != nil:
		return 0, 0
	case now.Before(g.until):
		return 0, g.until.Sub(now)
	}
	return min(free, 1), 0
}

// retries holds the turns that failed, those that are due first in front, in
// order of acceptance among equals.
type retries []*entry

func (r retries) Len() int           { return len(r) }
func (r retries) Less(i, j int) bool { return r.compare(r[i], r[j]) < 0 }
func (r retries) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }
func (r *retries) Push(x any)        { *r = append(*r, x.(*entry)) }

func (r *retries) Pop() any {
	last := len(*r) - 1
	e := (*r)[last]
	(*r)[last] = nil
	*r = (*r)[:last]
	return e
}

func (retries) compare(x, y *entry) int {
	return cmp.Or(x.due.Compare(y.due), cmp.Compare(x.seq, y.seq))
}

func (r *retries) add(e *entry) { heap.Push(r, e) }

// first returns the next turn to try, without removing it; nil when there is none.
func (r retries) first() *entry {
	if len(r) == 0 {
		return nil
	}
	return r[0]
}

func (r *retries) removeFirst() { heap.Pop(r) }

// release makes due at once whatever waits only because the stream failed; with
// all, the turns held at fault themselves too.
//
// There are never many retries: no more than a window was in flight when the
// gate closed.
func (r retries) release(all bool) {
	for _, e := range r {
		if all {
			e.forgive()
		}
		if e.own == nil {
			e.due = time.Time{}
		}
	}
	slices.SortFunc(r, r.compare) // a sorted slice is a heap
}

// forgive forgets the failures of e: circumstances have changed.
func (e *entry) forgive() { e.failures, e.overtaken, e.own = 0, 0, nil }

// blame reports whether a failure is e's own: it failed several times while
// other turns were stored. stored counts those.
func (e *entry) blame(stored uint64) bool {
	if e.failures > 0 && stored != e.failedAfter {
		e.overtaken++
	}
	e.failures++
	e.failedAfter = stored
	return e.own != nil || e.overtaken >= overtakenLimit
}
