package acceptance

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

// NATS is gone for a while under load: who publishes does not notice, and
// nothing that was accepted is lost.
func TestNATSStopsUnderLoad(t *testing.T) {
	outage := choose(10*time.Second, 30*time.Second)
	rnd := random(t)
	nats := servertest.NATSProcess(t)
	js := connect(t, nats.URL())
	dataDir := filepath.Join(t.TempDir(), "data")
	consume := startService(t, "consume", "--nats-url", nats.URL(), "--redis-url", "none", "--data-dir", dataDir).ready()

	l := publish(t, rnd, js, namesOf("outage-%d", 40), 500)
	spread(t, 3*time.Second)
	l.mu.Lock()
	before := l.took
	l.took = nil
	l.mu.Unlock()
	nats.Kill9()
	spread(t, outage)
	l.mu.Lock()
	during := l.took
	l.took = nil
	l.mu.Unlock()
	buffered := l.pub.Stats()
	nats.Restart()
	back := time.Now()
	spread(t, 3*time.Second)
	after := l.drain(t, time.Minute)
	stored := time.Since(back)
	t.Logf("nats-server runs → Publish: %v", before)
	t.Logf("nats-server kill -9 for %v → Publish: %v", outage, during)
	t.Logf("nats-server runs again → Publish: %v", l.took)
	wantQuick(t, slices.Concat(before, during, l.took), outage)
	t.Logf("at the end of the outage %+v", buffered)
	l.wantOrder(t)
	took := wantDocuments(t, healed, dataDir, l.said)
	wantNothingElse(t, dataDir, l.said)
	t.Logf("all %d turns (%d snapshots before the outage, %d in it, %d after) are stored %v after the restart (Close took %v) and in documents, each once and in the order of submission, %v later",
		l.said.count(), len(before), len(during), len(l.took), stored.Round(time.Millisecond), after.Round(time.Millisecond), took.Round(time.Millisecond))
	consume.stop()
}
