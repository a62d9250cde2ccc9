package consumer

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go/jetstream"
)

// logged is a log that a test reads while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// has reports whether one line has all parts.
func (l *logged) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			return true
		}
	}
	return false
}

// fileOf is where a session's document is, or its tail.
func fileOf(dir, session, suffix string) string {
	return filepath.Join(dir, strings.TrimSuffix(transcript.DocumentPath(transcript.Sharded, session), ".json")+suffix)
}

// overwrite replaces a text in a file.
func overwrite(t *testing.T, path, old, with string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(b, []byte(old)) {
		t.Fatalf("%q is not in %s: %v", old, b, err)
	}
	if err := os.WriteFile(path, bytes.Replace(b, []byte(old), []byte(with), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

// folded waits until the document of a session has a text and its tail is empty.
func folded(t *testing.T, dir, session, text string) {
	t.Helper()
	servertest.Eventually(t, 20*time.Second, "the session is folded", func() bool {
		b, err := os.ReadFile(fileOf(dir, session, ".json"))
		info, terr := os.Stat(fileOf(dir, session, ".tail"))
		return err == nil && strings.Contains(string(b), text) && (terr != nil || info.Size() == 0)
	})
}

// A running consumer sets damaged files aside and rebuilds them by itself, from
// the stream and what can be read, while other sessions go on.
func TestDamagedFilesAreRebuilt(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store, err := transcript.Open(transcript.Config{Dir: dir, QuietAfter: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	turns := conversation(t, 6, 30)
	f.publish(turns...)
	c, stop := f.start(Config{Store: store, ProbeMax: 500 * time.Millisecond})
	f.drained(DefaultGroup)
	for _, s := range []string{"chat/0", "chat/1", "chat/2", "chat/3"} {
		folded(t, dir, s, "answer 29.")
	}
	overwrite(t, fileOf(dir, "chat/0", ".json"), "answer 7.1", "answer 8.1")
	overwrite(t, fileOf(dir, "chat/1", ".json"), `"user":"question 4"`, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	if err := os.Truncate(fileOf(dir, "chat/2", ".json"), 1000); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fileOf(dir, "chat/3", ".tail"), []byte("garbage\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var more []transcript.Snapshot // the next fold meets the damage
	for s := range 6 {
		more = append(more, makeTurn(t, "chat/"+string(rune('0'+s)), 50, 1))
	}
	f.publish(more...)
	f.drained(DefaultGroup)
	for s := range 6 {
		folded(t, dir, "chat/"+string(rune('0'+s)), "answer 50.1")
	}
	servertest.Eventually(t, 20*time.Second, "four repairs", func() bool { return c.Stats().Repaired == 4 })
	if st := c.Stats(); st.LostTurns != 0 || st.LostLines != 0 || st.Dead != 0 {
		t.Errorf("%+v", st)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, append(turns, more...)))
	aside, err := filepath.Glob(filepath.Join(dir, "*", "*.corrupt-*"))
	if err != nil || len(aside) != 4 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}

// What the stream does not have any more, and nobody can read, is logged by name
// and counted.
func TestWhatIsLostIsNamed(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store, err := transcript.Open(transcript.Config{Dir: dir, QuietAfter: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var turns []transcript.Snapshot
	for n := range 20 {
		turns = append(turns, makeTurn(t, "s", n, 1))
	}
	f.publish(turns...)
	var log logged
	c, stop := f.start(Config{Store: store, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	f.drained(DefaultGroup)
	folded(t, dir, "s", "answer 19.")
	st, err := f.js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Purge(t.Context(), jetstream.WithPurgeSequence(11)); err != nil { // the first ten are gone
		t.Fatal(err)
	}
	overwrite(t, fileOf(dir, "s", ".json"), `"user":"question 3"`, `"user":"question 3`)
	overwrite(t, fileOf(dir, "s", ".json"), `"user":"question 13"`, `"user":"question 13`)
	overwrite(t, fileOf(dir, "s", ".json"), `{"id":"t000005"`, `{"xq":"t000005"`)
	if _, err := store.Read(t.Context(), "s"); err == nil { // whoever reads it meets it, too
		t.Error("the damage is not noticed")
	}
	servertest.Eventually(t, 20*time.Second, "the repair", func() bool { return c.Stats().Repaired == 1 })
	doc, err := store.Read(t.Context(), "s")
	if err != nil || doc.Len() != 18 {
		t.Fatalf("%v, %v", doc, err)
	}
	for n, want := range map[string]bool{"t000003": false, "t000005": false, "t000013": true, "t000002": true} {
		if _, ok, err := doc.Turn(n); ok != want || err != nil {
			t.Errorf("%s: %v, %v", n, ok, err)
		}
	}
	if st := c.Stats(); st.LostTurns != 1 || st.LostLines != 1 {
		t.Errorf("%+v", st)
	}
	servertest.Eventually(t, 5*time.Second, "a word about it", func() bool {
		return log.has("level=ERROR", "session=s", "these turns are lost", "t000003") && log.has("level=ERROR", "session=s", "unreadable_lines=1")
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Nothing is set aside while the stream cannot be asked: that it has nothing is
// an answer, that it is silent is none.
func TestRepairWaitsForTheStream(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store, err := transcript.Open(transcript.Config{Dir: dir, QuietAfter: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	turns := conversation(t, 1, 10)
	f.publish(turns...)
	c, stop := f.start(Config{Store: store, ProbeMax: 500 * time.Millisecond, Request: time.Second})
	f.drained(DefaultGroup)
	folded(t, dir, "chat/0", "answer 9.")
	f.nats.Stop()
	if err := os.Truncate(fileOf(dir, "chat/0", ".json"), 700); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Read(t.Context(), "chat/0"); err == nil {
		t.Error("the damage is not noticed")
	}
	servertest.Eventually(t, 20*time.Second, "a repair that failed", func() bool { return c.Stats().RepairsFailed > 0 })
	if b, err := os.ReadFile(fileOf(dir, "chat/0", ".json")); err != nil || len(b) != 700 {
		t.Errorf("touched before the stream answered: %d bytes, %v", len(b), err)
	}
	f.nats.Restart()
	servertest.Eventually(t, 30*time.Second, "the repair", func() bool { return c.Stats().Repaired == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}

// The document of a session whose name is hashed tells whose it is; when it does
// not any more, the stream does.
func TestDamagedDocumentOfAHashedSession(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store := f.store(dir)
	session := strings.Repeat("long/", 45)
	turns := []transcript.Snapshot{makeTurn(t, session, 1, 1), makeTurn(t, session, 2, 1)}
	f.publish(turns...)
	_, stop := f.start(Config{Store: store})
	f.drained(DefaultGroup)
	folded(t, dir, session, "answer 2.")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fileOf(dir, session, ".json"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, stop := f.start(Config{Store: store})
	servertest.Eventually(t, 20*time.Second, "the repair", func() bool { return c.Stats().Repaired == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}

// verify --repair works beside a running consumer: both repair, and the outcome
// is the same.
func TestVerifyRepairsBesideAConsumer(t *testing.T) {
	f := newFixture(t)
	base := t.TempDir()
	dir := filepath.Join(base, "transcripts")
	store, err := transcript.Open(transcript.Config{Dir: dir, QuietAfter: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	turns := conversation(t, 9, 20)
	f.publish(turns...)
	_, stop := f.start(Config{Store: store, ProbeMax: 500 * time.Millisecond})
	f.drained(DefaultGroup)
	var more []transcript.Snapshot
	for s := range 9 {
		session := "chat/" + string(rune('0'+s))
		folded(t, dir, session, "answer 19.")
		more = append(more, makeTurn(t, session, 50, 1))
		switch s % 3 {
		case 0:
			overwrite(t, fileOf(dir, session, ".json"), "answer 7.1", "answer 8.1")
		case 1:
			for _, suffix := range []string{".json", ".tail"} {
				if err := os.Remove(fileOf(dir, session, suffix)); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
			}
		}
	}
	second := f.store(dir)
	f.publish(more...)
	res, err := Verify(t.Context(), VerifyConfig{JS: f.js, Store: second, Scratch: base, Settle: time.Second, Repair: true})
	if err != nil || !res.Right() || res.Differing < 3 {
		t.Errorf("%+v, %v", res, err)
	}
	f.drained(DefaultGroup)
	if res, err := Verify(t.Context(), VerifyConfig{JS: f.js, Store: second, Scratch: base, Settle: time.Second}); err != nil || res.Differing != 0 {
		t.Errorf("afterwards: %+v, %v", res, err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*transcript.Store{second, store} {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, append(turns, more...)))
}

// A folder with a damaged file can take a group over.
func TestRebindOntoADamagedFolder(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	turns := conversation(t, 3, 10)
	f.publish(turns...)
	store := f.store(dir)
	if _, err := Replay(t.Context(), ReplayConfig{JS: f.js, Store: store}); err != nil {
		t.Fatal(err)
	}
	overwrite(t, fileOf(dir, "chat/1", ".json"), "answer 7.1", "answer 8.1")
	c, stop := f.start(Config{Store: store, Rebind: true, ProbeMax: 500 * time.Millisecond})
	f.drained(DefaultGroup)
	servertest.Eventually(t, 20*time.Second, "the repair", func() bool { return c.Stats().Repaired == 1 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}
