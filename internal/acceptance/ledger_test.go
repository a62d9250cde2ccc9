package acceptance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// The invariants, as failures name them.
const (
	noLoss      = "I1 no loss"
	exactlyOnce = "I2 exactly once"
	inOrder     = "I3 order"
	asSent      = "I4 nothing invented"
	neverTorn   = "I5 never torn"
	neverShrink = "I6 never shrinks"
	powerSafe   = "I7 power"
	replayed    = "I8 replay"
	honestCache = "I9 cache"
	inTime      = "I10 response path"
	poison      = "I11 poison"
	recovers    = "I12 recovery"
)

// ledger is what was said to a store, what it answered, and what was seen of it.
// It judges files without the product.
type ledger struct {
	dataDir string

	mu     sync.Mutex
	frozen bool // nothing counts as acknowledged any more
	sent   sessions
	acked  map[snapshotKey]int // revision that has to be there
	seen   map[snapshotKey]int // revision that was there before
	counts map[string]int      // violations by kind

	turns, sessions, durable int // of those before next
}

type snapshotKey struct{ session, id string }

func newLedger(dataDir string) *ledger {
	return &ledger{dataDir: dataDir, sent: make(sessions), acked: make(map[snapshotKey]int), seen: make(map[snapshotKey]int), counts: make(map[string]int)}
}

func (l *ledger) send(turns ...turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent.add(turns...)
}

// ack notes that turns are durable, unless the list is frozen.
func (l *ledger) ack(turns ...turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.frozen {
		return
	}
	for _, w := range turns {
		key := snapshotKey{w.Session, w.ID}
		l.acked[key] = max(l.acked[key], w.Rev)
	}
}

// freeze ends the list of what is acknowledged, and calls fault before anybody
// can add to it.
func (l *ledger) freeze(fault func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = true
	fault()
}

// next forgets all turns, whose sessions will not be written any more, so that the
// time of a check does not grow. The sums stay.
func (l *ledger) next() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turns, l.sessions, l.durable = l.turns+l.sent.count(), l.sessions+len(l.sent), l.durable+len(l.acked)
	l.sent, l.acked, l.seen = make(sessions), make(map[snapshotKey]int), make(map[snapshotKey]int)
}

func (l *ledger) thaw() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = false
}

// check looks at all files and fails the test for each violation. loss names the
// invariant that a turn which was acknowledged and is missing breaks.
func (l *ledger) check(t testing.TB, loss, when string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	owner := make(map[string]string)
	known := make(map[turnText]bool)
	for session, turns := range l.sent {
		for _, w := range turns {
			owner[w.ID] = session
			known[w.plain()] = true
		}
	}
	for session := range l.sent {
		found, err := l.held(session)
		if err != nil {
			l.violated(t, neverTorn, "torn", when, session, err.Error())
			continue
		}
		at := make(map[string]turn)
		last := ""
		for _, w := range found.document {
			order := w.Timestamp + " " + w.ID
			if _, twice := at[w.ID]; twice {
				l.violated(t, exactlyOnce, "duplicated", when, session, "turn "+w.ID)
			} else if order < last {
				l.violated(t, inOrder, "misordered", when, session, "turn "+w.ID)
			}
			at[w.ID], last = w, order
		}
		for _, w := range append(found.document, found.tail...) {
			switch o := owner[w.ID]; {
			case o == "":
				l.violated(t, asSent, "invented", when, session, "turn "+w.ID)
			case o != session:
				l.violated(t, exactlyOnce, "misrouted", when, session, "turn "+w.ID+" of session "+o)
			case !known[w.plain()]:
				l.violated(t, asSent, "invented", when, session, fmt.Sprintf("turn %s rev %d reads otherwise than it was sent", w.ID, w.Rev))
			}
		}
		best := make(map[string]int)
		for _, w := range winners(append(found.document, found.tail...)) {
			best[w.ID] = w.Rev
		}
		for _, w := range winners(l.sent[session]) {
			key := snapshotKey{session, w.ID}
			if rev := l.acked[key]; best[w.ID] < rev {
				l.violated(t, loss, "lost", when, session, fmt.Sprintf("turn %s was acknowledged with rev %d, there is rev %d (0 is none)", w.ID, rev, best[w.ID]))
			}
			if rev := l.seen[key]; best[w.ID] < rev {
				l.violated(t, neverShrink, "shrunk", when, session, fmt.Sprintf("turn %s was there with rev %d, now with %d (0 is none)", w.ID, rev, best[w.ID]))
			}
			l.seen[key] = max(l.seen[key], best[w.ID])
		}
	}
}

// checkFolded checks that every document alone is what the renderer makes of all
// that is there, byte for byte.
func (l *ledger) checkFolded(t testing.TB) {
	t.Helper()
	if err := l.unfolded(); err != nil {
		t.Error(err)
	}
}

// unfolded says which documents are not.
func (l *ledger) unfolded() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for session := range l.sent {
		found, torn := l.held(session)
		if torn != nil {
			err = errors.Join(err, fmt.Errorf("%s: torn: session %s: %w", neverTorn, session, torn))
			continue
		}
		all := append(found.document, found.tail...)
		if len(all) == 0 {
			continue
		}
		if want := string(render(session, all)); string(found.raw) != want {
			err = errors.Join(err, fmt.Errorf("%s: session %s is not what its turns make:\n%s", exactlyOnce, session, firstDifference(string(found.raw), want)))
		}
	}
	return err
}

// turnText is what of a turn can be compared.
type turnText struct {
	id, session, timestamp, user, assistant, status string
	rev                                             int
}

func (w turn) plain() turnText {
	return turnText{w.ID, w.Session, w.Timestamp, w.User, w.Assistant, w.Status, w.Rev}
}

// violated fails the test, and says no more than a few of each kind.
func (l *ledger) violated(t testing.TB, invariant, kind, when, session, what string) {
	t.Helper()
	if l.counts[kind]++; l.counts[kind] <= 3 {
		t.Errorf("%s: %s: %s: session %s: %s", invariant, kind, when, session, what)
	}
}

// figures are the sums that a run ends with.
func (l *ledger) figures() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d turns in %d sessions sent, %d acknowledged; lost %d, duplicated %d, misordered %d, misrouted %d, torn %d, shrunk %d, invented %d",
		l.turns+l.sent.count(), l.sessions+len(l.sent), l.durable+len(l.acked), l.counts["lost"], l.counts["duplicated"], l.counts["misordered"],
		l.counts["misrouted"], l.counts["torn"], l.counts["shrunk"], l.counts["invented"])
}

// holding is what the files of a session hold.
type holding struct {
	raw            []byte
	document, tail []turn
}

// held reads the files of a session: the tail first, as any reader has to.
func (l *ledger) held(session string) (h holding, err error) {
	path := documentPath(l.dataDir, session)
	lines, err := os.ReadFile(strings.TrimSuffix(path, ".json") + ".tail")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return h, err
	}
	if h.tail, err = parseTail(lines); err != nil {
		return h, err
	}
	if h.raw, err = os.ReadFile(path); errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	var d document
	if err := json.Unmarshal(h.raw, &d); err != nil {
		return h, fmt.Errorf("document: %w", err)
	}
	if d.SessionID != session || d.MessageCount != len(d.Messages) {
		return h, fmt.Errorf("document of session %q with %d messages says %d", d.SessionID, len(d.Messages), d.MessageCount)
	}
	for _, m := range d.Messages {
		m.Session = session
		h.document = append(h.document, m)
	}
	return h, nil
}

// parseTail reads checksummed lines. A last one without its newline was never acknowledged.
func parseTail(data []byte) (turns []turn, err error) {
	data = data[:bytes.LastIndexByte(data, '\n')+1]
	for line := range bytes.Lines(data) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		sum, payload, _ := bytes.Cut(line, []byte(" "))
		if want := fmt.Sprintf("%08x", crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli))); string(sum) != want {
			return nil, fmt.Errorf("tail: a line with the sum %q, not %s", sum, want)
		}
		var w turn
		if err := json.Unmarshal(payload, &w); err != nil {
			return nil, fmt.Errorf("tail: %w", err)
		}
		turns = append(turns, w)
	}
	return turns, nil
}

// temporaries are the names of files that only a fold under way has.
func (l *ledger) temporaries() []string {
	var left *leftBehind
	if errors.As(leftovers(l.dataDir), &left) {
		return left.names
	}
	return nil
}

// wantSwept checks that none of these temporary files is there any more.
func (l *ledger) wantSwept(t testing.TB, names []string) {
	t.Helper()
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(transcripts(l.dataDir), name)); err == nil {
			t.Errorf("%s: %s is still there after a restart", exactlyOnce, name)
		}
	}
}

func (l *ledger) isFrozen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.frozen
}
