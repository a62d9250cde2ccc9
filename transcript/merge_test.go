package transcript

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Two stores merge and two append to the same new sessions at the same moment, on
// one folder, as a replay beside consumers does: no turn is lost, whoever comes first.
func TestMergeBesideAppends(t *testing.T) {
	for _, how := range []Durability{SyncFS, SyncFiles} {
		t.Run(string(how), func(t *testing.T) {
			const sessions, each, writers = 150, 3, 4
			dir := filepath.Join(t.TempDir(), "transcripts")
			var work sync.WaitGroup
			begin := make(chan struct{})
			for w := range writers {
				s := openStore(t, Config{Dir: dir, Durability: how})
				var groups []Group
				for n := range sessions {
					g := Group{SessionID: fmt.Sprint("s", n)}
					for k := range each {
						g.Turns = append(g.Turns, snap(t, g.SessionID, w*each+k))
					}
					groups = append(groups, g)
				}
				work.Go(func() {
					<-begin
					if w%2 == 0 {
						if err := s.Merge(context.Background(), groups); err != nil {
							t.Error(err)
						}
						return
					}
					for i := range groups {
						if err := s.Append(context.Background(), groups[i].Turns...); err != nil {
							t.Error(err)
						}
					}
					if err := s.FoldAll(context.Background()); err != nil {
						t.Error(err)
					}
				})
			}
			close(begin)
			work.Wait()
			s := openStore(t, Config{Dir: dir, Durability: how})
			for n := range sessions {
				doc, err := s.Read(t.Context(), fmt.Sprint("s", n))
				if err != nil {
					t.Fatal(err)
				}
				if doc.Len() != each*writers {
					t.Errorf("session s%d has %d turns, want %d", n, doc.Len(), each*writers)
				}
			}
			left, err := filepath.Glob(filepath.Join(dir, "*", ".*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// Whoever begins a session between the look for its files and the placing of its
// first document is noticed in every order of events.
func TestPlaceNoticesWhoeverBeganTheSession(t *testing.T) {
	for _, c := range []struct {
		name   string
		append bool // somebody appends: there is a tail
		fold   bool // and folds: there is a document
	}{{"nobody", false, false}, {"a tail", true, false}, {"a document", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, Config{})
			other := openStore(t, Config{Dir: s.Dir(), FoldWorkers: 1})
			g := Group{SessionID: "s", Turns: []Snapshot{snap(t, "s", 1)}}
			r := &replacement{}
			if err := s.beginMerge(r, &g, time.Second); err != nil || !r.unseen {
				t.Fatalf("%v, unseen %v", err, r.unseen)
			}
			if c.append {
				if err := other.Append(t.Context(), snap(t, "s", 2)); err != nil {
					t.Fatal(err)
				}
			}
			if c.fold {
				if err := other.FoldAll(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			s.replaceAll([]*replacement{r}, false)
			s.letGo(r)
			if noticed := errors.Is(r.err, errSeen); noticed != c.append || !noticed && r.err != nil {
				t.Fatalf("placed: %v", r.err)
			}
			if err := s.Merge(t.Context(), []Group{g}); err != nil {
				t.Fatal(err)
			}
			want := 1
			if c.append {
				want = 2
			}
			if doc, err := s.Read(t.Context(), "s"); err != nil || doc.Len() != want {
				t.Errorf("%v, %v, want %d turns", doc, err, want)
			}
		})
	}
}

func TestMergeRefuses(t *testing.T) {
	s := openStore(t, Config{FileTimeout: 2 * time.Second}) // for as long a held session is waited for
	if err := s.Append(t.Context(), snap(t, "held", 1), snap(t, "bad", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.FoldAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Merge(t.Context(), []Group{{SessionID: "a", Turns: []Snapshot{snap(t, "b", 1)}}}); err == nil || !strings.Contains(err.Error(), "a turn of session b") {
		t.Errorf("a turn of another session: %v", err)
	}
	path := filepath.Join(s.Dir(), DocumentPath(Sharded, "bad"))
	damaged := []byte(`{"session_id":"bad","created_at":"torn`)
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	var corrupt *CorruptError
	err := s.Merge(t.Context(), []Group{{SessionID: "bad", Turns: []Snapshot{snap(t, "bad", 2)}}, {SessionID: "good", Turns: []Snapshot{snap(t, "good", 1)}}})
	if !errors.As(err, &corrupt) {
		t.Errorf("a corrupt document: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != string(damaged) {
		t.Errorf("a corrupt document was written over: %s, %v", b, err)
	}
	if doc, err := s.Read(t.Context(), "good"); err != nil || doc.Len() != 1 {
		t.Errorf("beside a corrupt one: %v, %v", doc, err)
	}
	if err := s.locks.acquire("held", 0); err != nil {
		t.Fatal(err)
	}
	defer s.locks.release("held")
	if err := s.Merge(t.Context(), []Group{{SessionID: "held", Turns: []Snapshot{snap(t, "held", 2)}}}); !errors.Is(err, ErrBusy) {
		t.Errorf("a locked session: %v", err)
	}
}

func TestScratch(t *testing.T) {
	s := openStore(t, Config{})
	x, err := s.Scratch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for _, text := range []string{"one", "two"} {
		if _, err := x.Append(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, 4)
	if err := x.ReadAt(t.Context(), got, 2); err != nil || string(got) != "etwo" {
		t.Errorf("%q, %v", got, err)
	}
	if err := x.ReadAt(t.Context(), got, 3); err == nil {
		t.Error("read past the end")
	}
	if err := x.Empty(t.Context()); err != nil {
		t.Fatal(err)
	}
	if at, err := x.Append(t.Context(), []byte("three")); at != 0 || err != nil {
		t.Errorf("appended at %d, %v", at, err)
	}
	if names, err := filepath.Glob(filepath.Join(s.Dir(), "*")); err != nil || len(names) > 1 {
		t.Errorf("it has a name: %v, %v", names, err)
	}
}
