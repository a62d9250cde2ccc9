package acceptance

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// How long after its request a turn is in its document, when nothing else happens.
func TestIdleLatency(t *testing.T) {
	const (
		turns = 50
		bound = 200 * time.Millisecond // of the median; the figure itself is for the acceptance list
	)
	dataDir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dataDir)
	var answered, written durations
	for i := range turns {
		session := "idle"
		if i%2 == 1 {
			session = fmt.Sprintf("idle-%d", i) // a new one
		}
		spread(t, 50*time.Millisecond)
		began := time.Now()
		w, took := s.mustPost(t, session, fmt.Sprint("question ", i), "answer")
		answered = append(answered, took)
		tick := time.NewTicker(time.Millisecond)
		for {
			b, _ := os.ReadFile(documentPath(dataDir, session))
			if bytes.Contains(b, []byte(w.ID)) {
				break
			}
			if time.Since(began) > startSoon {
				t.Fatalf("turn %d is in no document after %v", i, startSoon)
			}
			<-tick.C
		}
		tick.Stop()
		written = append(written, time.Since(began))
	}
	t.Logf("%s, idle → POST answered: %v", s, answered)
	t.Logf("%s, idle → from POST until the turn is in the document on disk: %v", s, written)
	if written.at(.5) > bound {
		t.Errorf("the median is %v, want at most %v", written.at(.5), bound)
	}
	s.stop()
}
