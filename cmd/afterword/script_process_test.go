package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/afterword-io/afterword/internal/systemd"
)

const (
	scriptPatience = 30 * time.Second
	scriptPoll     = 20 * time.Millisecond
	// troubleBound is how soon trouble at the start has to be told: 5 s, and what a
	// busy machine adds.
	troubleBound = 7 * time.Second
)

// poll calls ok until it is true or patience is over.
func poll(ok func() bool) bool {
	end := time.NewTimer(scriptPatience)
	defer end.Stop()
	tick := time.NewTicker(scriptPoll)
	defer tick.Stop()
	for !ok() {
		select {
		case <-end.C:
			return false
		case <-tick.C:
		}
	}
	return true
}

// exits CODE COMMAND...: the command exits with CODE. If that is not 0, exactly one
// line of its standard error is the error; if it is 2, that took a few seconds at most.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	began := time.Now()
	err := ts.Exec(args[1], args[2:]...)
	took := time.Since(began)
	var exit *exec.ExitError
	code := 0
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	checkExit(ts, args[0], code, ts.ReadFile("stderr"), took)
}

func checkExit(ts *testscript.TestScript, want string, code int, stderr string, took time.Duration) {
	if strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d, want %s; stderr:\n%s", code, want, stderr)
	}
	errorLines := 0
	for line := range strings.Lines(stderr) {
		if strings.HasPrefix(line, "afterword: ") {
			errorLines++
		}
	}
	if code == exitDone && errorLines != 0 || code != exitDone && errorLines != 1 {
		ts.Fatalf("exit code %d with %d error lines:\n%s", code, errorLines, stderr)
	}
	if code == exitTrouble && took > troubleBound {
		ts.Fatalf("it took %s to exit with %d", took, code)
	}
}

// eventually PATTERN COMMAND...: the output of the command matches in the end.
func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually PATTERN COMMAND...")
	}
	re := regexp.MustCompile("(?m)" + args[0])
	if !poll(func() bool {
		err := ts.Exec(args[1], args[2:]...)
		return err == nil && re.MatchString(ts.ReadFile("stdout"))
	}) {
		ts.Fatalf("no output matches %q", args[0])
	}
}

// process is a command that runs beside a script.
type process struct {
	cmd            *exec.Cmd
	began          time.Time
	stdout, stderr output
	done           chan struct{}
}

// output is what a process has written so far.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start NAME [-in FILE] COMMAND...: runs the command beside the script. Its
// standard input begins with FILE and never ends.
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start NAME [-in FILE] COMMAND...")
	}
	name, args := args[0], args[1:]
	var in string
	if args[0] == "-in" {
		in, args = ts.ReadFile(args[1]), args[2:]
	}
	p := &process{cmd: exec.Command(findProgram(ts, args[0]), args[1:]...), began: time.Now(), done: make(chan struct{})}
	p.cmd.Dir = ts.MkAbs(".")
	for _, v := range []string{"PATH", "HOME", "TMPDIR", "NATS_URL", "NATS_CONTEXT", "NATS_JS_DOMAIN", "REDIS_URL", systemd.EnvSocket, systemd.EnvWatchdog} {
		p.cmd.Env = append(p.cmd.Env, v+"="+ts.Getenv(v))
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	stdin, err := p.cmd.StdinPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	go io.WriteString(stdin, in)
	go func() {
		p.cmd.Wait()
		close(p.done)
	}()
	sceneOf(ts).processes[name] = p
	ts.Defer(func() {
		p.cmd.Process.Kill()
		<-p.done
		ts.Logf("[%s] %v\n%s%s", name, p.cmd.ProcessState, p.stdout.String(), p.stderr.String())
	})
}

func findProgram(ts *testscript.TestScript, name string) string {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name)
		}
	}
	ts.Fatalf("no program %s", name)
	return ""
}

func running(ts *testscript.TestScript, name string) *process {
	p := sceneOf(ts).processes[name]
	if p == nil {
		ts.Fatalf("no process %q was started", name)
	}
	return p
}

// sees NAME PATTERN: the process writes something that matches to its standard error
// or output, or with "!" has not done so yet.
func cmdSees(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: sees NAME PATTERN")
	}
	p, re := running(ts, args[0]), regexp.MustCompile(args[1])
	if neg {
		if text := p.stdout.String() + p.stderr.String(); re.MatchString(text) {
			ts.Fatalf("something matches %q:\n%s", args[1], text)
		}
		return
	}
	if !poll(func() bool { return re.MatchString(p.stderr.String()) || re.MatchString(p.stdout.String()) }) {
		ts.Fatalf("nothing matches %q:\n%s%s", args[1], p.stdout.String(), p.stderr.String())
	}
}

// signal NAME INT|TERM|HUP|KILL|STOP|CONT: sends a signal. "INTS" sends SIGINT until it ends.
func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal NAME INT|INTS|TERM|HUP|KILL|STOP|CONT")
	}
	p := running(ts, args[0])
	if args[1] == "INTS" {
		if !poll(func() bool { return p.cmd.Process.Signal(syscall.SIGINT) != nil }) {
			ts.Fatalf("%s does not end", args[0])
		}
		return
	}
	sig, ok := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL, "HUP": syscall.SIGHUP, "STOP": syscall.SIGSTOP, "CONT": syscall.SIGCONT}[args[1]]
	if !ok {
		ts.Fatalf("unknown signal %q", args[1])
	}
	ts.Check(p.cmd.Process.Signal(sig))
}

// ends NAME CODE: the process ends by itself, with CODE. Its output can be looked at then.
func cmdEnds(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ends NAME CODE")
	}
	p := running(ts, args[0])
	timer := time.NewTimer(scriptPatience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		ts.Fatalf("%s does not end:\n%s", args[0], p.stderr.String())
	}
	io.WriteString(ts.Stdout(), p.stdout.String())
	io.WriteString(ts.Stderr(), p.stderr.String())
	if args[1] == "killed" {
		return
	}
	checkExit(ts, args[1], p.cmd.ProcessState.ExitCode(), p.stderr.String(), 0)
}
