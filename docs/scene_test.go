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

	"github.com/afterword-io/afterword/internal/faults"
)

// scene is a machine of its own: loopback, on which every port is free, and an
// empty folder with bin/afterword and deploy/ in it. What pages have in /srv, /var/lib
// and /backup is in that folder, too.
type scene struct {
	t   *testing.T
	dir string
	env []string // of all that is started
}

// newScene moves the test's goroutine into a network of its own. Everything that
// it starts, from this goroutine, is in there too; the thread ends with it.
func newScene(t *testing.T) *scene {
	t.Helper()
	if os.Geteuid() != 0 {
		faults.Lack(t, "needs root for a network of its own, in which the default ports are free")
	}
	path := binary(t)
	runtime.LockOSThread() // and never unlock
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		faults.Lack(t, "needs to make a network of its own, in which the default ports are free: unshare: %v", err)
	}
	if err := loopbackUp(); err != nil {
		t.Fatalf("loopback up: %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	deploy, err := filepath.Abs(filepath.Join(root, "deploy"))
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{path: "bin/afterword", deploy: "deploy"} {
		if err := os.Symlink(from, filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range strings.Fields(folders) {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &scene{t: t, dir: dir}
}

// folders are those that pages take for granted.
const folders = "srv/rebuilt var/lib/afterword var/lib/node_exporter backup"

// placed puts what a command names into the scene.
func (s *scene) placed(command string) string {
	return regexp.MustCompile(`(^|[ =])/(srv|var/lib|backup)/`).ReplaceAllString(command, "${1}"+s.dir+"/$2/")
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
	cmd.Env = append(cmd.Env, "PATH="+filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"))
	cmd.Env = append(cmd.Env, s.env...)
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

// service is a line that starts something that runs until it is stopped.
var service = regexp.MustCompile(`^([A-Z_]+=\S+ )?(bin/)?afterword (serve|gateway|consume|console)\b`)

// serve starts `afterword serve` on its defaults and returns how to stop it.
func (s *scene) serve() (stop func()) {
	s.t.Helper()
	return s.start("127.0.0.1:8080", "afterword serve")
}

// start runs a line that starts a service, which listens on an address, and returns
// how to stop it.
func (s *scene) start(address, line string) (stop func()) {
	s.t.Helper()
	var log bytes.Buffer
	cmd := s.command("bash", "-c", "exec env AFTERWORD_LISTEN="+address+" "+s.placed(line))
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
			s.t.Fatalf("%s: not ready after %s:\n%s", line, readyWithin, log.String())
		}
	}
	return func() {
		s.t.Helper()
		began := time.Now()
		cmd.Process.Signal(os.Interrupt)
		late := time.AfterFunc(endsWithin, func() { cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("%s: ended after %s with %v:\n%s", line, time.Since(began), err, log.String())
		}
	}
}
