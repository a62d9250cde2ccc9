package faults

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What was synced is there, and what was not is sometimes gone: a file, a name, a rename.
func TestForgetfulForgets(t *testing.T) {
	f := NewForgetful(t)
	rnd := rand.New(rand.NewPCG(1, 1))
	gone := make(map[string]int)
	for range 30 {
		dir := filepath.Join(f.Dir(), "d")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "synced"), "all of it", true)
		write(t, filepath.Join(dir, "old"), "old", true)
		syncPath(t, dir)
		syncPath(t, f.Dir())
		write(t, filepath.Join(dir, "new"), "new", true)
		write(t, filepath.Join(dir, "unsynced"), "content", false)
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "old")); err != nil {
			t.Fatal(err)
		}
		f.Cut(rnd)
		if b, err := os.ReadFile(filepath.Join(dir, "synced")); err != nil || string(b) != "all of it" {
			t.Fatalf("what was synced reads %q, %v", b, err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "old")); err != nil || string(b) != "old" && string(b) != "new" {
			t.Fatalf("what was renamed over reads %q, %v", b, err)
		} else if string(b) == "old" {
			gone["rename"]++
		}
		switch b, err := os.ReadFile(filepath.Join(dir, "unsynced")); {
		case errors.Is(err, os.ErrNotExist):
			gone["name"]++
		case err != nil:
			t.Fatal(err)
		case string(b) != "content":
			gone["content"]++
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		syncPath(t, f.Dir())
	}
	for _, what := range []string{"rename", "name", "content"} {
		if gone[what] == 0 {
			t.Errorf("no %s was ever forgotten", what)
		}
	}
	f.Hook(func(op, _ string) syscall.Errno {
		if op == "fsync" {
			return syscall.EIO
		}
		return 0
	})
	if err := os.WriteFile(filepath.Join(f.Dir(), "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := os.Open(filepath.Join(f.Dir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync: %v", err)
	}
}

func write(t *testing.T, path, text string, durable bool) {
	t.Helper()
	h, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if durable {
		if err := h.Sync(); err != nil {
			t.Fatal(err)
		}
	}
}

func syncPath(t *testing.T, dir string) {
	t.Helper()
	h, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Sync(); err != nil {
		t.Fatal(err)
	}
}
