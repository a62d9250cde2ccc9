package publisher_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// Environment of this test binary as a process that spools until it is killed.
const (
	childDir   = "AFTERWORD_TEST_SPOOL"
	childURL   = "AFTERWORD_TEST_NATS"
	childTurns = "AFTERWORD_TEST_TURNS" // ends by itself after so many
)

// beSpooler publishes, and prints the key of every turn once it is spooled.
func beSpooler(dir string) error {
	ctx := context.Background()
	nc, err := stream.Connect(ctx, stream.Config{URL: os.Getenv(childURL), Wait: true})
	if err != nil {
		return err
	}
	p, err := publisher.New(publisher.Config{Conn: nc, SpoolDir: dir, BufferTurns: 400, RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond})
	if err != nil {
		return err
	}
	turns := 1 << 30
	fmt.Sscan(os.Getenv(childTurns), &turns)
	var work sync.WaitGroup
	for i := range 4 {
		work.Go(func() {
			for n := range turns {
				session := fmt.Sprint("s", (i+n)%5)
				r, err := p.Publish(ctx, transcript.Turn{SessionID: session, User: fmt.Sprint("question ", n), Assistant: strings.Repeat("answer ", 20)})
				if err != nil || r.Wait(ctx, publisher.Spooled) != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				os.Stdout.WriteString(key(session, r.ID, 1) + "\n")
			}
		})
	}
	work.Wait()
	return nil
}

// spooler is a process that spools.
type spooler struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	said []string
	done chan struct{}
}

// startSpooler starts one, under a program of the test's if one is given.
func startSpooler(t *testing.T, dir, url, turns string, under ...string) *spooler {
	t.Helper()
	args := append(under, os.Args[0])
	s := &spooler{cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{})}
	s.cmd.Env = append(os.Environ(), childDir+"="+dir, childURL+"="+url, childTurns+"="+turns)
	var stderr syncBuffer
	s.cmd.Stderr = &stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if err != nil { // what is cut short was not said
				break
			}
			s.mu.Lock()
			s.said = append(s.said, strings.TrimSpace(line))
			s.mu.Unlock()
		}
		io.Copy(io.Discard, out)
		s.cmd.Wait()
	}()
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("%v: %s", s.cmd.ProcessState, stderr.String())
		}
	})
	return s
}

func (s *spooler) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.said)
}

// kill ends the process, and what it was started under, at once.
func (s *spooler) kill() {
	select {
	case <-s.done:
	default:
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.done
	}
}

// Kill -9 at random moments, with the stream there and not: all that was said to be
// spooled is in the stream after the last start, each turn with one content only.
func TestSpoolSurvivesKill9(t *testing.T) {
	const rounds = 12
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, seed))
	srv := servertest.NATSProcess(t)
	w := &world{t: t}
	w.js = w.connect(srv.URL())
	w.ensure()
	dir := spoolDir(t)
	var said []string
	for i := range rounds {
		down := i%3 > 0 // two rounds in a row, so that one takes over the segments of the other
		if down && i%3 == 1 {
			srv.Kill9()
		}
		p := startSpooler(t, dir, srv.URL(), "")
		servertest.Eventually(t, patience, "it to spool", func() bool { return p.count() > 20 })
		spread(t, time.Duration(rnd.IntN(150))*time.Millisecond)
		if i%3 == 2 {
			srv.Restart()
		}
		p.kill()
		said = append(said, p.said...)
	}
	p := w.spooling(dir, nil)
	servertest.Eventually(t, patience, "the spool to be read and stored", func() bool {
		names, _ := segments(t, dir)
		s := p.Stats()
		return s.Turns == 0 && len(names) <= 1 && s.Spool.Segments == len(names) && s.Spool.Bytes == 0
	})
	closeNow(t, p)
	if s := p.Stats(); s.Spool.SetAside != 0 {
		t.Errorf("%+v", s)
	}
	content := make(map[string]string)
	messages := w.messages()
	for _, m := range messages {
		s, err := transcript.Decode(m.Data(), 0)
		if err != nil {
			t.Fatal(err)
		}
		k := key(s.SessionID, s.ID, s.Rev)
		if before, ok := content[k]; ok && before != string(m.Data()) {
			t.Errorf("%s has two contents", k)
		}
		content[k] = string(m.Data())
	}
	lost := 0
	for _, k := range said {
		if content[k] == "" {
			lost++
		}
	}
	t.Logf("%d × kill -9 → %d turns were said to be spooled, %d of them are lost; %d turns are in %d messages", rounds, len(said), lost, len(content), len(messages))
	if lost > 0 {
		t.Errorf("%d of %d are lost", lost, len(said))
	}
}

// A failed fsync, or write, is never tried again on the same file, and its turns are
// not called spooled before they are, elsewhere.
func TestSpoolAfterFailedFsync(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		faults.Lack(t, "needs strace")
	}
	for _, call := range []string{"fdatasync:error=EIO:when=3+5", "fdatasync:error=ENOSPC:when=2+3", "write:error=EIO:when=3+5", "write:error=ENOSPC:when=2+3"} {
		t.Run(call, func(t *testing.T) {
			w := newStreamWorld(t)
			w.srv.Stop()
			dir := spoolDir(t)
			trace := filepath.Join(t.TempDir(), "trace")
			under := []string{strace, "-f", "-y", "-qq", "-o", trace, "-e", "trace=write,fdatasync", "-e", "inject=" + call}
			for i := range 200 { // of segments only
				under = append(under, "-P", filepath.Join(dir, fmt.Sprintf("%012d.seg", i+1)))
			}
			p := startSpooler(t, dir, w.srv.URL(), "20", under...)
			servertest.Eventually(t, patience, "it to end", func() bool {
				select {
				case <-p.done:
					return true
				default:
					return false
				}
			})
			text, err := os.ReadFile(trace)
			if err != nil || len(text) == 0 {
				faults.Lack(t, "needs to trace processes: %v, %s", err, text)
			}
			failed, calls := make(map[string]string), 0
			for line := range strings.Lines(string(text)) {
				m := regexp.MustCompile(` (write|fdatasync)\(\d+<(\S+\.seg)>.*= (-1|\d+)`).FindStringSubmatch(line)
				if m == nil {
					continue
				}
				calls++
				if failed[m[2]] != "" {
					t.Errorf("%s after a failure:\n%s%s", m[1], failed[m[2]], line)
				}
				if m[3] == "-1" {
					failed[m[2]] = line
				}
			}
			if len(failed) < 3 || len(p.said) != 80 {
				t.Errorf("%d files failed in %d calls, %d turns were spooled", len(failed), calls, len(p.said))
			}
			t.Logf("%d calls, %d files failed, %d turns were said to be spooled", calls, len(failed), len(p.said))
			w.srv.Restart()
			closing := w.spooling(dir, nil)
			servertest.Eventually(t, patience, "the spool to be stored", func() bool {
				s := closing.Stats()
				return s.Turns == 0 && s.Stored > 0 && s.Spool.Turns == 0 && s.Spool.Bytes == 0
			})
			closeNow(t, closing)
			got := w.stored()
			for _, k := range p.said {
				if got[k] == 0 {
					t.Errorf("%s is lost", k)
				}
			}
		})
	}
}
