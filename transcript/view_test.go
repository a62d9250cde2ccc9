package transcript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// viewed is what a view says of a session, every way that there is.
func viewed(t interface {
	Helper()
	Fatal(...any)
}, s *Store, session string) string {
	t.Helper()
	v, err := s.View(context.Background(), session)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	var b bytes.Buffer
	if n, err := v.WriteTo(context.Background(), &b); err != nil || n != int64(b.Len()) || n != v.Size() {
		t.Fatal(err, n, b.Len(), v.Size())
	}
	doc, err := ParseDocument(session, b.Bytes())
	if err != nil {
		t.Fatal(err, b.String())
	}
	if doc.Len() != v.Len() || doc.Version().Revision != v.Revision() {
		t.Fatal("length or revision:", doc.Len(), v.Len(), doc.Version(), v.Revision())
	}
	n := 0
	err = v.Each(context.Background(), 0, v.Len(), func(i int, turn *Snapshot) error {
		if i != n || string(turn.AppendMessage(nil)) != string(doc.lines[i].raw) {
			return fmt.Errorf("turn %d: %s", i, turn.ID)
		}
		n++
		at, err := v.Index(context.Background(), turn.ID)
		if err == nil && at != i {
			err = fmt.Errorf("turn %d is at %d", i, at)
		}
		return err
	})
	if err != nil || n != v.Len() {
		t.Fatal(err, n)
	}
	if at, err := v.Index(context.Background(), "nobody"); err != nil || at != -1 {
		t.Fatal(at, err)
	}
	return b.String()
}

// TestViewIsTheDocument: what a view writes is what a fold would, whatever is in the
// document already and whatever beside it.
func TestViewIsTheDocument(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		session := fmt.Sprintf("s%d", n)
		snaps := rapid.SliceOfN(genSnapshot(session), 1, 12).Draw(rt, "turns")
		cut := rapid.IntRange(0, len(snaps)).Draw(rt, "folded")
		s, err := Open(Config{Dir: filepath.Join(dir, session), QuietAfter: time.Hour, LargeSize: 1, LargeAge: time.Hour, Durability: SyncFiles})
		if err != nil {
			rt.Fatal(err)
		}
		defer s.Close(context.Background())
		if cut > 0 {
			if err := s.Merge(context.Background(), []Group{{session, snaps[:cut]}}); err != nil {
				rt.Fatal(err)
			}
		}
		if cut < len(snaps) {
			if err := s.Append(context.Background(), snaps[cut:]...); err != nil {
				rt.Fatal(err)
			}
		}
		if got, want := viewed(rt, s, session), render(rt, session, snaps); got != want {
			rt.Fatal("\n", got, "\nwant\n", want)
		}
		half, err := NewView(context.Background(), session, snaps[:1], nil)
		if err != nil {
			rt.Fatal(err)
		}
		rest, err := NewView(context.Background(), session, snaps, nil)
		if err != nil {
			rt.Fatal(err)
		}
		if _, err := half.Merge(context.Background(), rest); err != nil || half.Tag() != rest.Tag() {
			rt.Fatal("merged views differ", err)
		}
	})
}

// long is a turn of about so many bytes.
func long(t testing.TB, session string, n, size int) Snapshot {
	t.Helper()
	turn := Turn{ID: fmt.Sprintf("t%06d", n), SessionID: session, Timestamp: time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC), User: "u", Assistant: strings.Repeat("x", size)}
	return snapshotOf(t, turn)
}

// TestLargeDocuments are read and folded in pieces.
func TestLargeDocuments(t *testing.T) {
	s := openStore(t, Config{})
	var turns []Snapshot
	for i := range 20 {
		turns = append(turns, long(t, "s", i, 500_000))
	}
	if err := s.Merge(t.Context(), []Group{{"s", turns[1:]}}); err != nil {
		t.Fatal(err)
	}
	later := turns[19]
	turns = append(turns[:19:19], long(t, "s", 40, 10)) // and an early one
	turns = append(turns, later)
	if err := s.Append(t.Context(), turns[0], turns[19]); err != nil {
		t.Fatal(err)
	}
	want := render(t, "s", turns)
	if got := viewed(t, s, "s"); got != want {
		t.Fatalf("%d bytes instead of %d", len(got), len(want))
	}
	if err := s.FoldAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Dir(), DocumentPath(Sharded, "s"))
	data, err := os.ReadFile(path)
	if err != nil || string(data) != want {
		t.Fatalf("folded: %v, %d bytes instead of %d", err, len(data), len(want))
	}
	if got := viewed(t, s, "s"); got != want {
		t.Fatalf("%d bytes instead of %d", len(got), len(want))
	}

	// A document with a wrong sum is nobody's to read, or to write over.
	data[len(data)/2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var bad *CorruptError
	if _, err := s.View(t.Context(), "s"); !errors.As(err, &bad) {
		t.Fatal(err)
	}
	if err := s.Merge(t.Context(), []Group{{"s", []Snapshot{long(t, "s", 41, 1)}}}); !errors.As(err, &bad) {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, data) {
		t.Fatal("written over", err)
	}
}

// TestReadersShareMemory: a reader that would hold too much waits, fails, and is let in again.
func TestReadersShareMemory(t *testing.T) {
	m := NewMemory(1<<20, 20*time.Millisecond)
	s := openStore(t, Config{Memory: m, QuietAfter: time.Hour, LargeAge: time.Hour, LargeSize: 1})
	if err := s.Merge(t.Context(), []Group{{"s", []Snapshot{long(t, "s", 1, 600_000)}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), long(t, "s", 2, 200_000)); err != nil {
		t.Fatal(err)
	}
	one, err := s.View(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.View(t.Context(), "s"); !errors.Is(err, ErrMemory) {
		t.Fatal(err)
	}
	if _, err := s.Recent(t.Context(), "s", 10); !errors.Is(err, ErrMemory) {
		t.Fatal(err)
	}
	if st := m.Stats(); st.Refused != 2 || st.Held == 0 || st.Held > st.Size {
		t.Fatalf("%+v", st)
	}
	one.Close()
	for range 3 { // nothing is left behind
		if rec, err := s.Recent(t.Context(), "s", 10); err != nil || len(rec.Turns) != 2 {
			t.Fatal(err)
		}
		viewed(t, s, "s")
	}
	if st := m.Stats(); st.Held != 0 {
		t.Fatalf("%+v", st)
	}
}
