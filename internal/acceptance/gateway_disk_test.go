package acceptance

import (
	"errors"
	"fmt"
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
)

// spoolBlocked reports whether nothing can be spooled.
func (s *service) spoolBlocked() bool {
	seconds, err := strconv.ParseFloat(s.metric("afterword_spool_blocked_seconds"), 64)
	return err == nil && seconds > 0
}

// mustLevel posts a turn and waits until it has a level.
func (s *service) mustLevel(t *testing.T, session, level string) turn {
	t.Helper()
	w, _ := s.mustPost(t, session, "question "+level, "answer")
	eventually(t, startSoon, "a turn is "+level, func() error {
		if got := s.level(w); got != level && got != "written" {
			return errors.New(got)
		}
		return nil
	})
	return w
}

// The spool's disk is full, read-only, fails and hangs under a gateway. While the stream
// takes turns nobody notices; while it does not, no turn is called spooled that is not on
// disk, and the spool goes on by itself when the disk does. Killed then, the gateway owes nothing.
func TestSpoolDiskInTrouble(t *testing.T) {
	small := faults.Small(t, 8<<20, 4000)
	fuse := faults.NewForgetful(t)
	failing := func(errno syscall.Errno) func() func() {
		return func() func() {
			fuse.Hook(func(op, _ string) syscall.Errno {
				if op == "write" || op == "fsync" || op == "create" {
					return errno
				}
				return 0
			})
			return func() { fuse.Hook(nil) }
		}
	}
	for _, c := range []struct {
		name, dir string
		fault     func() (undo func())
	}{
		{"full", small.Dir(), small.Fill},
		{"read-only", fuse.Dir(), failing(syscall.EROFS)}, // a remount waits for files that are open for writing
		{"EIO", fuse.Dir(), failing(syscall.EIO)},
		{"hung", fuse.Dir(), func() func() {
			release := make(chan struct{})
			let := sync.OnceFunc(func() { close(release) })
			t.Cleanup(let)
			fuse.Hook(func(op, _ string) syscall.Errno {
				if op == "write" || op == "fsync" || op == "create" {
					<-release
				}
				return 0
			})
			return func() {
				fuse.Hook(nil)
				let()
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) { spoolInTrouble(t, c.dir, c.fault) })
	}
}

func spoolInTrouble(t *testing.T, dir string, fault func() (undo func())) {
	const fileTimeout = time.Second
	nats := servertest.NATSProcess(t)
	dataDir := filepath.Join(t.TempDir(), "data")
	spoolDir := filepath.Join(dir, "spool-"+filepath.Base(t.Name()))
	consume := consumeOn(t, nats.URL(), dataDir)
	command := []string{"gateway", "--nats-url", nats.URL(), "--redis-url", "none", "--data-dir", dataDir, "--spool-dir", spoolDir, "--file-timeout", fileTimeout.String(), "--publish-retry-max", "1s"}
	g := startService(t, command...).ready()
	safe := make(sessions)
	nats.Kill9()
	safe.add(g.mustLevel(t, "before", "spooled")) // the disk is open and in use

	undo := fault()
	var took durations
	large, _ := g.mustPost(t, "large", strings.Repeat("a turn that is larger than what is left of a block ", 1000), "answer")
	eventually(t, startSoon, "it is said that nothing can be spooled", func() error {
		if !g.spoolBlocked() {
			return errors.New("it is not")
		}
		return nil
	})
	buffered := []turn{large}
	for n := range 50 {
		w, d := g.mustPost(t, "during", fmt.Sprint("question ", n), "answer")
		took = append(took, d)
		buffered = append(buffered, w)
	}
	for _, w := range buffered {
		if level := g.level(w); level != "buffered" {
			t.Errorf("%s: turn %s is called %q while nothing can be spooled", noLoss, w.ID, level)
		}
	}
	nats.Restart()
	eventually(t, healed, "turns are stored though nothing can be spooled", func() error {
		for _, w := range buffered {
			if level := g.level(w); level != "stored" && level != "written" {
				return fmt.Errorf("turn %s is %s", w.ID, level)
			}
		}
		return nil
	})
	safe.add(buffered...)
	nats.Kill9()
	undo()
	safe.add(g.mustLevel(t, "after", "spooled"))
	if took.at(.8) > fileTimeout/2 || took.at(1) > 10*fileTimeout { // one that waits for the disk waits for a bound, and so do all
		t.Errorf("%s: POST took %v while nothing can be spooled", inTime, took)
	}
	g.kill9()
	nats.Restart()
	g = startService(t, command...).ready()
	right := eventually(t, healed, "every turn that was called safe is in its document", func() error { return wantIn(dataDir, safe) })
	t.Logf("POST %v; never spooled meanwhile; spooled again when healed; after kill -9 all %d turns in documents within %v", took, safe.count(), right.Round(time.Millisecond))
	g.stop()
	consume.stop()
}

// The disk of transcripts hangs under a gateway. Turns are taken as before, histories come
// from the stream within their bound and say that they are degraded, requests that wait are
// bounded, and everything is right when it goes on.
func TestTranscriptsHangUnderTheGateway(t *testing.T) {
	const (
		historyBound = 6 * time.Second
		slack        = 5 * time.Second // of a machine that others use
		readers      = 20
		more         = 300 // goroutines beside those of a healthy process
	)
	nats := servertest.NATSProcess(t)
	disk := faults.NewForgetful(t)
	dataDir := filepath.Join(disk.Dir(), "data")
	consume := consumeOn(t, nats.URL(), dataDir)
	g := startService(t, "gateway", "--nats-url", nats.URL(), "--redis-url", "none", "--data-dir", dataDir,
		"--spool-dir", filepath.Join(t.TempDir(), "spool"), "--file-timeout", "1s", "--history-timeout", historyBound.String()).ready()
	said := make(sessions)
	names := namesOf("hung-%d", 8)
	post := func() (took durations) {
		for n := range 5 {
			for _, name := range names {
				w, d := g.mustPost(t, name, fmt.Sprintf("question %d of %s", n, name), "answer")
				said.add(w)
				took = append(took, d)
			}
		}
		return took
	}
	before := post()
	wantHealed(t, dataDir, said, "before the fault")
	if h, _ := g.history(t, names[0]); h.Source != "file" || h.Degraded || h.is(said[names[0]]) != nil {
		t.Errorf("history before the fault: %+v", h)
	}
	goroutines, _ := strconv.Atoi(g.metric("go_goroutines"))

	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let)
	var hung atomic.Int64
	disk.Hook(func(op, path string) syscall.Errno {
		if strings.HasSuffix(path, ".json") || strings.HasSuffix(path, ".tail") {
			hung.Add(1)
			<-release
		}
		return 0
	})
	during := post()
	wantUnready(t, consume, "the disk of transcripts hangs")
	var mu sync.Mutex
	var waited durations
	wrong, sources := 0, make(map[string]int)
	var clients sync.WaitGroup
	until := time.Now().Add(choose(4*time.Second, 20*time.Second))
	for i := range readers {
		clients.Go(func() {
			for time.Now().Before(until) {
				began := time.Now()
				status, body, err := g.get("/v1/sessions/" + names[i%len(names)] + "/history")
				mu.Lock()
				waited = append(waited, time.Since(began))
				text := string(body)
				switch {
				case err != nil || status != 200:
					wrong++
				case !strings.Contains(text, `"degraded":true`), !strings.Contains(text, `"source":"stream"`), !strings.Contains(text, "question 4 of "+names[i%len(names)]):
					sources[text[:min(len(text), 200)]]++
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	most, _ := strconv.Atoi(g.metric("go_goroutines"))
	if wrong > 0 || len(sources) > 0 {
		t.Errorf("%s: of %d histories %d were not given, and others were not degraded ones of the stream: %v", honestCache, len(waited), wrong, sources)
	}
	if waited.at(1) > historyBound+slack {
		t.Errorf("%s: a history took %v, the bound is %v", inTime, waited.at(1), historyBound)
	}
	if during.at(.95) > 20*before.at(.95)+slack {
		t.Errorf("%s: POST took %v, before %v", inTime, during, before)
	}
	if goroutines == 0 || most > goroutines+more {
		t.Errorf("%s: %d goroutines, %d before", inTime, most, goroutines)
	}
	disk.Hook(nil)
	let()
	right := wantHealed(t, dataDir, said, "after the disk of transcripts hung")
	eventually(t, healed, "histories come from the file again", func() error {
		h, _ := g.history(t, names[0])
		if h.Source != "file" || h.Degraded {
			return fmt.Errorf("source %s, degraded %v", h.Source, h.Degraded)
		}
		return h.is(said[names[0]])
	})
	t.Logf("%d file operations hung → POST %v (before %v); %d histories from the stream in %v; %d goroutines (before %d); right %v after", hung.Load(), during, before, len(waited), waited, most, goroutines, right.Round(time.Millisecond))
	g.stop()
	consume.stop()
}
