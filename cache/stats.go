package cache

import "sync/atomic"

// Op is what Redis was asked for.
type Op string

// The operations.
const (
	OpRead   Op = "read"
	OpWrite  Op = "write" // counted per session
	OpForget Op = "forget"
	OpPing   Op = "ping" // a check, of reads or of writes
)

// Outcome is how an operation ended.
type Outcome string

// The outcomes.
const (
	OK          Outcome = "ok"          // for a read: a hit
	Miss        Outcome = "miss"        // Redis holds nothing of the session
	Newer       Outcome = "newer"       // not written, Redis holds a newer version
	TooLarge    Outcome = "too_large"   // not written, over MaxEntry
	Skipped     Outcome = "skipped"     // the session id cannot be cached
	Corrupt     Outcome = "corrupt"     // what Redis holds does not parse
	Forged      Outcome = "forged"      // what Redis holds is not signed with the key: no hit
	Older       Outcome = "older"       // what Redis holds is older than what was known: no hit
	Unproven    Outcome = "unproven"    // what Redis holds does not show the newest event of the stream: no hit
	Behind      Outcome = "behind"      // not asked: Redis is, or may be, behind with the session
	Timeout     Outcome = "timeout"     // no answer in time
	Unavailable Outcome = "unavailable" // not asked, the breaker is open or Redis stalls
	Failed      Outcome = "error"       // every other error
)

var (
	ops      = [...]Op{OpRead, OpWrite, OpForget, OpPing}
	outcomes = [...]Outcome{OK, Miss, Newer, TooLarge, Skipped, Corrupt, Forged, Older, Unproven, Behind, Timeout, Unavailable, Failed}
)

// Count is how often an operation ended in one way.
type Count struct {
	Op      Op
	Outcome Outcome
	N       uint64
}

// Stats is what [Redis] has counted since it was made.
type Stats struct {
	Counts []Count // every operation with every outcome, zeros included
	// Breaker is that of reads and WriteBreaker that of writes: "closed" (in use), "open" or "half-open".
	Breaker, WriteBreaker string
	// Of the client's pool:
	Connections, IdleConnections uint32
	PoolTimeouts                 uint32
}

// N returns one count.
func (s Stats) N(op Op, outcome Outcome) uint64 {
	for _, c := range s.Counts {
		if c.Op == op && c.Outcome == outcome {
			return c.N
		}
	}
	return 0
}

type counters [len(ops)][len(outcomes)]atomic.Uint64

func (c *counters) add(op Op, outcome Outcome) {
	for i := range ops {
		for j := range outcomes {
			if ops[i] == op && outcomes[j] == outcome {
				c[i][j].Add(1)
			}
		}
	}
}

func (c *counters) list() []Count {
	l := make([]Count, 0, len(ops)*len(outcomes))
	for i := range ops {
		for j := range outcomes {
			l = append(l, Count{ops[i], outcomes[j], c[i][j].Load()})
		}
	}
	return l
}

// HistoryCount is how many histories came from one source.
type HistoryCount struct {
	Source   Source
	Degraded bool
	N        uint64
}

type historyCounters [len(sources)][2]atomic.Uint64

func (c *historyCounters) add(source Source, degraded bool) {
	for i := range sources {
		if sources[i] == source {
			c[i][index(degraded)].Add(1)
		}
	}
}

// Stats returns how many histories were loaded so far, from every source and
// degraded or not, zeros included.
func (h *History) Stats() []HistoryCount {
	l := make([]HistoryCount, 0, 2*len(sources))
	for i := range sources {
		for _, degraded := range [...]bool{false, true} {
			l = append(l, HistoryCount{sources[i], degraded, h.counters[i][index(degraded)].Load()})
		}
	}
	return l
}

// Late returns how many reads of a source had no answer in time.
func (h *History) Late(source Source) uint64 {
	switch {
	case source == FromFile && h.file != nil:
		return h.file.late.Load()
	case source == FromStream && h.stream != nil:
		return h.stream.late.Load()
	}
	return 0
}

func index(b bool) int {
	if b {
		return 1
	}
	return 0
}
