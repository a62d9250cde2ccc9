package acceptance

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

const (
	breakerClosed = `afterword_redis_breaker_state{state="closed"}`
	healed        = 45 * time.Second // everything is right so long after a fault at the latest
)

// A Redis that hangs costs nobody anything: not who posts, not the documents,
// and who reads histories waits a bound at first and then not at all.
func TestRedisHangs(t *testing.T) {
	const (
		names   = 40
		posts   = 400
		reads   = 400
		opBound = 2 * time.Second       // the default of --redis-timeout
		fast    = 50 * time.Millisecond // for a history once the breaker is open
	)
	nats, server := servertest.NATSProcess(t), servertest.Redis(t)
	redis := openRedis(t, server.Addr())
	dataDir := filepath.Join(t.TempDir(), "data")
	where := []string{"--nats-url", nats.URL(), "--redis-url", server.URL(), "--data-dir", dataDir}
	consume := startService(t, append([]string{"consume"}, where...)...).ready()
	gateway := startService(t, append([]string{"gateway"}, where...)...).ready()
	session := func(i int) string { return fmt.Sprintf("hang-%d", i%names) }
	said := make(sessions)
	post := func(n int) (took durations) {
		for i := range n {
			text := fmt.Sprint("turn ", len(said[session(i)]))
			w, d := gateway.mustPost(t, session(i), text, "answer to "+text)
			said.add(w)
			took = append(took, d)
		}
		return took
	}

	before := post(posts)
	wantDocuments(t, startSoon, dataDir, said)
	wantRedis(t, startSoon, redis, said)
	for i := range names {
		if h, _ := gateway.history(t, session(i)); h.Source != "redis" || h.Degraded || h.is(said[session(i)]) != nil {
			t.Errorf("history of %s before the fault: %+v", session(i), h)
		}
	}
	t.Logf("redis-server answers → POST: %v", before)

	server.Hang()
	began := time.Now()
	var during durations
	var first durations
	var both sync.WaitGroup
	both.Go(func() { during = post(posts) })
	for gateway.metric(breakerClosed) == "1" {
		h, took := gateway.history(t, session(len(first)))
		if first = append(first, took); h.Source != "file" && h.Source != "stream" || !h.Degraded {
			t.Errorf("history while Redis hangs: source %s, degraded %v", h.Source, h.Degraded)
		}
		if time.Since(began) > startSoon {
			t.Fatal("the circuit breaker does not open")
		}
	}
	opened := time.Since(began)
	both.Wait()
	t.Logf("redis-server SIGSTOP → POST: %v", during)
	t.Logf("redis-server SIGSTOP → GET history until the breaker opened after %v: %v", opened.Round(time.Millisecond), first)
	if first.at(1) >= 2*opBound { // one operation, not two
		t.Errorf("a history took %v, the bound of a Redis operation is %v", first.at(1), opBound)
	}
	if limit := 2*before.at(.99) + 100*time.Millisecond; during.at(.99) > limit {
		t.Errorf("p99 of POST is %v, was %v", during.at(.99), before.at(.99))
	}
	keptUp := wantDocuments(t, startSoon, dataDir, said)
	t.Logf("redis-server SIGSTOP → documents hold all %d turns, %v after the last was posted", said.count(), keptUp.Round(time.Millisecond))

	var open durations
	for i := range reads {
		h, took := gateway.history(t, session(i))
		open = append(open, took)
		if err := h.is(said[session(i)]); err != nil || h.Source != "file" || !h.Degraded {
			t.Fatalf("history of %s: source %s, degraded %v, %v", session(i), h.Source, h.Degraded, err)
		}
	}
	t.Logf("redis-server SIGSTOP, breaker open → GET history from the file: %v", open)
	if open.at(.95) > fast {
		t.Errorf("p95 of histories is %v, want %v", open.at(.95), fast)
	}

	// New sessions too, and then nothing more is said.
	for i := range names {
		w, _ := gateway.mustPost(t, fmt.Sprintf("hung-%d", i), "Anybody here?", "Not Redis.")
		said.add(w)
	}
	wantDocuments(t, startSoon, dataDir, said)
	server.Resume()
	right := wantRedis(t, healed, redis, said)
	t.Logf("redis-server SIGCONT → right for all %d sessions without new turns, after %v", len(said), right.Round(time.Millisecond))
	eventually(t, healed, "histories come from Redis again", func() error {
		h, _ := gateway.history(t, session(0))
		if h.Source != "redis" || h.Degraded {
			return fmt.Errorf("source %s, degraded %v", h.Source, h.Degraded)
		}
		return h.is(said[session(0)])
	})
	gateway.stop()
	consume.stop()
}
