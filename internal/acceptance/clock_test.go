package acceptance

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/publisher"
)

// The clock of a publisher jumps to any time within eleven hours of the right one, and the
// times of files by up to ten years. In each session turns stay in the order in which they were said, and a replay
// makes the same bytes.
func TestClockSteps(t *testing.T) {
	const (
		decade = 10 * 365 * 24 * time.Hour
		wrong  = 11 * time.Hour // two such clocks are less than a day apart: more is a dead letter
	)
	steps := choose(12, 150)
	rnd := random(t)
	nats := servertest.NATSProcess(t)
	js := connect(t, nats.URL())
	dataDir := filepath.Join(t.TempDir(), "data")
	consume := consumeOn(t, nats.URL(), dataDir)
	var offset atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	l := publishWith(t, rnd, publisher.Config{Conn: js.Conn(), Now: now}, namesOf("clock-%d", 10), 100)
	aged := 0
	for i := range steps {
		spread(t, 200*time.Millisecond)
		offset.Store(rnd.Int64N(2*int64(wrong)) - int64(wrong))
		for _, name := range files(t, transcripts(dataDir)) {
			at := time.Now().Add(time.Duration(rnd.Int64N(2*int64(decade)) - int64(decade)))
			if err := os.Chtimes(filepath.Join(transcripts(dataDir), name), at, at); err == nil {
				aged++
			}
		}
		if i == steps/2 { // a start walks over all files
			consume.stop()
			consume = consumeOn(t, nats.URL(), dataDir)
		}
	}
	l.drain(t, time.Minute)
	l.wantOrder(t)
	took := wantHealed(t, dataDir, l.said, "after the clock jumped")
	consume.stop()
	consume = consumeOn(t, nats.URL(), dataDir)
	wantHealed(t, dataDir, l.said, "after the next start")
	into := filepath.Join(t.TempDir(), "replayed")
	run(t, "replay", "--all", "--into", into, "--nats-url", nats.URL(), "--data-dir", t.TempDir())
	sameDocuments(t, replayed, allDocuments(t, into), allDocuments(t, transcripts(dataDir)))
	t.Logf("clock of the publisher set %d times within eleven hours, times of files %d times within ten years → %s", steps, aged, figuresOf(l.said, took))
	consume.stop()
}
