package transcript

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A session that somebody is at work on is swept all the same: the next walk is ten
// minutes away.
func TestSweepWaitsForWhoHasTheSession(t *testing.T) {
	s := openStore(t, Config{})
	if err := s.Append(t.Context(), snap(t, "s", 1)); err != nil {
		t.Fatal(err)
	}
	dir, err := s.now().shards.folder("s", false)
	if err != nil {
		t.Fatal(err)
	}
	leftover := filepath.Join(dir.Name(), ".s.json123")
	if err := os.WriteFile(leftover, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"a fold of this process", "another process"} {
		letGo := func() { s.locks.release("s") }
		if who == "another process" {
			tail, _, err := lockTail(dir, "s", true, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			letGo = func() { tail.Close() }
		} else if err := s.locks.acquire("s", time.Second); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.sweep(t.Context()) }()
		select {
		case err := <-done:
			t.Fatalf("%s was not waited for: %v", who, err)
		case <-time.After(50 * time.Millisecond):
		}
		letGo()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(leftover); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s left it there: %v", who, err)
		}
		if err := os.WriteFile(leftover, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
