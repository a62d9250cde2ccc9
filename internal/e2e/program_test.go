//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

const (
	repository = "../.."
	// soon bounds what takes milliseconds on a machine that is not busy.
	soon = 40 * time.Second
)

// built is the program, once for all tests.
var built = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "afterword")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "./cmd/afterword")
	cmd.Dir = repository
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

var scratch string // a folder of all tests

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "afterword-e2e-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		scratch = dir
		return m.Run()
	}())
}

// afterword returns the path of the program.
func afterword(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a command that has to succeed, in a folder, and returns what it prints.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// output is what a process has printed so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// service is a process that runs until it is told to stop.
type service struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  output
	done chan error
}

// start starts a service; it is killed when the test ends.
func start(t *testing.T, cmd *exec.Cmd) *service {
	t.Helper()
	s := &service{t: t, cmd: cmd, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = &s.out, &s.out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		if t.Failed() {
			t.Logf("%s:\n%s", cmd, s.out.String())
		}
	})
	return s
}

// says waits until the service has printed what matches, and returns the first group.
func (s *service) says(pattern string) string {
	s.t.Helper()
	var found []string
	servertest.Eventually(s.t, soon, s.cmd.Path+" to say "+pattern, func() bool {
		found = regexp.MustCompile(pattern).FindStringSubmatch(s.out.String())
		return found != nil
	})
	return found[len(found)-1]
}

// stop asks the service to stop, which has to end it with 0.
func (s *service) stop() {
	s.t.Helper()
	s.cmd.Process.Signal(syscall.SIGTERM)
	s.ends()
}

// ends waits for the service to end, with 0.
func (s *service) ends() {
	s.t.Helper()
	late := time.NewTimer(soon)
	defer late.Stop()
	select {
	case err := <-s.done:
		if err != nil {
			s.t.Errorf("%s: it ends with %v", s.cmd, err)
		}
	case <-late.C:
		s.t.Errorf("%s: does not end within %s", s.cmd, soon)
	}
}

// serve starts `afterword serve` on a NATS server and returns the URL of its API.
func serve(t *testing.T, program, natsURL string) string {
	t.Helper()
	cmd := exec.Command(program, "serve", "--listen", "127.0.0.1:0", "--nats-url", natsURL, "--redis-url", "none", "--data-dir", filepath.Join(t.TempDir(), "data"))
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	return start(t, cmd).says(`afterword serves (http://\S+),`)
}

// freeAddr is a loopback address that nobody uses right now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
