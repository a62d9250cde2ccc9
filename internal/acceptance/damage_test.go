package acceptance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// damage changes bytes as a disk does that lies, and says how. The last byte stays: a
// tail without its last newline is one whose last write a crash cut short.
func damage(rnd *rand.Rand, data []byte, mayCut bool) (damaged []byte, how string) {
	damaged = bytes.Clone(data)
	at := rnd.IntN(len(data) - 1)
	kinds := 3
	if mayCut {
		kinds = 5
	}
	switch rnd.IntN(kinds) {
	case 0:
		damaged[at] ^= 1 << rnd.IntN(8)
		return damaged, "bit flip"
	case 1:
		clear(damaged[at:min(at+512, len(data)-1)])
		return damaged, "zeroes"
	case 2:
		for i := at; i < min(at+64, len(data)-1); i++ {
			damaged[i] = byte(rnd.Uint32())
		}
		return damaged, "garbage"
	case 3:
		return damaged[:at], "truncation"
	}
	return append(damaged, data[at:]...), "end twice"
}

// keeps reports whether a folder has a file of these bytes whose name begins so.
func keeps(dir, prefix string, data []byte) bool {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			if got, _ := os.ReadFile(filepath.Join(dir, e.Name())); bytes.Equal(got, data) {
				return true
			}
		}
	}
	return false
}

// Documents and tails in which bits flip, blocks are lost and ends are missing: they are
// set aside as they are and rebuilt from the stream, byte for byte. What the stream no
// longer has is there as it was, or is reported by name.
func TestDamagedFiles(t *testing.T) {
	rounds := choose(2, 40)
	rnd := random(t)
	nats := servertest.NATSProcess(t)
	js := connect(t, nats.URL())
	dataDir := filepath.Join(t.TempDir(), "data")
	where := []string{"--all", "--nats-url", nats.URL(), "--redis-url", "none", "--data-dir", dataDir}
	said := make(sessions)
	counts := make(map[string]int)
	k := newTalk(rnd, nil)
	var consume *service
	for i := range rounds {
		consume = consumeOn(t, nats.URL(), dataDir)
		k.turnTo(namesOf(fmt.Sprintf("damage-%d-%%d", i), 8))
		var turns []turn
		for range 120 {
			turns = append(turns, k.next())
		}
		said.add(turns...)
		publishAll(t, js, turns)
		wantConsumed(t, healed, js, group)
		if i%2 > 0 {
			wantHealed(t, dataDir, said, "before the damage") // documents are there
		}
		consume.kill9() // tails are full
		aside := make(map[string][]byte)
		for n, session := range k.names {
			path := documentPath(dataDir, session)
			if (n+i)%2 == 0 { // as many tails as documents, not as chance will have it
				path = strings.TrimSuffix(path, ".json") + ".tail"
			}
			data, err := os.ReadFile(path)
			if err != nil || len(data) < 2 {
				continue
			}
			damaged, how := damage(rnd, data, strings.HasSuffix(path, ".json"))
			if bytes.Equal(damaged, data) {
				continue
			}
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			aside[path] = damaged
			counts[how+" "+filepath.Ext(path)]++
		}
		consume = consumeOn(t, nats.URL(), dataDir)
		p := start(t, append([]string{"verify", "--repair", "--settle", "1ms"}, where...)...)
		if code, _ := p.wait(oneShot); code > 1 {
			t.Fatalf("%s: exit code %d\n%s%s", p, code, p.output(), p.errors())
		}
		wantHealed(t, dataDir, said, fmt.Sprintf("round %d, damaged files", i))
		for path, damaged := range aside {
			if !keeps(filepath.Dir(path), filepath.Base(path)+".corrupt-", damaged) {
				t.Errorf("%s was damaged and is not kept as it was", filepath.Base(path))
			}
		}
		consume.stop()
		if t.Failed() {
			return
		}
	}
	if len(counts) < choose(2, 6) {
		t.Errorf("too little was damaged: %v", counts)
	}
	t.Logf("%d rounds of damage, %v → all %d turns in documents as before, every damaged file kept", rounds, counts, said.count())

	turns, err := js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	if err := turns.Purge(t.Context(), jetstream.WithPurgeSequence(turns.CachedInfo().State.LastSeq/2)); err != nil {
		t.Fatal(err)
	}
	before := allDocuments(t, transcripts(dataDir))
	run(t, "replay", "--all", "--nats-url", nats.URL(), "--data-dir", dataDir)
	sameDocuments(t, neverShrink+": a replay of a trimmed stream", allDocuments(t, transcripts(dataDir)), before)
	wantNamed(t, rnd, where, dataDir, said)
}

// wantNamed damages a document of each session and repairs them. A turn is there as it
// was said, or the report names it, or says how many lines it cannot name.
func wantNamed(t *testing.T, rnd *rand.Rand, where []string, dataDir string, said sessions) {
	t.Helper()
	damagedFiles := 0
	for _, session := range slices.Sorted(maps.Keys(said)) { // in order, so that a seed repeats it
		path := documentPath(dataDir, session)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged, _ := damage(rnd, data, true)
		if bytes.Equal(damaged, data) {
			continue
		}
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		damagedFiles++
	}
	p := start(t, append([]string{"verify", "--repair", "--json", "--settle", "1ms"}, where...)...)
	if code, _ := p.wait(oneShot); code > 1 {
		t.Fatalf("%s: exit code %d\n%s%s", p, code, p.output(), p.errors())
	}
	type files struct {
		Unverified, Missing []string
		Unreadable          int
		Short               bool `json:"cut_short"`
	}
	named := make(map[string]files)
	for line := range strings.Lines(p.output()) {
		var d struct {
			Session string `json:"session_id"`
			Repair  struct{ Files files }
		}
		if err := json.Unmarshal([]byte(line), &d); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if d.Session != "" {
			named[d.Session] = d.Repair.Files
		}
	}
	l := newLedger(dataDir)
	there, reported, counted := 0, 0, 0
	for session, turns := range said {
		found, err := l.held(session)
		if err != nil {
			t.Errorf("%s: session %s is not repaired: %v", neverTorn, session, err)
			continue
		}
		have := make(map[turnText]bool)
		for _, w := range append(found.document, found.tail...) {
			have[w.plain()] = true
		}
		n := named[session]
		unknown := make(map[string]bool) // named, and sent by nobody: the damage is in an id
		for _, id := range append(n.Unverified, n.Missing...) {
			unknown[id] = true
		}
		var unnamed []string
		for _, w := range winners(turns) {
			switch {
			case have[w.plain()]:
				there++
			case unknown[w.ID]:
				reported++
			default:
				unnamed = append(unnamed, w.ID)
			}
			delete(unknown, w.ID)
		}
		if counted += len(unnamed); len(unnamed) > n.Unreadable+len(unknown) && !n.Short {
			t.Errorf("%s: session %s: turns %s are neither there nor named; the report says %+v, of which nobody sent %v",
				neverShrink, session, unnamed, n, slices.Sorted(maps.Keys(unknown)))
		}
	}
	run(t, append([]string{"verify"}, where...)...)
	t.Logf("half of the stream purged, %d documents damaged → %d turns as they were, %d reported by name, %d only by number", damagedFiles, there, reported, counted)
	if there == 0 || len(named) == 0 {
		t.Error("nothing was repaired")
	}
}

// A segment of the spool in which a bit has flipped costs the line that it is in, which is
// counted, and nothing else; the segment is kept.
func TestDamagedSpool(t *testing.T) {
	rounds := choose(2, 30)
	rnd := random(t)
	nats := servertest.NATSProcess(t)
	dataDir := filepath.Join(t.TempDir(), "data")
	spoolDir := filepath.Join(dataDir, "spool")
	command := []string{"gateway", "--nats-url", nats.URL(), "--redis-url", "none", "--data-dir", dataDir}
	consume := consumeOn(t, nats.URL(), dataDir)
	lost, spooled := 0, 0
	for i := range rounds {
		nats.Kill9()
		g := startService(t, command...)
		session := fmt.Sprintf("segment-%d", i)
		var turns []turn
		for n := range 40 {
			w, _ := g.mustPost(t, session, fmt.Sprintf("question %d %x", n, rnd.Uint64()), "answer")
			turns = append(turns, w)
		}
		for _, w := range turns {
			eventually(t, startSoon, "turn "+w.ID+" is spooled", func() error {
				if level := g.level(w); level != "spooled" {
					return errors.New(level)
				}
				return nil
			})
		}
		spooled += len(turns)
		g.kill9()
		segments, err := filepath.Glob(filepath.Join(spoolDir, "*.seg"))
		if err != nil || len(segments) == 0 {
			t.Fatalf("the spool has no segment: %v", err)
		}
		path := segments[rnd.IntN(len(segments))]
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := bytes.Clone(data)
		damaged[rnd.IntN(len(data)-1)] ^= 1 << rnd.IntN(8)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		nats.Restart()
		g = startService(t, command...).ready()
		eventually(t, healed, "the spool is empty", func() error {
			if n := g.metric("afterword_spool_turns"); n != "0" {
				return fmt.Errorf("%s turns are in it", n)
			}
			return nil
		})
		bad, _ := strconv.Atoi(g.metric("afterword_spool_damaged_lines_total"))
		l := newLedger(dataDir)
		eventually(t, healed, "all but the damaged lines is in the document", func() error {
			found, err := l.held(session)
			if err != nil {
				return err
			}
			missing := len(turns) - len(winners(append(found.document, found.tail...)))
			if missing > bad {
				return fmt.Errorf("%d of %d turns are missing, %d lines are reported as damaged", missing, len(turns), bad)
			}
			return nil
		})
		if bad == 0 || !keeps(spoolDir, "", damaged) {
			t.Errorf("%s: a bit flipped in %s: %d damaged lines are reported, the segment kept: %v", noLoss, filepath.Base(path), bad, keeps(spoolDir, "", damaged))
		}
		lost += bad
		g.stop()
	}
	t.Logf("%d segments with a flipped bit → %d damaged lines reported of %d, all other turns stored, the segments kept", rounds, lost, spooled)
	consume.stop()
}
