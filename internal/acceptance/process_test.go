package acceptance

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

const (
	oneShot   = 2 * time.Minute  // bound of a command that ends by itself
	startSoon = 30 * time.Second // bound of a service's start, on a busy machine
)

// process is afterword, running.
type process struct {
	t              *testing.T
	args           []string
	cmd            *exec.Cmd
	stdout, stderr string        // files
	done           chan struct{} // closed when it has ended
}

// start runs afterword. It is killed when the test ends, or when the test's
// process does, whichever comes first.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startUnder(t, nil, args...)
}

// startUnder is start where wrap makes the command line another, which runs afterword in the
// process that was started.
func startUnder(t *testing.T, wrap func(args ...string) []string, args ...string) *process {
	t.Helper()
	watchSources()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(t.TempDir(), "process-")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, args: args, stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr"), done: make(chan struct{})}
	stdout, err := os.Create(p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	stderr, err := os.Create(p.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	line := append([]string{program}, args...)
	if wrap != nil {
		line = wrap(line...)
	}
	p.cmd = exec.Command(line[0], line[1:]...)
	p.cmd.Dir = dir
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	p.cmd.Stdout, p.cmd.Stderr = stdout, stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := make(chan error)
	go func() {
		// Pdeathsig comes when the thread that forked ends, so it stays as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := p.cmd.Start()
		began <- err
		if err == nil {
			p.cmd.Wait()
		}
	}()
	if err := <-began; err != nil {
		t.Fatalf("start %s: %v", p, err)
	}
	t.Cleanup(func() {
		p.signal(syscall.SIGCONT)
		p.kill9()
		if text := p.errors(); strings.Contains(text, "DATA RACE") {
			t.Errorf("%s has a data race:\n%s", p, text)
		} else if t.Failed() {
			t.Logf("%s: %v\n%s", p, p.cmd.ProcessState, text[max(0, len(text)-3000):])
		}
	})
	return p
}

// watchSources looks at every source of the binary, once: go test notes what a test
// looks at, and so never takes a result from its cache that is about another binary.
var watchSources = sync.OnceFunc(func() {
	filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			os.Stat(path)
		}
		return nil
	})
})

// String is the command, without the test's folder.
func (p *process) String() string { return command(p.args) }

func command(args []string) string {
	text := "afterword " + strings.Join(args, " ")
	return regexp.MustCompile(os.TempDir()+`/\S*/`).ReplaceAllString(text, "…/")
}

func (p *process) signal(sig os.Signal) {
	if p.running() {
		p.cmd.Process.Signal(sig)
	}
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill9 ends the process at once.
func (p *process) kill9() {
	p.signal(syscall.SIGKILL)
	<-p.done
}

// wait returns the exit code and how long the end took.
func (p *process) wait(within time.Duration) (code int, took time.Duration) {
	p.t.Helper()
	began := time.Now()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		p.signal(syscall.SIGQUIT) // its goroutines are in the log
		<-p.done
		p.t.Fatalf("%s did not end within %v", p, within)
	}
	return p.cmd.ProcessState.ExitCode(), time.Since(began)
}

// stop ends a service as a supervisor does.
func (p *process) stop() {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	if code, _ := p.wait(startSoon); code != 0 {
		p.t.Errorf("%s: exit code %d after SIGTERM", p, code)
	}
}

func (p *process) output() string { return readFile(p.t, p.stdout) }
func (p *process) errors() string { return readFile(p.t, p.stderr) }

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// run runs a command that has to end with code 0, and returns its output.
func run(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	p := start(t, args...)
	if code, _ := p.wait(oneShot); code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", p, code, p.output(), p.errors())
	}
	return p.output(), p.errors()
}

// service is a process that answers HTTP.
type service struct {
	*process
	api
}

var addressOf = regexp.MustCompile(`http://127\.0\.0\.1:\d+`)

// startService starts serve, gateway or consume and waits until it listens.
func startService(t *testing.T, args ...string) *service {
	t.Helper()
	s := tryService(t, args...)
	if !s.running() {
		t.Fatalf("%s ended: %v\n%s", s, s.cmd.ProcessState, s.errors())
	}
	return s
}

// tryService is startService for one that may have ended instead.
func tryService(t *testing.T, args ...string) *service {
	t.Helper()
	s := &service{process: start(t, append(args, "--listen", "127.0.0.1:0")...)}
	servertest.Eventually(t, startSoon, s.String()+" to listen", func() bool {
		s.url = addressOf.FindString(listening(s.errors()))
		return s.url != "" || !s.running()
	})
	s.api.client = newClient(t)
	return s
}

// listening returns the line that names the address.
func listening(log string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "serving HTTP") || strings.Contains(line, "serves http") {
			return line
		}
	}
	return ""
}

// ready waits until /readyz says so.
func (s *service) ready() *service {
	s.t.Helper()
	last := ""
	defer func() {
		if s.t.Failed() {
			s.t.Log(last)
		}
	}()
	servertest.Eventually(s.t, startSoon, s.String()+" to be ready", func() bool {
		status, body, err := s.get("/readyz")
		last = fmt.Sprint(status, string(body), err)
		return status == http.StatusOK
	})
	return s
}

// metric returns the value of a line of /metrics, by its name with labels.
func (s *service) metric(name string) string {
	s.t.Helper()
	status, body, err := s.get("/metrics")
	if err != nil || status != http.StatusOK {
		s.t.Fatalf("%s/metrics: %d, %v", s.url, status, err)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// newClient is an HTTP client whose connections are gone when the test ends.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// eventually polls check until it returns nil, less often than [servertest.Eventually],
// and fails with its last error.
func eventually(t *testing.T, within time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return time.Since(began)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("timed out after %v waiting until %s: %v", within, what, err)
		case <-tick.C:
		}
	}
}

// shell runs a command line beside the test; what it returns waits for its output.
func shell(t *testing.T, line string) func() string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := cmd.CombinedOutput()
		done <- result{out, err}
	}()
	return sync.OnceValue(func() string {
		r := <-done
		if r.err != nil {
			t.Errorf("%s: %v: %s", line, r.err, r.out)
		}
		return string(r.out)
	})
}
