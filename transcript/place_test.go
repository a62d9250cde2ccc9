package transcript

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// gone checks that a session cannot be read or written now, and that this is nobody's fault
// but the folder's: never that nothing is stored.
func gone(t *testing.T, stores ...*Store) {
	t.Helper()
	for _, s := range stores {
		for what, read := range map[string]func() error{
			"view":   func() error { _, err := s.View(t.Context(), "s"); return err },
			"read":   func() error { _, err := s.Read(t.Context(), "s"); return err },
			"recent": func() error { _, err := s.Recent(t.Context(), "s", 1); return err },
			"turn":   func() error { _, _, err := s.Turn(t.Context(), "s", "t000001"); return err },
			"list":   func() error { _, err := s.List(t.Context(), "", "", 10); return err },
		} {
			var folder *FolderError
			if err := read(); !errors.As(err, &folder) || errors.Is(err, ErrNoSession) || SessionFault(err) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	s := stores[0]
	if err := s.Append(t.Context(), snap(t, "s", 2)); err == nil || SessionFault(err) {
		t.Errorf("append: %v", err)
	}
	if err := s.Probe(t.Context()); err == nil {
		t.Error("the folder is said to be writable")
	}
}

func holds(t *testing.T, n int, stores ...*Store) {
	t.Helper()
	for _, s := range stores {
		doc, err := s.Read(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		if doc.Len() != n {
			t.Fatalf("%d turns, want %d", doc.Len(), n)
		}
	}
}

// TestFoldersThatAreReplaced: while a folder is away nothing is known, and what stands in its
// place is used.
func TestFoldersThatAreReplaced(t *testing.T) {
	for _, how := range []Durability{SyncFS, SyncFiles} {
		for _, which := range []string{"shard", "root"} {
			t.Run(string(how)+"/"+which, func(t *testing.T) {
				s := openStore(t, Config{Durability: how, QuietAfter: time.Hour, LargeAge: time.Hour, LargeSize: 1})
				if err := s.Append(t.Context(), snap(t, "s", 1)); err != nil {
					t.Fatal(err)
				}
				reader := openStore(t, Config{Dir: s.Dir(), ReadOnly: true})
				holds(t, 1, s, reader)
				path := s.Dir()
				if which == "shard" {
					path = filepath.Join(path, shardOf("s"))
				}
				away := path + ".away"
				move := func(from, to string) {
					t.Helper()
					if err := os.Rename(from, to); err != nil {
						t.Fatal(err)
					}
				}
				move(path, away)
				gone(t, s, reader)
				if folder := new(FolderError); !errors.As(s.Troubled(t.Context()), &folder) {
					t.Errorf("a folder that is gone is no trouble: %v", s.Troubled(t.Context()))
				}
				move(away, path)
				if err := s.Troubled(t.Context()); err != nil {
					t.Error(err)
				}
				if err := s.Probe(t.Context()); err != nil {
					t.Fatal(err)
				}
				holds(t, 1, s, reader)

				// A copy takes its place, and what is written goes there.
				move(path, away)
				if err := os.CopyFS(path, os.DirFS(away)); err != nil {
					t.Fatal(err)
				}
				if err := s.Probe(t.Context()); err != nil {
					t.Fatal(err)
				}
				holds(t, 1, s, reader)
				if err := s.Append(t.Context(), snap(t, "s", 2)); err != nil {
					t.Fatal(err)
				}
				if err := s.FoldAll(t.Context()); err != nil {
					t.Fatal(err)
				}
				holds(t, 2, s, reader)
				if err := os.RemoveAll(away); err != nil {
					t.Fatal(err)
				}
				if err := s.Append(t.Context(), snap(t, "s", 3)); err != nil {
					t.Fatal(err)
				}
				holds(t, 3, s, reader)
			})
		}
	}
}

// TestAnotherFolderInItsPlace is neither read nor written.
func TestAnotherFolderInItsPlace(t *testing.T) {
	s := openStore(t, Config{})
	if err := s.Append(t.Context(), snap(t, "s", 1)); err != nil {
		t.Fatal(err)
	}
	reader := openStore(t, Config{Dir: s.Dir(), ReadOnly: true})
	holds(t, 1, s, reader)
	away := s.Dir() + ".away"
	if err := os.Rename(s.Dir(), away); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.Dir(), 0o700); err != nil { // an empty mount point
		t.Fatal(err)
	}
	gone(t, s, reader)
	other := openStore(t, Config{Dir: s.Dir()}) // a folder of its own
	gone(t, s, reader)
	if err := other.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(s.Dir()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, s.Dir()); err != nil {
		t.Fatal(err)
	}
	holds(t, 1, s, reader)
}

// TestShardThatIsNoneOfOurs: an empty folder, a link or a file in the place of one that was used
// says nothing of what is stored.
func TestShardThatIsNoneOfOurs(t *testing.T) {
	s := openStore(t, Config{})
	if err := s.Append(t.Context(), snap(t, "s", 1)); err != nil {
		t.Fatal(err)
	}
	reader := openStore(t, Config{Dir: s.Dir(), ReadOnly: true})
	path := filepath.Join(s.Dir(), shardOf("s"))
	away := s.Dir() + ".away"
	for name, put := range map[string]func() error{
		"empty": func() error { return os.Mkdir(path, 0o700) },
		"link":  func() error { return os.Symlink(away, path) },
		"file":  func() error { return os.WriteFile(path, nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			holds(t, 1, s, reader)
			if err := errors.Join(os.Rename(path, away), put()); err != nil {
				t.Fatal(err)
			}
			gone(t, s, reader)
			if err := errors.Join(os.RemoveAll(path), os.Rename(away, path), s.Probe(t.Context())); err != nil {
				t.Fatal(err)
			}
			holds(t, 1, s, reader)
		})
	}
}

// asUser is the user that runs the second half of a test.
const asUser = "TRANSCRIPT_TEST_FOLDER"

// runAs runs this test again as user 65534, with a folder that is that user's to enter.
func runAs(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it runs a process as another user")
	}
	self := filepath.Join(filepath.Dir(dir), "self")
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(self, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env, cmd.Dir = append(os.Environ(), asUser+"="+dir), dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "SKIP") {
		t.Fatalf("as another user: %v\n%s", err, out)
	}
}

// folderOf makes a folder for another user.
func folderOf(t *testing.T) string {
	t.Helper()
	base, err := os.MkdirTemp("", "afterword-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "data")
	if err := errors.Join(os.Chmod(base, 0o755), os.Mkdir(dir, 0o700), os.Chown(dir, 65534, 65534)); err != nil {
		t.Skip("needs root: ", err)
	}
	return dir
}

// TestFoldersThatCannotBeEntered are trouble of the environment, not of a session.
func TestFoldersThatCannotBeEntered(t *testing.T) {
	dir := os.Getenv(asUser)
	if dir == "" {
		runAs(t, folderOf(t))
		return
	}
	s := openStore(t, Config{Dir: filepath.Join(dir, "transcripts")})
	if err := s.Append(t.Context(), snap(t, "s", 1)); err != nil {
		t.Fatal(err)
	}
	holds(t, 1, s)
	for _, path := range []string{s.Dir(), filepath.Join(s.Dir(), shardOf("s"))} {
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		gone(t, s)
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := s.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		holds(t, 1, s)
	}
	// One file is the fault of its session.
	if err := s.FoldAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	document := filepath.Join(s.Dir(), DocumentPath(Sharded, "s"))
	if err := os.Chmod(document, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(t.Context(), "s"); !SessionFault(err) {
		t.Fatal(err)
	}
	if err := os.Chmod(document, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRootKeepsTheOwner: what root writes into the folder of a user is that user's.
func TestRootKeepsTheOwner(t *testing.T) {
	dir := folderOf(t)
	s := openStore(t, Config{Dir: filepath.Join(dir, "transcripts"), Durability: SyncFiles})
	if err := s.Append(t.Context(), snap(t, "a", 1), snap(t, "b", 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Merge(t.Context(), []Group{{"c", []Snapshot{snap(t, "c", 1)}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.FoldAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	document := filepath.Join(s.Dir(), DocumentPath(Sharded, "a"))
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(document, data[:len(data)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if res, err := s.Repair(t.Context(), "a", Events{}); err != nil || len(res.SetAside) != 1 {
		t.Fatal(res, err)
	}
	if err := errors.Join(s.MarkWalk(t.Context(), time.Now()), s.SetNote(t.Context(), NoteReplay, []byte("{}"))); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if st := info.Sys().(*syscall.Stat_t); st.Uid != 65534 || st.Gid != 65534 {
			return fmt.Errorf("%s is of user %d", path, st.Uid)
		}
		n++
		return nil
	}); err != nil || n < 10 {
		t.Error(n, err)
	}
}
