package acceptance

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/transcript"
)

// Kill -9 of a process that writes transcripts, at random moments and as it
// enters each of the system calls that change files: what was acknowledged is
// there, once, and the next process leaves nothing lying about.
func TestKill9OfTheStore(t *testing.T) {
	rounds := choose(130, 800)
	rnd := random(t)
	faults.NeedTrace(t)
	// In memory: a kill loses nothing that was written, and other disks' syncs are slow.
	l := newLedger(filepath.Join(faults.Small(t, 512<<20, 1<<20).Dir(), "data"))
	k := newTalk(rnd, nil)
	cfg := writerConfig{Dir: transcripts(l.dataDir)}
	seen := observe(t, l.dataDir, 1)
	died := make(map[string]int)
	var calls deck
	batches, swept := 0, 0
	began := time.Now()
	for i := range rounds {
		if i%20 == 0 {
			settle(t, l, cfg)
			k.turnTo(namesOf(fmt.Sprintf("store-%d-%%d", i), 12))
		}
		var wrap func(args ...string) []string
		at := "random"
		if i%3 == 1 {
			at = calls.deal(rnd, faults.Calls)
			hit := faults.Injection{Calls: []string{at}, From: 1 + rnd.IntN(8), Kill: true}
			wrap = func(args ...string) []string { return hit.Command(t, args...) }
		}
		cfg.Durability = []transcript.Durability{transcript.SyncFS, transcript.SyncFiles}[i/2%2]
		if at == "syncfs" { // the other way does without it
			cfg.Durability = transcript.SyncFS
		}
		left := l.temporaries()
		w := startWriter(t, cfg, wrap)
		if at == "random" && i%10 == 0 { // in the middle of its start
			spread(t, time.Duration(rnd.IntN(60))*time.Millisecond)
			w.kill9()
		}
		if w.ready() {
			l.wantSwept(t, left)
			swept += len(left)
			var killer *time.Timer
			if at == "random" {
				killer = time.AfterFunc(time.Duration(rnd.IntN(40_000))*time.Microsecond, w.kill9)
			}
			for range 25 { // a call that does not come in so many batches is not waited for
				turns := k.batch()
				l.send(turns...)
				answer := w.append(turns...)
				if answer == "" {
					died[at]++
					break
				}
				if answer != "ok" {
					t.Fatalf("append: %s", answer)
				}
				batches++
				l.ack(turns...)
			}
			if killer != nil {
				<-w.done
			}
		} else {
			died[at]++
		}
		w.kill9()
		l.check(t, noLoss, fmt.Sprintf("round %d, kill -9 at %s", i, at))
		if t.Failed() {
			return
		}
	}
	seen.end(t)
	settle(t, l, cfg)
	if err := leftovers(l.dataDir); err != nil {
		t.Error(err)
	}
	for _, call := range []string{"random", "write", "fsync", "syncfs", "renameat", "ftruncate"} {
		if died[call] == 0 {
			t.Errorf("nobody died at %s", call)
		}
	}
	t.Logf("%d rounds of kill -9 → %d batches acknowledged between them, %d temporary files swept, in %v", rounds, batches, swept, time.Since(began).Round(time.Second))
	for _, call := range slices.Sorted(maps.Keys(died)) {
		t.Logf("  died at %-9s %d times", call, died[call])
	}
	t.Log(l.figures())
}

// settle lets a last process fold everything that is there, checks the documents
// byte for byte, and turns the page.
func settle(t *testing.T, l *ledger, cfg writerConfig) {
	t.Helper()
	w := startWriter(t, cfg, nil)
	if !w.ready() {
		t.Fatalf("the writer ended: %s", w.stderr.String())
	}
	if answer := w.fold(); answer != "ok" {
		t.Fatalf("fold: %s", answer)
	}
	w.kill9()
	l.check(t, noLoss, "after the next start")
	l.checkFolded(t)
	l.next()
}
