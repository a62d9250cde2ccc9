package acceptance

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// wantHealed waits until the documents are what was accepted makes, which takes no
// longer than the bound of recovery, and names what is not so.
func wantHealed(t *testing.T, dataDir string, said sessions, when string) time.Duration {
	t.Helper()
	began := time.Now()
	left := make(map[string]string, len(said))
	for session, turns := range said {
		left[session] = string(render(session, turns))
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < *heal {
		for session, text := range left {
			if got, _ := os.ReadFile(documentPath(dataDir, session)); string(got) == text {
				delete(left, session)
			}
		}
		if len(left) == 0 {
			return time.Since(began)
		}
		<-tick.C
	}
	l := newLedger(dataDir)
	for _, turns := range said {
		l.send(turns...)
		l.ack(turns...)
	}
	l.check(t, noLoss, when)
	t.Fatalf("%s: %s: %d of %d documents are not right after %v", recovers, when, len(left), len(said), *heal)
	return 0
}

// figuresOf are the sums of a run in which all is well.
func figuresOf(said sessions, took time.Duration) string {
	return fmt.Sprintf("all %d turns of %d sessions in their documents, once, in order, %v after", said.count(), len(said), took.Round(time.Millisecond))
}
