package acceptance

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

// consumeOn starts a consumer whose bounds are short.
func consumeOn(t *testing.T, url, dataDir string) *service {
	t.Helper()
	return startService(t, "consume", "--nats-url", url, "--redis-url", "none", "--data-dir", dataDir, "--file-timeout", "1s", "--ack-wait", "8s").ready()
}

// wantUnready waits until a service says that it is not ready, which is the alarm.
func wantUnready(t *testing.T, s *service, why string) {
	t.Helper()
	eventually(t, startSoon, "readiness is down: "+why, func() error {
		status, body, err := s.get("/readyz")
		if err == nil && status == http.StatusServiceUnavailable {
			return nil
		}
		return fmt.Errorf("%d %s, %v", status, body, err)
	})
}

// A disk that is full, has no inodes or is read-only: nothing is acknowledged, an
// alarm is raised, and it heals by itself, however often.
func TestDiskInTrouble(t *testing.T) {
	const (
		flaps = 3 // each delivers turns once more
		chats = 20
	)
	rnd := random(t)
	nats := servertest.NATSProcess(t)
	js := connect(t, nats.URL())
	disk := faults.Small(t, 24<<20, 4000)
	dataDir := filepath.Join(disk.Dir(), "data")
	consume := consumeOn(t, nats.URL(), dataDir)
	l := publish(t, rnd, js, namesOf("trouble-%d", chats), 200)
	readOnly := func() func() {
		disk.ReadOnly(true)
		return func() { disk.ReadOnly(false) }
	}
	for i := range flaps {
		for name, fault := range map[string]func() func(){"full": disk.Fill, "no inodes": disk.FillInodes, "read-only": readOnly} {
			if name == "no inodes" && i > 0 {
				continue
			}
			undo := fault()
			if name == "no inodes" { // only new sessions need one; folds under way may give back one for each session
				for n := range 2 * chats {
					l.say(fmt.Sprintf("new-%d-%d", i, n), 0, rnd)
				}
			}
			wantUnready(t, consume, "disk "+name)
			undo()
			consume.ready()
		}
	}
	l.drain(t, time.Minute)
	took := wantHealed(t, dataDir, l.said, "after a disk that was full, without inodes and read-only")
	wantConsumed(t, healed, js, group)
	wantNothingElse(t, dataDir, l.said)
	t.Logf("%d × full and read-only, 1 × without inodes → %s", flaps, figuresOf(l.said, took))
	consume.stop()
}

// A sync that fails is believed: nothing is acknowledged, the process says so and
// ends, and the next one has everything.
func TestDiskFailsToSync(t *testing.T) {
	rnd := random(t)
	nats := servertest.NATSProcess(t)
	js := connect(t, nats.URL())
	disk := faults.NewForgetful(t)
	dataDir := filepath.Join(disk.Dir(), "data")
	consume := consumeOn(t, nats.URL(), dataDir)
	l := publish(t, rnd, js, namesOf("eio-%d", 20), 200)
	eventually(t, startSoon, "turns are written", func() error {
		if written(t, dataDir) == 0 {
			return errors.New("none is")
		}
		return nil
	})
	disk.Hook(func(op, path string) syscall.Errno {
		if op == "fsync" && strings.HasSuffix(path, ".tail") {
			return syscall.EIO
		}
		return 0
	})
	code, _ := consume.wait(startSoon)
	if code == 0 || !strings.Contains(consume.errors(), "durable") {
		t.Errorf("exit code %d after a failed sync:\n%s", code, consume.errors())
	}
	disk.Cut(rnd) // a sync that failed promised nothing
	consume = consumeOn(t, nats.URL(), dataDir)
	l.drain(t, time.Minute)
	took := wantHealed(t, dataDir, l.said, "after a sync that failed")
	t.Logf("EIO of fdatasync, then power cut → exit code %d; after the restart %s", code, figuresOf(l.said, took))
	consume.stop()
}

// A disk that hangs costs a bound and not a goroutine more for each turn; when it
// goes on, everything is as if nothing had been.
func TestDiskHangs(t *testing.T) {
	const more = 200 // goroutines beside those of a healthy process
	rnd := random(t)
	nats := servertest.NATSProcess(t)
	js := connect(t, nats.URL())
	disk := faults.NewForgetful(t)
	dataDir := filepath.Join(disk.Dir(), "data")
	consume := consumeOn(t, nats.URL(), dataDir)
	l := publish(t, rnd, js, namesOf("hung-%d", 40), 300)
	eventually(t, startSoon, "turns are written", func() error {
		if written(t, dataDir) == 0 {
			return errors.New("none is")
		}
		return nil
	})
	before, _ := strconv.Atoi(consume.metric("go_goroutines"))
	release := make(chan struct{})
	var hung atomic.Int64
	disk.Hook(func(op, path string) syscall.Errno {
		if op == "write" {
			hung.Add(1)
			<-release
		}
		return 0
	})
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let)
	wantUnready(t, consume, "disk hangs")
	spread(t, choose(5*time.Second, 30*time.Second))
	during, _ := strconv.Atoi(consume.metric("go_goroutines"))
	if before == 0 || during > before+more {
		t.Errorf("%s: %d goroutines while the disk hangs, %d before", inTime, during, before)
	}
	let()
	l.drain(t, time.Minute)
	took := wantHealed(t, dataDir, l.said, "after a disk that hung")
	t.Logf("%d writes hung → %d goroutines, %d before; %s", hung.Load(), during, before, figuresOf(l.said, took))
	consume.stop()
}

// A document that cannot be read is not an empty one: nothing is written over it.
func TestReadThatFails(t *testing.T) {
	rnd := random(t)
	disk := faults.NewForgetful(t)
	l := newLedger(filepath.Join(disk.Dir(), "data"))
	k := newTalk(rnd, namesOf("unread-%d", 4))
	w := startWriter(t, writerConfig{Dir: transcripts(l.dataDir), Durability: transcript.SyncFiles}, nil)
	if !w.ready() {
		t.Fatal(w.stderr.String())
	}
	say := func() {
		for range 10 {
			turns := k.batch()
			l.send(turns...)
			if answer := w.append(turns...); answer != "ok" {
				t.Fatalf("append: %s", answer)
			}
			l.ack(turns...)
		}
	}
	say()
	if answer := w.fold(); answer != "ok" {
		t.Fatalf("fold: %s", answer)
	}
	l.check(t, noLoss, "before the fault")
	var failed atomic.Int64
	disk.Hook(func(op, path string) syscall.Errno {
		if op == "read" && strings.HasSuffix(path, ".json") {
			failed.Add(1)
			return syscall.ETIMEDOUT
		}
		return 0
	})
	say()
	answer := w.fold()
	disk.Hook(nil)
	if failed.Load() == 0 {
		t.Error("no read failed")
	}
	l.check(t, noLoss, "documents could not be read")
	if answer == "ok" && !t.Failed() {
		t.Error("a fold that could not read its document says ok")
	}
	if answer := w.fold(); answer != "ok" {
		t.Errorf("healed: fold: %s", answer)
	}
	l.check(t, noLoss, "documents can be read again")
	l.checkFolded(t)
	w.kill9()
	t.Logf("%d reads failed → %s", failed.Load(), l.figures())
}

// A writer that was held up in the middle of a fold while another one worked
// undoes nothing when it goes on.
func TestStaleWriter(t *testing.T) {
	faults.NeedTrace(t)
	rnd := random(t)
	l := newLedger(filepath.Join(t.TempDir(), "data"))
	cfg := writerConfig{Dir: transcripts(l.dataDir)}
	late := faults.Injection{Calls: []string{"renameat"}, Delay: 300 * time.Millisecond}
	a := startWriter(t, cfg, func(args ...string) []string { return late.Command(t, args...) })
	b := startWriter(t, cfg, nil)
	if !a.ready() || !b.ready() {
		t.Fatal(a.stderr.String(), b.stderr.String())
	}
	k := newTalk(rnd, namesOf("stale-%d", 1))
	for i := range choose(8, 60) {
		turns := k.batch()
		l.send(turns...)
		if answer := a.append(turns...); answer != "ok" {
			t.Fatalf("append: %s", answer)
		}
		l.ack(turns...)
		spread(t, time.Duration(rnd.IntN(150))*time.Millisecond) // its fold is under way
		turns = k.batch()
		l.send(turns...)
		if answer := b.append(turns...); answer != "ok" {
			t.Fatalf("append: %s", answer)
		}
		l.ack(turns...)
		b.fold()
		l.check(t, noLoss, fmt.Sprintf("round %d, the other writer has folded", i))
		spread(t, 400*time.Millisecond)
		l.check(t, noLoss, fmt.Sprintf("round %d, the stale writer went on", i))
		if t.Failed() {
			return
		}
	}
	t.Log(l.figures())
}
