package docs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of these tests.
const (
	readyWithin = 20 * time.Second
	shownWithin = 10 * time.Second // what was stored is readable everywhere
	endsWithin  = 25 * time.Second // --drain-timeout is 20 s
	tryAgain    = 50 * time.Millisecond
)

// step is a command of a page, and what the page says that it prints.
type step struct {
	command string
	want    []string
}

// output marks the lines of a block that a command prints. "…" stands for anything.
const output = "#=> "

// steps reads the shell blocks of a page that say what they print.
func steps(text string) (all []step) {
	for _, block := range fences(text, "sh") {
		if !strings.Contains(block, output) {
			continue
		}
		command := ""
		for line := range strings.Lines(block) {
			line = strings.TrimSuffix(line, "\n")
			if line == strings.TrimSpace(output) {
				line = output // an empty line
			}
			switch want, ok := strings.CutPrefix(line, output); {
			case ok:
				last := &all[len(all)-1]
				last.want = append(last.want, want)
			case command == "" && (line == "" || line[0] == '#'):
			default:
				if command += line; strings.HasSuffix(line, `\`) {
					command += "\n"
					continue
				}
				all = append(all, step{command: command})
				command = ""
			}
		}
	}
	return all
}

// pattern makes a regular expression of what a page prints.
func pattern(want []string) *regexp.Regexp {
	text := regexp.QuoteMeta(strings.Join(want, "\n"))
	return regexp.MustCompile("(?s)^" + strings.ReplaceAll(text, "…", ".+?") + "\n?$")
}

// status makes curl print the status code, a space and the body, as the pages have it.
const status = `curl() { command curl -sS -o body -w '%{http_code} ' "$@" && cat body; }; `

// scene is a machine of its own: loopback, on which every port is free, and an
// empty folder with bin/afterword in it.
type scene struct {
	t   *testing.T
	dir string
}

// newScene moves the test's goroutine into a network of its own. Everything that
// it starts, from this goroutine, is in there too; the thread ends with it.
func newScene(t *testing.T) *scene {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network of its own, in which the default ports are free")
	}
	path := binary(t)
	runtime.LockOSThread() // and never unlock
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs to make a network of its own, in which the default ports are free: unshare: %v", err)
	}
	if err := loopbackUp(); err != nil {
		t.Fatalf("loopback up: %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, filepath.Join(dir, "bin", "afterword")); err != nil {
		t.Fatal(err)
	}
	return &scene{t, dir}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// command prepares a command that ends with the test, with nothing of afterword's
// in its environment.
func (s *scene) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.dir
	for _, v := range os.Environ() {
		if key, _, _ := strings.Cut(v, "="); !strings.HasPrefix(key, "AFTERWORD_") && !strings.HasPrefix(key, "NATS_") &&
			key != "REDIS_URL" && !strings.HasSuffix(strings.ToLower(key), "_proxy") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (s *scene) shell(script string) (string, error) {
	var out, errs bytes.Buffer
	cmd := s.command("bash", "-c", script)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	return out.String() + errs.String(), err
}

// serve starts `afterword serve` on its defaults and returns how to stop it.
func (s *scene) serve() (stop func()) {
	s.t.Helper()
	return s.start("127.0.0.1:8080", "serve")
}

// start starts a service that listens on an address and returns how to stop it.
func (s *scene) start(address string, args ...string) (stop func()) {
	s.t.Helper()
	var log bytes.Buffer
	cmd := s.command("bin/afterword", args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(readyWithin); ; time.Sleep(tryAgain) {
		if _, err := s.shell("curl -sf http://" + address + "/readyz"); err == nil {
			break
		}
		if time.Now().After(end) {
			cmd.Process.Kill()
			cmd.Wait()
			s.t.Fatalf("afterword %s is not ready after %s:\n%s", args[0], readyWithin, log.String())
		}
	}
	return func() {
		s.t.Helper()
		began := time.Now()
		cmd.Process.Signal(os.Interrupt)
		late := time.AfterFunc(endsWithin, func() { cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("afterword %s ended after %s with %v:\n%s", args[0], time.Since(began), err, log.String())
		}
	}
}

// play runs the steps of a page and compares what they print. Commands that only
// read get some time to see what was stored.
func (s *scene) play(name string) {
	s.t.Helper()
	all := steps(page(s.t, name))
	if len(all) == 0 {
		s.t.Fatalf("%s has no commands with %q", name, output)
	}
	for _, st := range all {
		want := pattern(st.want)
		reads := !strings.Contains(st.command, "--json")
		for end := time.Now().Add(shownWithin); ; time.Sleep(tryAgain) {
			got, err := s.shell(status + st.command)
			if err == nil && want.MatchString(got) {
				break
			}
			if !reads || time.Now().After(end) {
				s.t.Errorf("%s:\n%s\nprints, with %v:\n%s\nbut the page says:\n%s", name, st.command, err, got, strings.Join(st.want, "\n"))
				break
			}
		}
	}
}

func TestReadmeSession(t *testing.T) {
	s := newScene(t)
	defer s.serve()()
	s.play("README.md")

	// The Go program, against the same server; and what is no program compiles.
	programs := fences(page(t, "docs/go.md"), "go")
	if len(programs) != 2 {
		t.Fatalf("docs/go.md has %d pieces of Go, not a program and a piece about traces", len(programs))
	}
	piece := filepath.Join(s.dir, "piece.go")
	if err := os.WriteFile(piece, []byte(programs[1]), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := goBuild(os.DevNull, piece); err != nil {
		t.Error(err)
	}
	source := filepath.Join(s.dir, "example.go")
	if err := os.WriteFile(source, []byte(programs[0]), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := goBuild(filepath.Join(s.dir, "bin", "example"), source); err != nil {
		t.Fatal(err)
	}
	if got, err := s.shell("bin/example"); err != nil || strings.TrimSpace(got) != "stored" {
		t.Errorf("the program of docs/go.md prints %q, with %v", got, err)
	}
}

func TestHTTPSession(t *testing.T) {
	s := newScene(t)
	defer s.serve()()
	s.play("docs/http.md")
}
