package secret_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/secret"
	"github.com/afterword-io/afterword/internal/servertest"
)

// nobody is a user whom nothing of a test belongs to.
const nobody = 65534

// A key is made once, whoever asks first, in a file of its owner alone.
func TestKeyIsMadeOnce(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	file := filepath.Join(t.TempDir(), "data", "key")
	keys := make([][]byte, 8)
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() {
			key, err := secret.Key(file)
			if err != nil {
				t.Error(err)
			}
			keys[i] = key
		})
	}
	all.Wait()
	for _, key := range keys {
		if len(key) != secret.Size || !bytes.Equal(key, keys[0]) {
			t.Fatalf("the keys are %x", keys)
		}
	}
	if other, err := secret.Key(file + "2"); err != nil || bytes.Equal(other, keys[0]) {
		t.Errorf("another file has the key %x, %v", other, err)
	}
	for path, want := range map[string]fs.FileMode{file: 0o600, filepath.Dir(file): 0o700 | fs.ModeDir} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s has the mode %v, %v", path, info.Mode(), err)
		}
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".*"))
	if err != nil || len(names) > 0 {
		t.Errorf("there are leftovers: %v, %v", names, err)
	}
}

// A key that was given out is there after a power cut, and so is what replaced it.
func TestKeyIsDurable(t *testing.T) {
	disk := faults.NewForgetful(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	file := filepath.Join(disk.Dir(), "data", "key")
	key, err := secret.Key(file)
	if err != nil {
		t.Fatal(err)
	}
	disk.Cut(rnd)
	if again, err := secret.Key(file); err != nil || !bytes.Equal(again, key) {
		t.Fatalf("after a power cut it is %x, not %x: %v", again, key, err)
	}
	if err := secret.Replace(file, []byte("new")); err != nil {
		t.Fatal(err)
	}
	disk.Cut(rnd)
	if b, err := secret.Read(file); err != nil || string(b) != "new" {
		t.Errorf("after a power cut it is %q, %v", b, err)
	}
}

// What is not a file of its owner alone is refused, and stays as it is.
func TestRefused(t *testing.T) {
	const content = "once-upon-a-time"
	dir := t.TempDir()
	file := func(name string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.Symlink(file("far", 0o600), link), unix.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	refused := map[string]string{
		file("group", 0o640): "chmod 600", file("others", 0o604): "chmod 600", file("write", 0o602): "chmod 600",
		file("damaged", 0o600): "damaged", link: "symbolic link", pipe: "not a file", dir: "not a file",
	}
	if os.Geteuid() == 0 {
		theirs := file("theirs", 0o600)
		if err := os.Chown(theirs, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		refused[theirs] = "belongs to user 65534"
	}
	for path, why := range refused {
		_, err := secret.Key(path)
		servertest.OneLine(t, err, path, why)
		if bytes.Contains([]byte(err.Error()), []byte(content)) {
			t.Errorf("the content is in %q", err)
		}
		if path == pipe || path == dir {
			continue
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != content {
			t.Errorf("%s holds %q, %v", path, b, err)
		}
	}
	if _, err := secret.Read(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file is %v", err)
	}
}

// What root makes belongs to the service whose folder it is in, and root may read it.
func TestRootKeepsTheOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		faults.Lack(t, "needs root for a folder of another user")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	key, err := secret.Key(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := secret.Key(filepath.Join(dir, "key")); err != nil || !bytes.Equal(again, key) {
		t.Errorf("it is %x, not %x: %v", again, key, err)
	}
	if _, uid, err := secret.ReadOwned(filepath.Join(dir, "key")); err != nil || uid != nobody {
		t.Errorf("it belongs to %d, %v", uid, err)
	}
}
