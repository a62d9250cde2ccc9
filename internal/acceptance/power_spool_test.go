package acceptance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// The power of the spool's disk goes while NATS is away. What was called spooled by then
// is published when both are back.
func TestPowerCutOfTheSpool(t *testing.T) {
	for _, c := range []struct {
		fs     string
		rounds int
	}{{"ext4", choose(5, 300)}, {"xfs", choose(4, 100)}} {
		t.Run(c.fs, func(t *testing.T) {
			rnd := random(t)
			disk := faults.Loop(t, c.fs)
			nats := servertest.NATSProcess(t)
			js := connect(t, nats.URL())
			if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
				t.Fatal(err)
			}
			s := &spooling{dir: filepath.Join(disk.Dir(), "spool"), js: js}
			began := time.Now()
			for i := range c.rounds {
				nats.Kill9()
				s.untilCut(t, disk, i, time.Duration(rnd.IntN(40))*time.Millisecond)
				if i%10 == 9 || i == c.rounds-1 { // now and then the stream is back in between
					nats.Restart()
					s.resume(t)
					s.check(t, fmt.Sprintf("round %d, power cut of the spool", i))
				}
				if t.Failed() {
					return
				}
			}
			if len(s.said) == 0 {
				t.Error("nothing was ever spooled")
			}
			t.Logf("%d power cuts of the spool (%s) → none of %d turns that were called spooled is lost, in %v", c.rounds, c.fs, len(s.said), time.Since(began).Round(time.Second))
		})
	}
}

// spooling is what publishers with one spool were told.
type spooling struct {
	dir string
	js  jetstream.JetStream

	mu   sync.Mutex
	cut  bool
	said []snapshotKey
}

// untilCut publishes until the power goes, which it does some time after a few turns are spooled.
func (s *spooling) untilCut(t *testing.T, disk *faults.Disk, round int, after time.Duration) {
	t.Helper()
	pub, err := publisher.New(publisher.Config{Conn: s.js.Conn(), SpoolDir: s.dir, BufferTurns: 200})
	if err != nil {
		t.Fatal(err)
	}
	s.cut = false
	had := len(s.said)
	ctx, dead := context.WithCancel(t.Context())
	defer dead()
	var clients sync.WaitGroup
	for c := range 4 {
		clients.Go(func() {
			for n := 0; ; n++ {
				session := fmt.Sprintf("spooled-%d", c)
				r, err := pub.Publish(ctx, transcript.Turn{SessionID: session, User: fmt.Sprintf("question %d of round %d", n, round), Assistant: "answer"})
				if err == nil {
					err = r.Wait(ctx, publisher.Spooled)
				}
				s.mu.Lock()
				if s.cut || err != nil { // the list is frozen before the cut
					s.mu.Unlock()
					return
				}
				s.said = append(s.said, snapshotKey{session, r.ID})
				s.mu.Unlock()
			}
		})
	}
	servertest.Eventually(t, startSoon, "turns to be spooled", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.said) > had+5
	})
	spread(t, after)
	s.mu.Lock()
	s.cut = true
	disk.Cut()
	s.mu.Unlock()
	dead()
	clients.Wait()
	ended, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var left *publisher.LeftError
	if err := pub.Close(ended); err != nil && !errors.As(err, &left) {
		t.Fatal(err)
	}
	disk.Restore()
}

// resume publishes what is spooled.
func (s *spooling) resume(t *testing.T) {
	t.Helper()
	servertest.Eventually(t, startSoon, "the connection is back", s.js.Conn().IsConnected)
	pub, err := publisher.New(publisher.Config{Conn: s.js.Conn(), SpoolDir: s.dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := pub.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// check looks for every turn in the stream.
func (s *spooling) check(t *testing.T, when string) {
	t.Helper()
	have := make(map[snapshotKey]bool)
	readAll(t, s.js, stream.Turns, func(m jetstream.Msg, _ uint64) {
		w := parseTurn(t, m.Data())
		have[snapshotKey{w.Session, w.ID}] = true
	})
	lost := 0
	for _, key := range s.said {
		if !have[key] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%s: lost: %s: %d of %d turns that were called spooled", powerSafe, when, lost, len(s.said))
	}
}
