package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

func TestMain(m *testing.M) {
	LogClient(nil)
	goleak.VerifyTestMain(m)
}

const patience = 20 * time.Second

var epoch = time.Date(2026, 11, 23, 15, 4, 5, 0, time.UTC)

func snap(t testing.TB, turn transcript.Turn) transcript.Snapshot {
	t.Helper()
	d, err := turn.Draft()
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Snapshot(0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// turn is the n-th turn of a session, answered.
func turn(session string, n int) transcript.Turn {
	return transcript.Turn{
		SessionID: session, ID: fmt.Sprintf("t%04d", n), Timestamp: epoch.Add(time.Duration(n) * time.Second),
		User: fmt.Sprintf("question %d <&> \u2028", n), Assistant: fmt.Sprintf("answer %d \"so\"", n), Meta: map[string]any{"n": n},
	}
}

func turns(t testing.TB, session string, from, to int) []transcript.Snapshot {
	t.Helper()
	var l []transcript.Snapshot
	for n := from; n <= to; n++ {
		l = append(l, snap(t, turn(session, n)))
	}
	return l
}

// recentOf is what a store says of a transcript of these winners.
func recentOf(all []transcript.Snapshot, n int) transcript.Recent {
	session := ""
	if len(all) > 0 {
		session = all[0].SessionID
	}
	doc, err := transcript.MergeAll(session, all...)
	if err != nil {
		panic(err)
	}
	rec, err := doc.Recent(n)
	if err != nil {
		panic(err)
	}
	return rec
}

// store is a transcript store in memory.
type store struct {
	mu       sync.Mutex
	sessions map[string]map[string]transcript.Snapshot
	err      error         // of every read
	hang     chan struct{} // reads wait until it is closed, whatever their context says
	reads    int
	partial  bool // it has lost turns, nobody knows of which sessions
}

// noFiles is a machine without transcripts.
type noFiles struct{}

func (noFiles) Path(context.Context, string, transcript.PathQuery) (transcript.Recent, error) {
	return transcript.Recent{}, transcript.ErrNoTranscripts
}

func (s *store) trim() {
	s.mu.Lock()
	s.partial = true
	s.mu.Unlock()
}

func newStore() *store { return &store{sessions: make(map[string]map[string]transcript.Snapshot)} }

func (s *store) put(snaps ...transcript.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range snaps {
		m := s.sessions[n.SessionID]
		if m == nil {
			m = make(map[string]transcript.Snapshot)
			s.sessions[n.SessionID] = m
		}
		if old, ok := m[n.ID]; !ok || n.Beats(&old) {
			m[n.ID] = n
		}
	}
}

func (s *store) fail(err error) {
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
}

func (s *store) all(session string) []transcript.Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.sessions[session]), func(a, b transcript.Snapshot) int { return a.Compare(&b) })
}

func (s *store) Path(_ context.Context, session string, q transcript.PathQuery) (transcript.Recent, error) {
	s.mu.Lock()
	err, hang, partial := s.err, s.hang, s.partial
	s.reads++
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if err != nil {
		return transcript.Recent{}, err
	}
	all := s.all(session)
	switch {
	case len(all) == 0 && partial:
		return transcript.Recent{}, fmt.Errorf("%w: %w", transcript.ErrNoSession, transcript.ErrPartial)
	case len(all) == 0:
		return transcript.Recent{}, transcript.ErrNoSession
	}
	doc, err := transcript.MergeAll(session, all...)
	if err != nil {
		return transcript.Recent{}, err
	}
	rec, err := doc.Path(q)
	rec.Partial = partial
	return rec, err
}

var errDisk = errors.New("disk on fire")

// patient has bounds that a busy machine does not reach, for tests of what is
// done and not of how long it takes.
func patient(url string) Config {
	const long = 20 * time.Second
	return Config{URL: url, Key: testKey, OpTimeout: 2 * long, DialTimeout: long, ReadTimeout: long, WriteTimeout: long, PoolTimeout: long}
}

var testKey = []byte("a key that all of a test's processes have")

func newRedis(t testing.TB, cfg Config) *Redis {
	t.Helper()
	if cfg.Key == nil {
		cfg.Key = testKey
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// bare is a client to look at keys with.
func bare(t testing.TB, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() { c.Close() })
	return c
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	servertest.Eventually(t, patience, what, ok)
}

func within(t testing.TB, d time.Duration, what string, fn func()) {
	t.Helper()
	start := time.Now()
	fn()
	if took := time.Since(start); took > d {
		t.Errorf("%s took %s, more than %s", what, took, d)
	}
}

// ids are the ids of turns, for messages.
func ids(l []transcript.Snapshot) (s []string) {
	for i := range l {
		s = append(s, fmt.Sprintf("%s/%d", l[i].ID, l[i].Rev))
	}
	return s
}

func sameTurns(t testing.TB, got, want []transcript.Snapshot) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got turns %v, want %v", ids(got), ids(want))
	}
	for i := range got {
		if string(got[i].Payload()) != string(want[i].Payload()) {
			t.Fatalf("got turns %v, want %v: turn %d is\n%s\nnot\n%s", ids(got), ids(want), i, got[i].Payload(), want[i].Payload())
		}
	}
}
