package acceptance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// serve starts everything in one process, on free ports.
func serve(t *testing.T, dataDir string, more ...string) *service {
	t.Helper()
	return startService(t, append([]string{"serve", "--data-dir", dataDir,
		"--embedded-nats", "127.0.0.1:0", "--embedded-redis", "127.0.0.1:0"}, more...)...).ready()
}

// writers are clients that post turns until they are told to stop.
type writers struct {
	work sync.WaitGroup
	stop chan struct{}

	mu       sync.Mutex
	accepted sessions  // what was answered 202
	unknown  int       // requests without an answer
	refused  []error   // other answers
	took     durations // by answers
	order    [][]turn  // what each client posted, in order
}

// write starts clients; client i posts to session sessionOf(i, n) as its n-th turn.
func write(t *testing.T, a *api, clients int, pause time.Duration, sessionOf func(client, n int) string) *writers {
	w := &writers{stop: make(chan struct{}), accepted: make(sessions), order: make([][]turn, clients)}
	for i := range clients {
		w.work.Go(func() {
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for n := 0; ; n++ {
				text := fmt.Sprintf("client %d turn %d ", i, n)
				posted, took, err := a.post(context.Background(), sessionOf(i, n), text+"“?”", text+"\u2028<ok> 👍")
				w.note(i, posted, took, err)
				select {
				case <-w.stop:
					return
				case <-tick.C:
				}
			}
		})
	}
	t.Cleanup(w.end)
	return w
}

func (w *writers) note(client int, posted turn, took time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var r *refusal
	switch {
	case err == nil:
		w.accepted.add(posted)
		w.order[client] = append(w.order[client], posted)
		w.took = append(w.took, took)
	case errors.As(err, &r):
		w.refused = append(w.refused, err)
	default:
		w.unknown++
	}
}

func (w *writers) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.took)
}

// end stops the clients and waits for their last answers.
func (w *writers) end() {
	select {
	case <-w.stop:
	default:
		close(w.stop)
	}
	w.work.Wait()
}

// wantOrder checks that timestamps of a client's turns in one session are in the
// order in which it posted them.
func (w *writers) wantOrder(t *testing.T) {
	t.Helper()
	for client, turns := range w.order {
		last := make(map[string]string)
		for _, p := range turns {
			if p.Timestamp <= last[p.Session] {
				t.Errorf("client %d posted a turn at %s after one at %s", client, p.Timestamp, last[p.Session])
			}
			last[p.Session] = p.Timestamp
		}
	}
}

// Fifty clients write, two of them to each session, while other programs read.
func TestReadersWhileFiftyWritersRun(t *testing.T) {
	const clients = 50
	dataDir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dataDir)
	seen := observe(t, dataDir, 2)
	w := write(t, &s.api, clients, choose(100*time.Millisecond, 50*time.Millisecond), func(client, _ int) string { return fmt.Sprintf("writers-%d", client/2) })
	spread(t, choose(10*time.Second, time.Minute))
	w.end()
	// A document over 256 KiB, as there are after a minute, may wait to be folded until its tail is a minute old.
	took := wantDocuments(t, choose(startSoon, transcript.DefaultLargeAge+startSoon), dataDir, w.accepted)
	seen.end(t)
	if len(w.refused)+w.unknown > 0 {
		t.Errorf("%d turns were refused and %d not answered: %v", len(w.refused), w.unknown, w.refused)
	}
	w.wantOrder(t)
	wantNothingElse(t, dataDir, w.accepted)
	t.Logf("%s, %d HTTP clients → POST: %v", s, clients, w.took)
	t.Logf("of these the gateway itself took %s; the rest is the clients and readers beside it, on the same cores", s.posts())
	t.Logf("all %d turns are in %d documents, each once and in order, %v after the last answer", w.accepted.count(), len(w.accepted), took.Round(time.Millisecond))
	s.stop()
}

// posts is how long the gateway took for POSTs, by its own figures.
func (s *service) posts() string {
	const name, labels = "afterword_http_request_duration_seconds", `method="POST",route="/v1/sessions/{id}/turns"`
	all, _ := strconv.ParseFloat(s.metric(name+"_count{"+labels+"}"), 64)
	var shares []string
	for _, bound := range []string{"0.001", "0.01", "0.05", "0.25"} {
		n, _ := strconv.ParseFloat(s.metric(name+"_bucket{"+labels+`,le="`+bound+`"}`), 64)
		shares = append(shares, fmt.Sprintf("at most %s s for %.1f %%", bound, 100*n/all))
	}
	return strings.Join(shares, ", ")
}

// spread lets load run for a while. Nothing depends on how long that is.
func spread(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// Ctrl-C under load: what was answered is in the stream by the time the process
// has ended, and in documents after the next start.
func TestInterruptUnderLoad(t *testing.T) {
	const drain = 20 * time.Second // the default of --drain-timeout
	rnd := random(t)
	dataDir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dataDir)
	w := write(t, &s.api, 30, 30*time.Millisecond, func(client, _ int) string { return fmt.Sprintf("interrupted-%d", client%20) })
	spread(t, 3*time.Second+time.Duration(rnd.IntN(2000))*time.Millisecond)
	before := w.count()
	s.signal(syscall.SIGINT)
	code, took := s.wait(drain + 5*time.Second)
	w.end()
	if code != 0 {
		t.Errorf("exit code %d after SIGINT", code)
	}
	if took > drain {
		t.Errorf("it took %v to end, the drain bound is %v", took, drain)
	}
	t.Logf("%s, SIGINT with 30 clients posting → exit code %d after %v; %d turns answered 202 (%d of them after the signal), %d answered otherwise, %d not at all",
		s, code, took.Round(time.Millisecond), len(w.took), len(w.took)-before, len(w.refused), w.unknown)

	again := serve(t, dataDir)
	late := eventually(t, time.Minute, "every turn that was answered 202 is in its document", func() error {
		return wantIn(dataDir, w.accepted)
	})
	w.wantOrder(t)
	t.Logf("after the restart → all %d turns that were answered 202 are in documents, within %v", w.accepted.count(), late.Round(time.Millisecond))
	again.stop()
}

// wantIn checks that turns are in their documents, as they were sent. Others may
// be there too: requests without an answer.
func wantIn(dataDir string, want sessions) error {
	for session, turns := range want {
		d, err := readDocument(documentPath(dataDir, session))
		if err != nil {
			return fmt.Errorf("session %s: %w", session, err)
		}
		have := make(map[string]exchange)
		for _, m := range d.Messages {
			have[m.Timestamp+" "+m.ID] = exchange{m.User, m.Assistant}
		}
		for _, w := range turns {
			if have[w.Timestamp+" "+w.ID] != (exchange{w.User, w.Assistant}) {
				return fmt.Errorf("session %s: turn %s is not in its document", session, w.ID)
			}
		}
	}
	return nil
}
