package acceptance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/servertest"
)

// The failures of the older system, each with everything that took part in it.
// The first, ten concurrent turns of one session, is a test of the transcript store.

const shortFileTimeout = time.Second

// older is a system with one session that has a past.
type older struct {
	t                *testing.T
	dataDir          string
	nats             *servertest.NATSNode
	server           *servertest.RedisServer
	redis            redis.UniversalClient
	consume, gateway *service
	said             sessions
}

const past = "the-past" // the session

// newOlder starts everything, the gateway as on another machine, without the
// files, and has 20 turns said.
func newOlder(t *testing.T) *older {
	t.Helper()
	o := &older{t: t, dataDir: filepath.Join(t.TempDir(), "data"), nats: servertest.NATSProcess(t), server: servertest.Redis(t), said: make(sessions)}
	o.redis = openRedis(t, o.server.Addr())
	o.consume = startService(t, "consume", "--nats-url", o.nats.URL(), "--redis-url", o.server.URL(), "--data-dir", o.dataDir,
		"--file-timeout", shortFileTimeout.String(), "--ack-wait", "7s").ready()
	o.gateway = startService(t, "gateway", "--nats-url", o.nats.URL(), "--redis-url", o.server.URL(), "--data-dir", t.TempDir()).ready()
	o.say(past, 20)
	wantDocuments(t, startSoon, o.dataDir, o.said)
	wantRedis(t, startSoon, o.redis, o.said)
	return o
}

// say posts turns of a session, one after the other.
func (o *older) say(session string, n int) {
	o.t.Helper()
	for range n {
		text := fmt.Sprint("turn ", len(o.said[session]))
		w, _ := o.gateway.mustPost(o.t, session, text, "answer to "+text)
		o.said.add(w)
	}
}

// only are the turns of one session.
func (o *older) only(session string) sessions { return sessions{session: o.said[session]} }

// wantUnchanged checks that the document still holds the first n turns, and nothing less.
func (o *older) wantUnchanged(n int) {
	o.t.Helper()
	got := readFile(o.t, documentPath(o.dataDir, past))
	if want := string(render(past, o.said[past][:n])); got != want {
		o.t.Errorf("the document has changed:\n%s", firstDifference(got, want))
	}
}

// watchRedis polls what existing chat services read, until the test or stop ends
// it: at any moment it is ten consecutive turns of the session, never fewer.
func (o *older) watchRedis() (stop func()) {
	client := redis.NewClient(&redis.Options{Addr: o.server.Addr(), MaxRetries: -1, ReadTimeout: 500 * time.Millisecond})
	end := make(chan struct{})
	var work sync.WaitGroup
	var wrong []string
	hits, last := 0, 0
	work.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			if value, err := client.Get(o.t.Context(), "chat:conversation:"+past).Result(); err == nil {
				hits++
				from, ok := window(value)
				if !ok || from < last {
					wrong = append(wrong, value)
				}
				last = max(last, from)
			} else if errors.Is(err, redis.Nil) {
				wrong = append(wrong, "nothing")
			}
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	})
	stop = sync.OnceFunc(func() {
		close(end)
		work.Wait()
		client.Close()
		if len(wrong) > 0 {
			o.t.Errorf("Redis held %d times what was never true, or older than before, as in %.300s", len(wrong), wrong[0])
		}
		o.t.Logf("Redis was read %d times meanwhile: always ten consecutive turns, never older ones than before", hits)
	})
	o.t.Cleanup(stop)
	return stop
}

// window returns the number of the first turn of ten consecutive ones.
func window(value string) (first int, ok bool) {
	var turns []exchange
	if json.Unmarshal([]byte(value), &turns) != nil || len(turns) != 10 {
		return 0, false
	}
	if _, err := fmt.Sscanf(turns[0].User, "turn %d", &first); err != nil {
		return 0, false
	}
	for i, w := range turns {
		text := fmt.Sprint("turn ", first+i)
		if w != (exchange{text, "answer to " + text}) {
			return 0, false
		}
	}
	return first, true
}

// In the older system a write read the transcript first; when that read timed
// out, it was taken for an empty transcript, and saved over the full one.
func TestOlderSystemReadThatTimesOutDuringAWrite(t *testing.T) {
	t.Run("the document cannot be read", func(t *testing.T) {
		o := newOlder(t)
		reader := startService(t, "gateway", "--nats-url", o.nats.URL(), "--redis-url", "none", "--data-dir", o.dataDir,
			"--file-timeout", shortFileTimeout.String()).ready()
		stop := o.watchRedis()
		seen := observe(t, o.dataDir, 1)

		h := hangReads(t, documentPath(o.dataDir, past))
		began := time.Now()
		o.say(past, 1)
		eventually(t, startSoon, "the write waits for the document", func() error {
			if h.waits() == 0 {
				return errors.New("nobody reads it")
			}
			return nil
		})
		o.say(past, 4)
		o.say("neighbour", 12)
		wantDocuments(t, startSoon, o.dataDir, o.only("neighbour"))
		wantRedis(t, startSoon, o.redis, o.only("neighbour"))
		for first := true; first || time.Since(began) < 4*shortFileTimeout; first = false {
			got, took := reader.history(t, past)
			if err := got.is(o.said[past]); got.Source != "stream" || !got.Degraded || err != nil {
				t.Errorf("history: source %s, degraded %v, %v", got.Source, got.Degraded, err)
			}
			if took > 6*shortFileTimeout { // without that bound it is the 7 s of a history
				t.Errorf("a history took %v", took)
			}
			o.say(past, 1)
			o.wantUnchanged(20)
		}
		t.Logf("reads of the document hang for %v (%d reads, --file-timeout %v) → the document stays as it was, the neighbour is written, histories come from the stream, degraded",
			time.Since(began).Round(time.Millisecond), h.held, shortFileTimeout)

		h.release()
		took := wantDocuments(t, healed, o.dataDir, o.said)
		inRedis := wantRedis(t, healed, o.redis, o.said)
		t.Logf("released → all %d turns are in the document after %v, in Redis %v later", len(o.said[past]), took.Round(time.Millisecond), inRedis.Round(time.Millisecond))
		stop()
		seen.end(t)
	})
	t.Run("another process holds the session", func(t *testing.T) {
		o := newOlder(t)
		stop := o.watchRedis()
		seen := observe(t, o.dataDir, 1)
		tail, err := os.OpenFile(strings.TrimSuffix(documentPath(o.dataDir, past), ".json")+".tail", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer tail.Close()
		if err := unix.Flock(int(tail.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for first := true; first || time.Since(began) < 4*shortFileTimeout; first = false {
			o.say(past, 1)
			o.say("neighbour", 1)
			wantDocuments(t, startSoon, o.dataDir, o.only("neighbour"))
			o.wantUnchanged(20)
		}
		t.Logf("flock of the tail is held for %v → the document stays as it was, the neighbour is written", time.Since(began).Round(time.Millisecond))
		if err := unix.Flock(int(tail.Fd()), unix.LOCK_UN); err != nil {
			t.Fatal(err)
		}
		took := wantDocuments(t, healed, o.dataDir, o.said)
		wantRedis(t, healed, o.redis, o.said)
		t.Logf("released → all %d turns are in the document after %v", len(o.said[past]), took.Round(time.Millisecond))
		stop()
		seen.end(t)
	})
}

// In the older system a history read that timed out counted as a session without
// a past; the next save then wrote that to Redis, where it was the truth for a day.
func TestOlderSystemTimedOutHistoryReadFollowedByASave(t *testing.T) {
	o := newOlder(t)
	stop := o.watchRedis()
	seen := observe(t, o.dataDir, 1)
	const bound = 7 * time.Second // the default of --history-timeout

	o.server.Hang()
	h, took := o.gateway.history(t, past)
	if err := h.is(o.said[past]); h.Source != "stream" || !h.Degraded || err != nil {
		t.Errorf("Redis hangs: source %s, degraded %v, %v", h.Source, h.Degraded, err)
	}
	t.Logf("Redis hangs → history from the %s, degraded %v, after %v", h.Source, h.Degraded, took.Round(time.Millisecond))
	o.say(past, 1)

	o.nats.Kill9()
	var worst time.Duration
	for range 3 {
		h, took = o.gateway.history(t, past)
		worst = max(worst, took)
		if h.Source != "none" || !h.Degraded {
			t.Errorf("nobody can answer: source %s, degraded %v", h.Source, h.Degraded)
		}
		for _, w := range h.Turns { // what it accepted itself, it may show
			if !slices.ContainsFunc(o.said[past], func(s turn) bool { return s.ID == w.ID }) {
				t.Errorf("history invents turn %v", w)
			}
		}
		o.say(past, 1) // the save
	}
	if worst > bound+5*time.Second {
		t.Errorf("a history took %v, the bound is %v", worst, bound)
	}
	t.Logf("Redis hangs and NATS is gone → history says source none, degraded, within %v; turns are accepted", worst.Round(time.Millisecond))

	o.server.Resume()
	spread(t, time.Second) // Redis answers, and nothing else
	h, _ = o.gateway.history(t, past)
	t.Logf("Redis answers again → source %s, degraded %v, %d turns", h.Source, h.Degraded, len(h.Turns))
	o.nats.Restart()
	inFiles := wantDocuments(t, healed, o.dataDir, o.said)
	inRedis := wantRedis(t, healed, o.redis, o.said)
	eventually(t, healed, "the history is whole", func() error {
		h, _ := o.gateway.history(t, past)
		if h.Source != "redis" || h.Degraded {
			return fmt.Errorf("source %s, degraded %v", h.Source, h.Degraded)
		}
		return h.is(o.said[past])
	})
	t.Logf("both are back → all %d turns are in the document after %v, Redis is right %v later", len(o.said[past]), inFiles.Round(time.Millisecond), inRedis.Round(time.Millisecond))
	stop()
	seen.end(t)
}
