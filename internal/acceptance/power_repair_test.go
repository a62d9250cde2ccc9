package acceptance

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// The power goes while damaged documents are repaired, of which the stream has only a
// part. The next repair still makes all that could be read before.
func TestPowerCutOfARepair(t *testing.T) {
	rounds := choose(4, 100)
	rnd := random(t)
	disk := faults.NewForgetful(t)
	nats := servertest.NATSProcess(t)
	js := connect(t, nats.URL())
	dataDir := filepath.Join(disk.Dir(), "data")
	consume := consumeOn(t, nats.URL(), dataDir)
	k := newTalk(rnd, namesOf("repair-%d", 12))
	var turns []turn
	for range 150 {
		turns = append(turns, k.next())
	}
	said := make(sessions)
	said.add(turns...)
	publishAll(t, js, turns)
	wantConsumed(t, healed, js, group)
	wantHealed(t, dataDir, said, "before the fault")
	consume.stop()
	s, err := js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(s.CachedInfo().State.LastSeq*2/3)); err != nil {
		t.Fatal(err)
	}
	repair := []string{"verify", "--all", "--repair", "--settle", "1ms", "--nats-url", nats.URL(), "--redis-url", "none", "--data-dir", dataDir, "--scratch", t.TempDir()}
	mend := func() time.Duration {
		p := start(t, repair...)
		code, took := p.wait(oneShot)
		if code != 0 {
			t.Fatalf("%s: exit code %d\n%s%s", p, code, p.output(), p.errors())
		}
		return took
	}
	damaged := 0
	breakSums := func() {
		for name := range said {
			path := documentPath(dataDir, name)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.LastIndex(data, []byte(`"sha256":"`)) + len(`"sha256":"`) + rnd.IntN(64)
			data[at] ^= 1 // every turn can still be read
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := f.Sync(); err != nil { // the damage is on disk
				t.Fatal(err)
			}
			f.Close()
			damaged++
		}
	}
	breakSums()
	whole := mend()
	interrupted := 0
	for i := range rounds {
		breakSums()
		p := start(t, repair...)
		spread(t, time.Duration(rnd.Int64N(int64(whole))))
		if p.running() {
			interrupted++
		}
		p.kill9()
		disk.Cut(rnd)
		mend()
		when := fmt.Sprintf("round %d, power cut of a repair", i)
		l := newLedger(dataDir)
		l.send(turns...)
		l.ack(turns...)
		l.check(t, powerSafe, when)
		wantDocuments(t, startSoon, dataDir, said)
		if t.Failed() {
			return
		}
	}
	if err := leftovers(dataDir); err == nil {
		t.Error("no damaged document is kept")
	}
	t.Logf("%d repairs of %d damaged documents, %d of them interrupted by a power cut → all %d turns as before", rounds, damaged, interrupted, said.count())
}
