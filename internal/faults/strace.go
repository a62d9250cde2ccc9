package faults

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Calls are the system calls that change files, each a place to die at.
var Calls = []string{"write", "fsync", "fdatasync", "syncfs", "renameat", "ftruncate", "fchmodat", "mkdirat"}

// Injection makes a system call of a process fail, kill or wait. It takes
// strace, and root or a kernel that lets a process trace its children.
type Injection struct {
	// Calls are the names of system calls.
	Calls []string
	// Path, if set, leaves calls on other files alone.
	Path string
	// From is the first call of a thread that is hit; 0 and 1 are the very first.
	// Once leaves those after it alone.
	From int
	Once bool

	Kill  bool          // SIGKILL as the call is entered
	Error string        // such as EIO, instead of the call
	Delay time.Duration // before the call
}

// Command is the command line that runs args under the injection.
func (i Injection) Command(t testing.TB, args ...string) []string {
	t.Helper()
	strace := needTool(t, "strace")
	calls, rule := i.rule()
	// -D: the process is the child that was started, and strace stands aside.
	line := []string{strace, "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=" + calls, "-e", rule}
	switch {
	case i.Path != "":
		line = append(line, "-P", i.Path)
	case i.From <= 1: // with it strace does not count
		line = append(line, "--seccomp-bpf") // everything else runs at full speed
	}
	return append(append(line, "--"), args...)
}

// Attach puts a process that runs under the injection, until detach is called or it ends.
func (i Injection) Attach(t testing.TB, pid int) (detach func()) {
	t.Helper()
	strace := needTool(t, "strace")
	calls, rule := i.rule()
	line := []string{"-f", "-qq", "-o", "/dev/null", "-e", "trace=" + calls, "-e", rule, "-p", strconv.Itoa(pid)}
	if i.Path != "" {
		line = append(line, "-P", i.Path)
	}
	cmd := exec.Command(strace, line...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	detach = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM) // it lets the process go on
		cmd.Wait()
	})
	t.Cleanup(detach)
	return detach
}

// rule says the injection in the language of strace.
func (i Injection) rule() (calls, rule string) {
	set := make([]string, len(i.Calls))
	for k, call := range i.Calls {
		set[k] = "?" + call // not every architecture has all
	}
	calls = strings.Join(set, ",")
	rule = "inject=" + calls
	if i.Kill {
		rule += ":signal=KILL"
	}
	if i.Error != "" {
		rule += ":error=" + i.Error
	}
	if i.Delay > 0 {
		rule += fmt.Sprintf(":delay_enter=%d", i.Delay.Microseconds())
	}
	rule += fmt.Sprintf(":when=%d", max(i.From, 1))
	if !i.Once {
		rule += "+"
	}
	return calls, rule
}

// NeedTrace skips a test where processes cannot be traced.
func NeedTrace(t testing.TB) {
	t.Helper()
	line := Injection{Calls: []string{"write"}, Delay: time.Microsecond}.Command(t, "true")
	if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
		Lack(t, "this fault needs strace to trace a child: %v: %s", err, out)
	}
}
