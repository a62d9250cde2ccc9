package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

// Kill -9 of the consumer at random moments under load, again and again, leaves
// what an undisturbed run leaves.
func TestKill9OfTheConsumer(t *testing.T) {
	rounds := choose(6, 50)
	rnd := random(t)
	nats, server := servertest.NATSProcess(t), servertest.Redis(t)
	js := connect(t, nats.URL())
	dataDir := filepath.Join(t.TempDir(), "data")
	where := []string{"--nats-url", nats.URL(), "--redis-url", server.URL(), "--data-dir", dataDir}
	command := append([]string{"consume"}, where...)

	began := time.Now()
	startService(t, command...).ready().kill9() // makes streams and folder
	startup := time.Since(began)
	seen := observe(t, dataDir, 1)
	l := publish(t, rnd, js, namesOf("kill-%d", 60), 300)
	wrote := 0
	var lived durations
	for i := range rounds {
		had := written(t, dataDir)
		p := start(t, command...)
		began = time.Now()
		// One in three is killed at any moment of its start, the others while they work.
		if i%3 == 0 {
			spread(t, time.Duration(rnd.Int64N(int64(startup))))
		} else {
			eventually(t, oneShot, p.String()+" writes", func() error {
				if written(t, dataDir) > had {
					return nil
				}
				return fmt.Errorf("%d bytes are written, as before; publisher %+v; %v", had, l.pub.Stats(), unconsumed(t, js, group))
			})
			spread(t, time.Duration(rnd.IntN(1000))*time.Millisecond)
		}
		p.kill9()
		lived = append(lived, time.Since(began))
		if written(t, dataDir) > had {
			wrote++
		}
	}
	l.drain(t, time.Minute)
	t.Logf("%d × afterword consume, kill -9 → after %v; %d of them had written", rounds, lived, wrote)

	// What a killed one had fetched comes again after the wait for its acknowledgement (15 s).
	last := startService(t, command...).ready()
	took := wantDocuments(t, healed, dataDir, l.said)
	wantConsumed(t, healed, js, group)
	inRedis := wantRedis(t, healed, openRedis(t, server.Addr()), l.said)
	t.Logf("the last start → all %d turns (%d snapshots) in %d documents as in an undisturbed run, after %v; Redis right %v later",
		l.said.count(), len(l.took), len(l.said), took.Round(time.Millisecond), inRedis.Round(time.Millisecond))
	last.stop()
	seen.end(t)

	last = startService(t, command...).ready()
	eventually(t, startSoon, "the walk has swept what was left behind", func() error { return leftovers(dataDir) })
	wantNothingElse(t, dataDir, l.said)
	last.stop()
	into := filepath.Join(t.TempDir(), "undisturbed")
	run(t, "replay", "--all", "--into", into, "--nats-url", nats.URL(), "--data-dir", t.TempDir())
	sameDocuments(t, "an undisturbed run", allDocuments(t, into), allDocuments(t, transcripts(dataDir)))
	wantVerified(t, where, l.said)
}

// written is how many bytes the documents have.
func written(t *testing.T, dataDir string) (n int64) {
	for _, name := range files(t, transcripts(dataDir)) {
		if info, err := os.Stat(filepath.Join(transcripts(dataDir), name)); err == nil && isDocument(name) {
			n += info.Size()
		}
	}
	return n
}

// ofFolder reports whether a file says something of the whole folder. One that is not written to the end
// is removed by the first walk that finds it a minute old.
func ofFolder(name string) bool {
	switch name {
	case ".afterword", ".afterword-walk", ".afterword-position":
		return true
	}
	return strings.HasPrefix(name, "..afterword-")
}

// leftovers are temporary files.
func leftovers(dataDir string) error {
	names, err := listFiles(transcripts(dataDir))
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return isDocument(name) || strings.HasSuffix(name, ".tail") || ofFolder(name)
	})
	if len(names) > 0 {
		return &leftBehind{names}
	}
	return nil
}

type leftBehind struct{ names []string }

func (e *leftBehind) Error() string { return strings.Join(e.names, ", ") + " left behind" }
