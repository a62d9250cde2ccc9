package transcript

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/afterword-io/afterword/internal/faults"
)

// victimDir makes this test binary repair session "s" of a folder and end.
const victimDir = "AFTERWORD_TEST_REPAIR"

// TestRepairVictim is what TestRepairIsKilled kills.
func TestRepairVictim(t *testing.T) {
	dir := os.Getenv(victimDir)
	if dir == "" {
		t.Skip("runs in a process of its own, for TestRepairIsKilled")
	}
	s, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Repair(t.Context(), "s", Events{}); err != nil {
		t.Fatal(err)
	}
	os.Exit(0)
}

// A repair that is killed at any system call which changes something loses
// nothing that could be read: no reader finds less without an error, and the
// next repair makes all of it.
func TestRepairIsKilled(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		faults.Lack(t, "needs strace: kills at a chosen system call")
	}
	if out, err := exec.Command(strace, "-qq", "-o", "/dev/null", "true").CombinedOutput(); err != nil {
		faults.Lack(t, "needs strace to be allowed: %v: %s", err, out)
	}
	kills := 0
	for _, call := range []string{"write", "fdatasync", "fsync", "linkat", "renameat"} {
		for n := 1; n <= 20; n++ {
			d := newDamaged(t, 5, 4)
			dir := d.store.Dir()
			if err := d.store.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			badDoc := d.edit(d.doc, `"user":"question 2"`, `"user":"question 2`)
			badTail := d.edit(d.tail, "answer 7", "answer 1")
			cmd := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), os.Args[0], "-test.run=^TestRepairVictim$")
			cmd.Env = append(os.Environ(), victimDir+"="+dir, "GOMAXPROCS=1")
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
			if err != nil && !killed {
				t.Fatalf("%s %d: %v: %s", call, n, err, out)
			}
			want := append(without(d.turns[:5], 2), without(d.turns[5:], 2)...)
			d.store = openStore(t, Config{Dir: dir})
			var corrupt *CorruptError
			if doc, err := d.store.Read(t.Context(), "s"); err == nil && doc.Len() != len(want) || err != nil && !errors.As(err, &corrupt) {
				t.Errorf("%s %d: a reader finds %v, %v", call, n, doc, err)
			}
			d.repair(Events{})
			d.is(want...)
			for path, bad := range map[string][]byte{d.doc: badDoc, d.tail: badTail} {
				if !isKept(t, path, bad) {
					t.Errorf("%s %d: the damaged %s is not kept", call, n, filepath.Base(path))
				}
			}
			if err := d.store.Walk(t.Context(), WalkConfig{Fault: func(token string, err error) { t.Error(token, err) }}); err != nil {
				t.Fatal(err)
			}
			left, err := os.ReadDir(filepath.Dir(d.doc))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range left {
				if strings.HasPrefix(e.Name(), ".") {
					t.Errorf("%s %d: left behind: %s", call, n, e.Name())
				}
			}
			if !killed {
				break // the call was not made so often
			}
			kills++
		}
	}
	if kills < 8 {
		t.Errorf("killed %d times only", kills)
	}
	t.Logf("killed %d times", kills)
}

// isKept says whether one of the files that were set aside has these bytes.
func isKept(t *testing.T, path string, bad []byte) bool {
	t.Helper()
	found, err := filepath.Glob(path + ".corrupt-*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		if b, err := os.ReadFile(name); err == nil && bytes.Equal(b, bad) {
			return true
		}
	}
	return false
}
