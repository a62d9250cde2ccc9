package folder_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/folder"
)

const (
	service = 65532
	fsGroup = 2000
)

// A group may write a folder of data, or one above it, where Kubernetes handed it over with fsGroup.
func TestVolumes(t *testing.T) {
	faults.NeedRoot(t)
	defer unix.Umask(unix.Umask(0))
	plain, mount := t.TempDir(), faults.Small(t, 1<<20, 64).Dir()
	for _, dir := range []string{plain, mount} {
		for at := filepath.Dir(dir); strings.HasPrefix(at, os.TempDir()) && at != os.TempDir(); at = filepath.Dir(at) {
			if err := os.Chmod(at, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		what     string
		dir      string
		mode     uint32
		uid, gid int
		as       int
		pod      bool
		want     string // of the folder
		below    string // of a folder in it, which the service made
	}{
		{"fsGroup", mount, 0o2775, 0, fsGroup, service, false, "", ""},
		{"fsGroup of no mount", plain, 0o2770, 0, fsGroup, service, false, "", ""},
		{"fsGroup is the group", mount, 0o2775, 0, service, service, false, "", ""},
		{"a volume of the service", mount, 0o2775, service, fsGroup, service, false, "", ""},
		{"for root", mount, 0o2775, 0, fsGroup, 0, false, "", ""},
		{"an emptyDir", mount, 0o2777, 0, fsGroup, service, true, "", ""},
		{"everybody's", mount, 0o2777, 0, fsGroup, service, false, "every user (mode 02777), who could replace what is in it: chmod o-w ", "every user may replace it (mode 02777): chmod o-w "},
		{"everybody's of no mount", plain, 0o2777, 0, fsGroup, service, true, "every user (mode 02777)", "every user may replace it (mode 02777)"},
		{"without setgid", mount, 0o775, 0, fsGroup, service, true, "belongs to user 0", ""},
		{"of a team", plain, 0o2775, service, fsGroup, service, true, "other users (mode 02775)", ""},
		{"of another group", mount, 0o2775, 0, 60, service, true, "belongs to user 0", "the group 60 may replace it (mode 02775)"},
		{"of another group, without setgid", mount, 0o775, 0, 60, service, true, "belongs to user 0", "the group 60 may replace it (mode 0775)"},
		{"of another group, for root", plain, 0o2775, 0, 60, 0, true, "other users (mode 02775)", "the group 60 may replace it (mode 02775)"},
		{"of another user", mount, 0o2775, 1, fsGroup, service, true, "belongs to user 1", "of user 1, who may replace it"},
	} {
		in := filepath.Join(c.dir, "in")
		t.Setenv("KUBERNETES_SERVICE_HOST", map[bool]string{true: "10.0.0.1"}[c.pod])
		if err := errors.Join(os.RemoveAll(in), os.Chown(c.dir, c.uid, c.gid), unix.Chmod(c.dir, c.mode), os.Mkdir(in, 0o700), os.Chown(in, c.as, -1)); err != nil {
			t.Fatal(err)
		}
		as(t, c.as, func() {
			for dir, want := range map[string]string{c.dir: c.want, in: c.below} {
				if err := folder.Check(dir); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %s: %v, not %q", c.what, dir, err, want)
				}
			}
			if _, ok := folder.HandedOver(c.dir); ok != (c.want == "") {
				t.Errorf("%s: handed over: %v", c.what, ok)
			}
		})
		if c.want != "" {
			continue
		}
		if err := unix.Chmod(in, 0o2770); err != nil { // as the kubelet does when it looks through the volume
			t.Fatal(err)
		}
		as(t, c.as, func() {
			if err := folder.Check(c.dir, "in"); err != nil {
				t.Errorf("%s: started again: %v", c.what, err)
			}
		})
	}
}

// as calls f on a thread of a user who is in fsGroup, too. The thread ends with it.
func as(t *testing.T, uid int, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		groups := [1]uint32{fsGroup}
		id := uintptr(uid)
		for _, call := range [][4]uintptr{{unix.SYS_SETGROUPS, 1, uintptr(unsafe.Pointer(&groups[0]))}, {unix.SYS_SETRESGID, id, id, id}, {unix.SYS_SETRESUID, id, id, id}} {
			if _, _, errno := unix.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
				done <- errno
				return
			}
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
