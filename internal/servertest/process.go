package servertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

const stopTimeout = 10 * time.Second

var errExited = errors.New("exited")

// process is one server process. It is started again on the same arguments.
type process struct {
	t    testing.TB
	path string
	args []string
	env  []string
	log  string // file with its output

	mu   sync.Mutex
	cmd  *exec.Cmd     // nil before the first start
	done chan struct{} // closed when cmd has been waited for
}

func newProcess(t testing.TB, name, path string, args ...string) *process {
	p := &process{t: t, path: path, args: args, log: filepath.Join(t.TempDir(), name+".log")}
	t.Cleanup(p.kill)
	return p
}

// start starts the process and polls ready. If the process exits first it
// returns errExited with what it printed.
func (p *process) start(ready func() bool) error {
	p.mu.Lock()
	done, err := p.spawn()
	p.mu.Unlock()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.path, err)
	}
	exited := false
	err = poll(StartTimeout, func() bool {
		select {
		case <-done:
			exited = true
			return true
		default:
			return ready()
		}
	})
	switch {
	case exited:
		return fmt.Errorf("%s: %w: %s", filepath.Base(p.path), errExited, p.output())
	case err != nil:
		p.kill()
		return fmt.Errorf("%s is not ready: %w: %s", filepath.Base(p.path), err, p.output())
	}
	return nil
}

// spawn runs under mu.
func (p *process) spawn() (chan struct{}, error) {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	done := make(chan struct{})
	go func() {
		// The kernel sends Pdeathsig when the thread that forked ends, not the
		// process, so this one stays until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(done)
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		cmd.Wait()
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	p.cmd, p.done = cmd, done
	return done, nil
}

func (p *process) output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// current is the running process and the channel that closes when it is gone;
// nil when none runs.
func (p *process) current() (*os.Process, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return nil, nil
	}
	select {
	case <-p.done:
		return nil, nil
	default:
		return p.cmd.Process, p.done
	}
}

// signal sends sig to a running process and does nothing to one that is gone.
func (p *process) signal(sig os.Signal) {
	if proc, _ := p.current(); proc != nil {
		proc.Signal(sig)
	}
}

// kill ends the process at once, stopped or not, and waits until it is gone.
func (p *process) kill() {
	proc, done := p.current()
	if proc == nil {
		return
	}
	proc.Signal(syscall.SIGCONT)
	proc.Signal(syscall.SIGKILL)
	<-done
}

// stop asks the process to end and kills it if it does not.
func (p *process) stop() {
	proc, done := p.current()
	if proc == nil {
		return
	}
	proc.Signal(syscall.SIGCONT)
	proc.Signal(syscall.SIGTERM)
	late := time.NewTimer(stopTimeout)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		p.kill()
	}
}

// pid is the id of the process that was started last.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}
