// Package faults breaks things on purpose, for tests: disks that lose power, fill
// up, turn read-only or forget what was not synced; system calls that kill,
// fail or wait; networks that are cut. Only tests import it.
//
// Every fault belongs to a test and is gone when the test ends: file systems are
// unmounted, namespaces deleted, processes killed by their own pid. Nothing
// touches a file system, a network or a process that the package did not make.
//
// Most of it takes root. Where that, a kernel feature or a tool is missing, the
// test is skipped, and says by name what is missing; with [All] set it fails.
package faults

import (
	"os"
	"os/exec"
	"testing"
)

// All is the environment variable that says, as 1, that every test has to run: what
// is missing on this machine then fails the tests that need it, so that a run which is
// green has checked everything.
const All = "AFTERWORD_TEST_ALL"

// Lack ends a test that cannot run here because this machine lacks something, which
// the text names: it skips it, or fails it when [All] is set.
func Lack(t testing.TB, format string, args ...any) {
	t.Helper()
	end := t.Skipf
	if os.Getenv(All) == "1" {
		format += " (" + All + " is set, so this is not skipped)"
		end = t.Fatalf
	}
	end(format, args...)
}

// NeedRoot skips a test that cannot do its harm without root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lack(t, "this fault needs root")
	}
}

// needTool skips a test whose tool is missing; `make test` installs it.
func needTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Lack(t, "this fault needs %s, which is not installed; `make tools` installs it", name)
	}
	return path
}

// must runs a command that has to succeed.
func must(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}
