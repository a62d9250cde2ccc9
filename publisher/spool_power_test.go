package publisher_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// A power cut at any moment loses no turn that was said to be spooled before it.
func TestSpoolSurvivesPowerCuts(t *testing.T) {
	const rounds = 6 // internal/acceptance has more, and xfs
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, seed))
	w := newStreamWorld(t)
	disk := newLoopDisk(t)
	dir := filepath.Join(disk.dir, "spool")
	var said []string
	for i := range rounds {
		w.srv.Stop()
		p := w.spooling(dir, func(c *publisher.Config) { c.BufferTurns = 200 })
		alive, dead := context.WithTimeout(t.Context(), patience)
		var mu sync.Mutex
		var work sync.WaitGroup
		cut := false
		for c := range 4 {
			work.Go(func() {
				for {
					session := fmt.Sprint("s", c)
					r, err := p.Publish(t.Context(), transcript.Turn{SessionID: session, User: fmt.Sprint("round ", i)})
					if err == nil {
						err = r.Wait(alive, publisher.Spooled)
					}
					mu.Lock()
					if cut || err != nil { // the list is frozen before the cut
						mu.Unlock()
						return
					}
					said = append(said, key(session, r.ID, r.Rev))
					mu.Unlock()
				}
			})
		}
		began := len(said)
		servertest.Eventually(t, patience, "turns to be spooled", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(said) > began+10
		})
		spread(t, time.Duration(rnd.IntN(30))*time.Millisecond)
		mu.Lock()
		cut = true
		mu.Unlock()
		shutdown(t, disk.dir)
		dead()
		work.Wait()
		leave(t, p)
		disk.remount()
		if i%3 == 2 { // now and then the stream comes back in between
			w.srv.Restart()
			closeNow(t, w.spooling(dir, nil))
		}
	}
	if rounds%3 != 0 {
		t.Fatal("the last round stores nothing")
	}
	servertest.Eventually(t, patience, "the server", w.js.Conn().IsConnected)
	got := w.stored()
	lost := 0
	for _, k := range said {
		if got[k] == 0 {
			lost++
		}
	}
	_, aside := segments(t, dir)
	t.Logf("%d power cuts → %d turns were said to be spooled, %d of them are lost, %v set aside", rounds, len(said), lost, aside)
	if lost > 0 || len(aside) > 0 {
		t.Errorf("%d of %d are lost, %v set aside", lost, len(said), aside)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}
