package folder_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/folder"
)

// What fsync and syncfs do not tell.
func TestConfirm(t *testing.T) {
	disk := faults.NewThin(t)
	dir, err := os.Open(disk.Dir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	f, err := os.OpenFile(filepath.Join(disk.Dir(), "file"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func(text string) {
		t.Helper()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	write("durable")
	for range 3 {
		if err := errors.Join(f.Sync(), unix.Syncfs(int(dir.Fd())), folder.Confirm(f), folder.Confirm(dir)); err != nil {
			t.Fatalf("a healthy disk: %v", err)
		}
	}
	disk.Exhaust()
	write(" and not")
	disk.LoseJournal(f.Name())
	fsync, syncfs := f.Sync(), unix.Syncfs(int(dir.Fd()))
	confirm := folder.Confirm(f)
	t.Logf("fsync: %v, syncfs: %v, Confirm: %v", fsync, syncfs, confirm)
	if fsync == nil && syncfs == nil && confirm == nil {
		t.Error("no error")
	}
	errs := errors.Join(f.Close(), dir.Close())
	disk.Mend()
	if got, err := os.ReadFile(f.Name()); err != nil || string(got) != "durable" {
		t.Errorf("the disk has %q, %v, %v: what is tested here did not happen", got, err, errs)
	}
}

// Where nothing is asked, nothing fails.
func TestConfirmElsewhere(t *testing.T) {
	for _, disk := range []*faults.Disk{faults.Small(t, 1<<20, 16), faults.Loop(t, "xfs")} {
		f, err := os.Create(filepath.Join(disk.Dir(), "file"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(folder.Confirm(f), f.Close()); err != nil {
			t.Error(err)
		}
	}
}
