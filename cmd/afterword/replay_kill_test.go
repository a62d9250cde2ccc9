package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

const (
	killTurns    = 4000
	killSessions = 40
	killRate     = 1000 // so that a run is long enough to be killed, by a busy machine too
	killMost     = 20   // runs that are killed; the next one may come to its end
)

// TestKilledReplay kills `replay --resume` at random moments, until one run comes to its
// end or enough were killed. At every kill, the stream is durable in the folder as far as the checkpoint
// says; in the end the bytes are those of a replay that nobody disturbed.
func TestKilledReplay(t *testing.T) {
	srv := servertest.NATS(t)
	publishForKill(t, srv.URL())
	base := t.TempDir()
	calm, killed := filepath.Join(base, "calm"), filepath.Join(base, "killed")
	if out, err := replayProcess(srv.URL(), calm).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	kills, resumed, highest := 0, 0, uint64(0)
	for run := 0; ; run++ {
		cmd := replayProcess(srv.URL(), killed, "--resume", "--checkpoint-every", "50ms", "--rate", fmt.Sprint(killRate), "--json")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if run < killMost && random.IntN(4) > 0 { // else anywhere, the start of the process included
			poll(func() bool { return len(ended) > 0 || checkpointOf(t, killed) != highest })
		}
		delay := time.Duration(random.IntN(300)) * time.Millisecond
		if run >= killMost {
			delay = scriptPatience
		}
		timer := time.AfterFunc(delay, func() { cmd.Process.Kill() })
		err := <-ended
		timer.Stop()
		if run > killMost {
			t.Fatalf("not at the end after %d runs; the checkpoint is at %d", run, highest)
		}
		if err == nil {
			var res struct {
				Turns   uint64 `json:"turns"`
				Resumed uint64 `json:"resumed_after"`
			}
			if err := json.Unmarshal(stdout.Bytes(), &res); err != nil || res.Turns+res.Resumed != killTurns || res.Resumed != highest {
				t.Errorf("the last run: %s %v; the checkpoint was at %d", &stdout, err, highest)
			}
			break
		}
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != -1 {
			t.Fatalf("run %d: %v: %s", run, err, &stderr)
		}
		kills++
		at := checkpointOf(t, killed)
		if at == 0 && highest > 0 { // killed after its end, before it could say so
			checkDurable(t, killed, killTurns)
			highest = 0
		}
		if at < highest {
			t.Fatalf("run %d: the checkpoint went back from %d to %d", run, highest, at)
		}
		if at > highest {
			resumed++
		}
		highest = at
		checkDurable(t, killed, at)
	}
	t.Logf("%d kills, %d of them after a new checkpoint", kills, resumed)
	if resumed == 0 {
		t.Error("no run was killed after a checkpoint")
	}
	if got, want := documentsOf(t, killed), documentsOf(t, calm); !maps.Equal(got, want) || len(got) != killSessions {
		t.Errorf("%d documents that differ from the %d of a calm replay", len(got), len(want))
	}
	left, err := filepath.Glob(filepath.Join(killed, "*", ".*"))
	if err != nil || len(left) > 0 || checkpointOf(t, killed) != 0 {
		t.Errorf("%d files are left behind, %v", len(left), err)
	}
}

func replayProcess(url, into string, args ...string) *exec.Cmd {
	cmd := exec.Command("afterword", append([]string{"replay", "--all", "--into", into, "--nats-url", url}, args...)...)
	cmd.Env = append(os.Environ(), "NATS_URL=", "REDIS_URL=")
	return cmd
}

// publishForKill stores turn n as message n + 1.
func publishForKill(t *testing.T, url string) {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(killTurns))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	for n := range killTurns {
		payload := fmt.Sprintf(`{"session_id":"k%d","id":"t%06d","timestamp":"2026-11-24T12:00:00.%06dZ","user":"question %d"}`, n%killSessions, n, n, n)
		if _, err := js.PublishAsync(stream.TurnSubject(fmt.Sprint("k", n%killSessions)), []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(2 * time.Minute):
		t.Fatal("the turns are not stored")
	}
}

// checkpointOf is the sequence of the checkpoint in a folder, 0 when there is none.
func checkpointOf(t *testing.T, dir string) uint64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	var c struct {
		Sequence uint64 `json:"sequence"`
	}
	if err = errors.Join(err, json.Unmarshal(b, &c)); err != nil {
		t.Fatalf("checkpoint %q: %v", b, err)
	}
	return c.Sequence
}

// checkDurable checks that every message up to a sequence is in its transcript.
func checkDurable(t *testing.T, dir string, upTo uint64) {
	t.Helper()
	if upTo == 0 {
		return
	}
	s, err := transcript.Open(transcript.Config{Dir: dir, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	for k := range min(killSessions, int(upTo)) {
		doc, err := s.Read(t.Context(), fmt.Sprint("k", k))
		if err != nil {
			t.Fatal(err)
		}
		for n := k; n < int(upTo); n += killSessions {
			if _, ok, err := doc.Turn(fmt.Sprintf("t%06d", n)); err != nil || !ok {
				t.Fatalf("the checkpoint is at %d, and turn %d is missing: %v", upTo, n, err)
			}
		}
	}
}

// documentsOf reads the documents of a folder.
func documentsOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	docs := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".json") {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		docs[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}
