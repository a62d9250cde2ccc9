package folder_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/folder"
)

// A folder that was made is there after a power cut, whoever made the ones above it.
func TestMakeIsDurable(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	disk := faults.NewForgetful(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		top := filepath.Join(disk.Dir(), fmt.Sprint(i))
		dir := filepath.Join(top, "data", "transcripts")
		if i%2 == 0 { // by somebody who ended before it was durable
			if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
				t.Fatal(err)
			}
		}
		if err := folder.Make(dir); err != nil {
			t.Fatal(err)
		}
		disk.Cut(rnd)
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatalf("after a power cut: %v", err)
		}
		if info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("its mode is %v", info.Mode())
		}
	}
}

// A folder that is there keeps its mode, and a file is no folder.
func TestMakeLeavesAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := folder.Make(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("its mode is %v, %v", info.Mode(), err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{file, filepath.Join(file, "below")} {
		if err := folder.Make(at); err == nil {
			t.Errorf("%s became a folder", at)
		}
	}
}
