package console

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/status"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 30 * time.Second
	secret   = "lavender-in-october" // in what was said, and nowhere else
)

// world is a console with a real stream, Redis, store and consumer behind it.
type world struct {
	t     *testing.T
	nats  *servertest.NATSServer
	js    jetstream.JetStream
	redis *servertest.RedisServer
	cache *cache.Redis
	store *transcript.Store
	logs  *logs
	base  string // URL of the server
}

func newWorld(t *testing.T, set func(*Config)) *world {
	t.Helper()
	w := &world{t: t, nats: servertest.NATS(t), redis: servertest.Redis(t), logs: &logs{}}
	nc, err := stream.Connect(t.Context(), stream.Config{URL: w.nats.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	if err := stream.Ensure(t.Context(), w.js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	if w.store, err = transcript.Open(transcript.Config{Dir: filepath.Join(t.TempDir(), "transcripts")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close(context.Background()) })
	if w.cache, err = cache.New(patientCache(w.redis.URL())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.cache.Close() })
	feed, err := live.New(live.Config{JS: w.js})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { feed.Close(context.Background()) })
	gatherer, err := status.New(status.Config{
		NATSURL: w.nats.URL(), Redis: w.cache,
		Connect: func(context.Context) (jetstream.JetStream, error) { return w.js, nil },
		Open:    func() (*transcript.Store, error) { return w.store, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		JS: w.js, Store: func() *transcript.Store { return w.store }, Cache: w.cache, Feed: feed, Status: gatherer, Scratch: t.TempDir(),
		Writable: func() (*transcript.Store, func(context.Context) error, error) {
			return w.store, func(context.Context) error { return nil }, nil
		},
		Version: "v1.2.3", Logger: slog.New(slog.NewTextHandler(w.logs, nil)),
		SampleEvery: 100 * time.Millisecond, IdleEvery: 200 * time.Millisecond, ReportEvery: 300 * time.Millisecond, Quiet: 50 * time.Millisecond,
	}
	if set != nil {
		set(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.run(c.Run)
	guard, served := httpio.NewGuard(nil, nil), c.Around(http.NotFoundHandler())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := guard.Check(w, r, false); p != nil {
			p.Write(w)
			return
		}
		served.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	w.base = srv.URL
	t.Cleanup(func() {
		if strings.Contains(w.logs.String(), secret) {
			t.Error("something of what was said is in the log")
		}
	})
	return w
}

// patientCache is the configuration of a cache that takes no busy machine for an outage.
func patientCache(url string) cache.Config {
	return cache.Config{URL: url, Key: []byte("a key of this test, and of no other one"), OpTimeout: patience, DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience}
}

// run runs something until the test ends.
func (w *world) run(fn func(context.Context) error) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// consume writes what is published.
func (w *world) consume() (stop func()) {
	w.t.Helper()
	c, err := consumer.New(consumer.Config{JS: w.js, Store: w.store, Host: "host-a", Version: "v1.2.2"})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.run(c.Run)
}

// publish puts a turn into the stream.
func (w *world) publish(session, id string) {
	w.t.Helper()
	w.raw(session, fmt.Sprintf(`{"id":%q,"session_id":%q,"timestamp":"2026-01-31T12:00:00Z","user":"Is it %s?","assistant":"It is.","model":"small-1"}`, id, session, secret))
}

func (w *world) raw(session, payload string) {
	w.t.Helper()
	if _, err := w.js.Publish(w.t.Context(), stream.TurnSubject(session), []byte(payload)); err != nil {
		w.t.Fatal(err)
	}
}

// forge stores a dead letter that no consumer made, and returns its sequence.
func (w *world) forge(session string) uint64 {
	w.t.Helper()
	ack, err := w.js.PublishMsg(w.t.Context(), &nats.Msg{
		Subject: stream.DeadPrefix + consumer.DefaultGroup,
		Data:    fmt.Appendf(nil, `{"session_id":%q,"id":"x","timestamp":"2026-01-31T12:00:00Z","user":"u"}`, session),
		Header:  nats.Header{stream.HeaderSubject: {stream.TurnSubject(session)}, stream.HeaderStreamSeq: {"1"}, stream.HeaderReason: {"user is missing"}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return ack.Sequence
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

func (w *world) get(path string, header ...string) *answer {
	w.t.Helper()
	return w.do(http.MethodGet, path, "", header...)
}

func (w *world) post(path, body string, header ...string) *answer {
	w.t.Helper()
	return w.do(http.MethodPost, path, body, append([]string{"Content-Type", "application/json"}, header...)...)
}

// do sends a request to the console. header alternates names and values.
func (w *world) do(method, path, body string, header ...string) *answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.base+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	client := http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return &answer{w.t, res.StatusCode, res.Header, string(text)}
}

// is checks the status, and that an error is a problem document with a detail that holds a part.
func (a *answer) is(status int, detail ...string) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if status < 400 {
		return a
	}
	var p problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || a.header.Get("Content-Type") != "application/problem+json" || p.Status != status || p.Detail == "" {
		a.t.Fatalf("no problem document: %s (%v)", a.body, err)
	}
	for _, part := range detail {
		if !strings.Contains(p.Detail, part) {
			a.t.Errorf("the detail %q does not say %q", p.Detail, part)
		}
	}
	return a
}

func (a *answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
}

// logs is what was logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
