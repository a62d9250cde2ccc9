package acceptance

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/transcript"
)

// The power goes while transcripts are written. What had been acknowledged by
// then is there when it is back.
func TestPowerCutOfTheStore(t *testing.T) {
	for _, c := range []struct {
		fs         string
		durability transcript.Durability
		rounds     int
	}{
		{"ext4", transcript.SyncFS, choose(40, 250)},
		{"ext4", transcript.SyncFiles, choose(10, 50)},
		{"xfs", transcript.SyncFS, choose(15, 80)},
		{"xfs", transcript.SyncFiles, choose(5, 20)},
	} {
		t.Run(c.fs+" "+string(c.durability), func(t *testing.T) {
			rnd := random(t)
			disk := faults.Loop(t, c.fs)
			cutPower(t, rnd, disk.Dir(), c.durability, c.rounds, disk.Cut, func(int) { disk.Restore() })
		})
	}
}

// A disk that keeps no more than POSIX promises, and forgets the rest one by one.
func TestPowerCutOfAForgetfulDisk(t *testing.T) {
	rnd := random(t)
	disk := faults.NewForgetful(t)
	cutPower(t, rnd, disk.Dir(), transcript.SyncFiles, choose(40, 400), func() {}, func(int) { disk.Cut(rnd) })
}

// cutPower runs rounds of writing until the power goes. The list of what is
// acknowledged is frozen before cut; restore runs when nobody has a file open.
func cutPower(t *testing.T, rnd *rand.Rand, dir string, durability transcript.Durability, rounds int, cut func(), restore func(round int)) {
	t.Helper()
	l := newLedger(filepath.Join(dir, "data"))
	k := newTalk(rnd, nil)
	cfg := writerConfig{Dir: transcripts(l.dataDir), Durability: durability}
	began := time.Now()
	batches := 0
	for i := range rounds {
		if i%20 == 0 {
			l.next()
			k.turnTo(namesOf(fmt.Sprintf("power-%d-%%d", i), 8))
		}
		w := startWriter(t, cfg, nil)
		if !w.ready() {
			t.Fatalf("round %d: the writer ended: %s", i, w.stderr.String())
		}
		off := time.AfterFunc(time.Hour, func() {
			l.freeze(cut)
			w.kill9()
		})
		cutSoon := func() { off.Reset(time.Duration(2_000+rnd.IntN(60_000)) * time.Microsecond) }
		if batches > 0 { // until a first one is acknowledged, however slowly, there is nothing to lose
			cutSoon()
		}
		for {
			turns := k.batch()
			l.send(turns...)
			answer := w.append(turns...)
			if answer == "ok" {
				l.ack(turns...)
				if batches++; batches == 1 {
					cutSoon()
				}
				continue
			}
			if answer == "" {
				break
			}
			if !l.isFrozen() {
				t.Fatalf("round %d: append: %s", i, answer)
			}
		}
		off.Stop()
		<-w.done
		restore(i)
		l.thaw()
		l.check(t, powerSafe, fmt.Sprintf("round %d, power cut", i))
		if t.Failed() {
			return
		}
	}
	w := startWriter(t, cfg, nil)
	if !w.ready() || w.fold() != "ok" {
		t.Fatalf("the last writer cannot fold: %s", w.stderr.String())
	}
	w.kill9()
	l.check(t, powerSafe, "at the end")
	l.checkFolded(t)
	if batches == 0 {
		t.Error("nothing was ever acknowledged")
	}
	t.Logf("%d power cuts (%s) → %d batches acknowledged between them, in %v", rounds, durability, batches, time.Since(began).Round(time.Second))
	t.Log(l.figures())
}
