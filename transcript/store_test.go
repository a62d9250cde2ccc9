package transcript

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func openStore(t *testing.T, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = filepath.Join(t.TempDir(), "transcripts")
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return s
}

func snap(t testing.TB, session string, n int) Snapshot {
	t.Helper()
	turn := Turn{
		SessionID: session, ID: fmt.Sprintf("t%06d", n), Timestamp: time.Date(2026, 11, 23, 15, 0, 0, n*1000, time.UTC),
		User: fmt.Sprintf("question %d", n), Assistant: fmt.Sprintf("answer %d", n),
	}
	return snapshotOf(t, turn)
}

// olderDocument is what a reader that knows only the older system's format sees.
type olderDocument struct {
	SessionID string `json:"session_id"`
	CreatedAt string `json:"created_at"`
	Messages  []struct {
		Timestamp, User, Assistant string
	}
	UpdatedAt    string `json:"updated_at"`
	MessageCount int    `json:"message_count"`
}

// The older system's first failure: ten concurrent turns of one session left one
// on disk.
func TestOlderSystemTenConcurrentTurnsOfOneSession(t *testing.T) {
	s := openStore(t, Config{})
	ctx := context.Background()
	var wg sync.WaitGroup
	for n := range 10 {
		wg.Go(func() {
			if err := s.Append(ctx, snap(t, "chat", n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.FoldAll(ctx); err != nil {
		t.Fatal(err)
	}
	var doc olderDocument
	readJSON(t, s, "chat", &doc)
	if len(doc.Messages) != 10 || doc.MessageCount != 10 {
		t.Fatalf("%d messages, message_count %d; want 10", len(doc.Messages), doc.MessageCount)
	}
	for n, m := range doc.Messages {
		if want := fmt.Sprintf("answer %d", n); m.Assistant != want {
			t.Errorf("message %d is %q, want %q", n, m.Assistant, want)
		}
	}
}

func readJSON(t *testing.T, s *Store, session string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Dir(), DocumentPath(s.Identity().Layout, session)))
	if err != nil {
		t.Fatal(err)
	}
	if err := stdjson.Unmarshal(b, into); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
}

// Every open of a document, at any moment while 50 writers run, reads complete
// and valid for encoding/json and for a reader of the older format.
func TestReadersNeverSeeATornDocument(t *testing.T) {
	s := openStore(t, Config{TailLimit: 2000, QuietAfter: time.Millisecond})
	ctx := context.Background()
	const writers, sessions, turns = 50, 5, 12
	var wg, readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			count := make(map[string]int)
			for {
				select {
				case <-stop:
					return
				default:
				}
				for i := range sessions {
					session := fmt.Sprintf("chat-%d", i)
					b, err := os.ReadFile(filepath.Join(s.Dir(), DocumentPath(Sharded, session)))
					if errors.Is(err, fs.ErrNotExist) {
						continue
					}
					var doc olderDocument
					if err != nil || stdjson.Unmarshal(b, &doc) != nil || doc.MessageCount != len(doc.Messages) || doc.SessionID != session {
						t.Errorf("torn document of %s: %v\n%s", session, err, b)
						return
					}
					if len(doc.Messages) < count[session] {
						t.Errorf("%s shrank from %d to %d", session, count[session], len(doc.Messages))
					}
					count[session] = len(doc.Messages)
				}
			}
		})
	}
	for w := range writers {
		wg.Go(func() {
			for n := range turns {
				if err := s.Append(ctx, snap(t, fmt.Sprintf("chat-%d", w%sessions), w*turns+n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.FoldAll(ctx); err != nil {
		t.Fatal(err)
	}
	close(stop)
	readers.Wait()
	for i := range sessions {
		var doc olderDocument
		readJSON(t, s, fmt.Sprintf("chat-%d", i), &doc)
		if want := writers / sessions * turns; len(doc.Messages) != want {
			t.Errorf("session %d has %d messages, want %d", i, len(doc.Messages), want)
		}
	}
}

func TestSessionIDsStayInTheFolder(t *testing.T) {
	for _, layout := range []Layout{Sharded, Flat} {
		dir := filepath.Join(t.TempDir(), "transcripts")
		s := openStore(t, Config{Dir: dir, Layout: layout})
		ctx := context.Background()
		ids := []string{"../../etc/passwd", "a.b", "*", ">", "turns.>", "a/b", "空", strings.Repeat("😀", 60), "afterword", ".", "..", ".afterword", "a", "A", "=41", strings.Repeat("x", 255)}
		for n, id := range ids {
			if err := s.Append(ctx, snap(t, id, n)); err != nil {
				t.Fatalf("%q: %v", id, err)
			}
		}
		if err := s.FoldAll(ctx); err != nil {
			t.Fatal(err)
		}
		for n, id := range ids {
			r, err := s.Recent(ctx, id, 10)
			if err != nil || len(r.Turns) != 1 || r.Turns[0].ID != fmt.Sprintf("t%06d", n) {
				t.Errorf("%s: history of %q is %v, %v", layout, id, r.Turns, err)
			}
		}
		page, err := s.List(ctx, "", "", 100)
		if err != nil || len(page.Sessions) != len(ids) {
			t.Errorf("%s: listed %d sessions, %v; want %d", layout, len(page.Sessions), err, len(ids))
		}
		above, err := filepath.Glob(filepath.Join(dir, "..", "*"))
		if err != nil || len(above) != 1 {
			t.Errorf("something is outside of the folder: %v, %v", above, err)
		}
	}
}

func TestListPages(t *testing.T) {
	s := openStore(t, Config{})
	ctx := context.Background()
	want := map[string]bool{}
	for n := range 37 {
		id := fmt.Sprintf("p%d/x", n%3) + strings.Repeat("y", n)
		want[id] = n%3 == 1
		if err := s.Append(ctx, snap(t, id, n)); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]bool{}
	for cursor := ""; ; {
		page, err := s.List(ctx, "p1/", cursor, 4)
		if err != nil {
			t.Fatal(err)
		}
		for _, sess := range page.Sessions {
			if got[sess.ID] || !want[sess.ID] || sess.Turns != 1 {
				t.Errorf("listed %+v", sess)
			}
			got[sess.ID] = true
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	n := 0
	for _, ok := range want {
		if ok {
			n++
		}
	}
	if len(got) != n {
		t.Errorf("listed %d, want %d", len(got), n)
	}
}

func TestOpenRefuses(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(base, "newer")
	if err := os.MkdirAll(newer, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(newer, identityFile), []byte(`{"id":"x","layout":"flat","schema":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	flat := filepath.Join(base, "flat")
	openStore(t, Config{Dir: flat, Layout: Flat})
	for _, c := range []struct {
		name, want string
		cfg        Config
	}{
		{"a file where the folder should be", "not a directory", Config{Dir: filepath.Join(file, "transcripts")}},
		{"newer schema", "schema 2", Config{Dir: newer}},
		{"another layout", "layout flat, not sharded", Config{Dir: flat, Layout: Sharded}},
		{"reader without a folder", "no such file", Config{Dir: filepath.Join(base, "none"), ReadOnly: true}},
		{"no path", "no path", Config{}},
	} {
		s, err := Open(c.cfg)
		if err == nil {
			s.Close(context.Background())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestUmaskDoesNotMatter(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "transcripts")
	withUmask(t, 0o777, func() {
		s := openStore(t, Config{Dir: dir})
		if err := s.Append(context.Background(), snap(t, "s", 1)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v; want %v", path, info.Mode(), err, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A symbolic link in the tree is refused, for that session alone.
func TestSymlinkIsRefused(t *testing.T) {
	s := openStore(t, Config{})
	ctx := context.Background()
	if err := s.Append(ctx, snap(t, "good", 1), snap(t, "bad", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.FoldAll(ctx); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	path := filepath.Join(s.Dir(), strings.TrimSuffix(DocumentPath(Sharded, "bad"), ".json"))
	for _, suffix := range []string{".tail", ".json"} {
		if err := os.Rename(path+suffix, outside+suffix); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside+suffix, path+suffix); err != nil {
			t.Fatal(err)
		}
	}
	var foreign *ForeignFileError
	err := s.Append(ctx, snap(t, "bad", 2), snap(t, "good", 2))
	if !errors.As(err, &foreign) || !SessionFault(err) {
		t.Errorf("append through a link: %v", err)
	}
	if _, err := s.Read(ctx, "bad"); !errors.As(err, &foreign) {
		t.Errorf("read through a link: %v", err)
	}
	if doc, err := s.Read(ctx, "good"); err != nil || doc.Len() != 2 {
		t.Errorf("the other session: %v, %v", doc, err)
	}
}

func TestTornTailIsCut(t *testing.T) {
	s := openStore(t, Config{})
	ctx := context.Background()
	if err := s.Append(ctx, snap(t, "s", 1)); err != nil {
		t.Fatal(err)
	}
	tail := filepath.Join(s.Dir(), strings.TrimSuffix(DocumentPath(Sharded, "s"), ".json")+".tail")
	f, err := os.OpenFile(tail, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`0123abcd {"id":"half`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if doc, err := s.Read(ctx, "s"); err != nil || doc.Len() != 1 {
		t.Fatalf("with a torn end: %v, %v", doc, err)
	}
	if err := s.Append(ctx, snap(t, "s", 2)); err != nil {
		t.Fatal(err)
	}
	if doc, err := s.Read(ctx, "s"); err != nil || doc.Len() != 2 {
		t.Fatalf("after the next append: %v, %v", doc, err)
	}
}

// Nothing is written on top of what cannot be read: the older system's third
// failure was a late read that became an empty transcript and was saved.
func TestCorruptDocumentIsNotOverwritten(t *testing.T) {
	s := openStore(t, Config{})
	ctx := context.Background()
	if err := s.Append(ctx, snap(t, "s", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.FoldAll(ctx); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir(), DocumentPath(Sharded, "s"))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := []byte(strings.Replace(string(good), "answer 1", "answer 7", 1))
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(ctx, snap(t, "s", 2)); err != nil {
		t.Fatalf("a commit needs no document: %v", err)
	}
	if err := s.FoldAll(ctx); err == nil {
		t.Error("folded into a corrupt document")
	}
	var corrupt *CorruptError
	if _, err := s.Read(ctx, "s"); !errors.As(err, &corrupt) {
		t.Errorf("read of a corrupt document: %v", err)
	}
	if err := s.Close(ctx); err == nil {
		t.Error("closed without a word about the session that is not folded")
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != string(bad) {
		t.Errorf("the document was replaced: %v\n%s", err, now)
	}
}

// Two stores on one folder stand for two processes: they take turns by flock.
func TestTwoStoresOnOneFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "transcripts")
	cfg := Config{Dir: dir, TailLimit: 500, QuietAfter: time.Millisecond}
	stores := []*Store{openStore(t, cfg), openStore(t, cfg)}
	ctx := context.Background()
	var wg sync.WaitGroup
	const turns = 150
	for i, s := range stores {
		wg.Go(func() {
			for n := range turns {
				if err := s.Append(ctx, snap(t, "s", 2*n+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, s := range stores {
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	doc, err := openStore(t, cfg).Read(ctx, "s")
	if err != nil || doc.Len() != 2*turns {
		t.Fatalf("%d turns, %v; want %d", doc.Len(), err, 2*turns)
	}
}

// Turns that a killed process left in a tail are folded by the next walk, and
// its temporary file is swept.
func TestWalkFoldsWhatWasLeftBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "transcripts")
	ctx := context.Background()
	s := openStore(t, Config{Dir: dir})
	if err := s.Append(ctx, snap(t, "s", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, DocumentPath(Sharded, "s"))
	if err := os.Remove(path); err != nil { // as if it had been killed before the fold
		t.Fatal(err)
	}
	leftover := filepath.Join(filepath.Dir(path), ".s.json123")
	if err := os.WriteFile(leftover, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Minute)
	own := filepath.Join(dir, "..afterword123")
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{own, strings.TrimSuffix(path, ".json") + ".tail"} {
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
	}
	s = openStore(t, Config{Dir: dir})
	var changed []string
	err := s.Walk(ctx, WalkConfig{
		Stale:   StaleTail,
		Changed: func(session string) { changed = append(changed, session) },
		Fault:   func(token string, err error) { t.Errorf("%s: %v", token, err) },
	})
	if err != nil || len(changed) != 1 || changed[0] != "s" {
		t.Fatalf("walked over %v, %v", changed, err)
	}
	if err := s.FoldAll(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("not folded: %v", err)
	}
	for _, name := range []string{leftover, own} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is not swept: %v", name, err)
		}
	}
}

// A tail that somebody made and was killed before its folder was synced has its
// folder synced by whoever appends to it next, once.
func TestNameOfATailIsMadeDurable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "transcripts")
	killed := openStore(t, Config{Dir: dir, Durability: SyncFiles})
	group := func(n int) []Group { return []Group{{SessionID: "s", Turns: []Snapshot{snap(t, "s", n)}}} }
	b := killed.Write(t.Context(), group(1))
	if err := b.Err(0); err != nil {
		t.Fatal(err)
	}
	closeAll(b.files)
	next := openStore(t, Config{Dir: dir, Durability: SyncFiles})
	for n, want := range []int{2, 0} { // the folder and the one that it is in
		b := next.Write(t.Context(), group(2+n))
		if got := len(b.folders); got != want {
			t.Errorf("batch %d: %d folders are to be synced, want %d", n, got, want)
		}
		if err := b.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
