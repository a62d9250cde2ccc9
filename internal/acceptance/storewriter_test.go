package acceptance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// writerConfig is what cmd storewriter takes.
type writerConfig struct {
	Dir        string
	Durability transcript.Durability
}

// storeWriter is a process that has a transcript store and nothing else, so that
// it starts, works and dies in milliseconds.
type storeWriter struct {
	t       testing.TB
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	stderr  strings.Builder
	done    chan struct{}
	answers int
}

// startWriter starts a store writer on a data folder. wrap makes its command line another.
func startWriter(t testing.TB, cfg writerConfig, wrap func(args ...string) []string) *storeWriter {
	t.Helper()
	watchSources()
	if err := buildWriter(); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	line := []string{writer, string(config)}
	if wrap != nil {
		line = wrap(line...)
	}
	w := &storeWriter{t: t, cmd: exec.Command(line[0], line[1:]...), done: make(chan struct{})}
	w.cmd.Stderr = &w.stderr
	// A group of its own, so that who traces and who is traced go together.
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if w.in, err = w.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w.out = bufio.NewReader(out)
	began := make(chan error)
	go func() {
		runtime.LockOSThread() // see start
		defer runtime.UnlockOSThread()
		defer close(w.done)
		err := w.cmd.Start()
		began <- err
		if err == nil {
			w.cmd.Process.Wait()
		}
	}()
	if err := <-began; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.kill9)
	return w
}

// ready waits until the writer takes batches; false when it died first.
func (w *storeWriter) ready() bool {
	w.t.Helper()
	switch line, ok := w.answer(); {
	case !ok:
		return false
	case line != "ready":
		w.t.Fatalf("the store writer says %q", line)
	}
	return true
}

// answer is the next line; false when the writer died. It only reads while the
// process is there, so the killer does not have to be told.
func (w *storeWriter) answer() (string, bool) {
	line, err := w.out.ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err == nil
}

// append sends a batch and returns what became of it: "ok", an error, or "" when
// the writer died and nobody knows.
func (w *storeWriter) append(turns ...turn) string {
	var b strings.Builder
	for _, s := range turns {
		b.WriteString(s.payload())
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	if _, err := io.WriteString(w.in, b.String()); err != nil {
		return ""
	}
	line, _ := w.answer()
	w.answers++
	return line
}

// fold folds everything.
func (w *storeWriter) fold() string {
	if _, err := io.WriteString(w.in, "fold\n"); err != nil {
		return ""
	}
	line, _ := w.answer()
	return line
}

func (w *storeWriter) kill9() {
	select {
	case <-w.done:
	default:
		syscall.Kill(-w.cmd.Process.Pid, syscall.SIGKILL)
		<-w.done
	}
	w.in.Close()
}

// payload is a turn as an event.
func (w turn) payload() string {
	return fmt.Sprintf(`{"id":%s,"timestamp":%s,"user":%s,"assistant":%s,"status":%s,"rev":%d,"session_id":%s}`,
		quote(w.ID), quote(w.Timestamp), quote(w.User), quote(w.Assistant), quote(w.Status), w.Rev, quote(w.Session))
}

// talk makes turns of a few sessions: new ones, answers to questions, repetitions.
type talk struct {
	rnd      *rand.Rand
	names    []string
	clock    time.Time
	said     []turn
	open     []turn // questions without their answer
	perBatch int
}

func newTalk(rnd *rand.Rand, names []string) *talk {
	return &talk{rnd: rnd, names: names, clock: time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC), perBatch: 6}
}

// turnTo goes on with other sessions.
func (k *talk) turnTo(names []string) { k.names, k.said, k.open = names, nil, nil }

func (k *talk) batch() (turns []turn) {
	for range 1 + k.rnd.IntN(k.perBatch) {
		turns = append(turns, k.next())
	}
	k.said = append(k.said, turns...)
	if len(k.said) > 1000 {
		k.said = k.said[500:]
	}
	return turns
}

func (k *talk) next() turn {
	switch kind := k.rnd.IntN(10); {
	case kind == 0 && len(k.said) > 0:
		return k.said[k.rnd.IntN(len(k.said))]
	case kind == 1 && len(k.open) > 0:
		i := k.rnd.IntN(len(k.open))
		w := k.open[i]
		k.open = append(k.open[:i], k.open[i+1:]...)
		w.Assistant, w.Status, w.Rev = k.text(), "complete", 2
		return w
	}
	k.clock = k.clock.Add(time.Duration(1+k.rnd.IntN(5_000_000)) * time.Microsecond)
	w := turn{
		ID: fmt.Sprintf("%x-%x", k.clock.UnixMicro(), k.rnd.Uint32()), Session: k.names[k.rnd.IntN(len(k.names))],
		Timestamp: k.clock.Format("2006-01-02T15:04:05.000000") + "+00:00",
		User:      k.text(), Assistant: k.text(), Status: "complete", Rev: 1,
	}
	if k.rnd.IntN(5) == 0 {
		w.Assistant, w.Status = "", "pending"
		k.open = append(k.open, w)
	}
	return w
}

func (k *talk) text() string {
	n := k.rnd.IntN(80)
	if k.rnd.IntN(40) == 0 {
		n = k.rnd.IntN(2000)
	}
	return fmt.Sprintf("“%x”\n<👍> %s", k.rnd.Uint64(), strings.Repeat("abc\"\\ ", n/6))
}
