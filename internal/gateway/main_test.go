package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// world is a gateway on a listener of its own, with a real stream, publisher,
// store and history behind it.
type world struct {
	t     *testing.T
	nats  *servertest.NATSServer
	js    jetstream.JetStream
	pub   *publisher.Publisher
	store *transcript.Store
	feed  *live.Feed
	reg   *prometheus.Registry
	logs  *logs

	addr string
	stop func() error // stops Serve and returns what it said
	seen int          // messages of the stream that consume has had
}

func newWorld(t *testing.T, set func(*Config, *publisher.Config)) *world {
	t.Helper()
	return newLiveWorld(t, set, nil)
}

// newLiveWorld is newWorld with a say in how turns are shown.
func newLiveWorld(t *testing.T, set func(*Config, *publisher.Config), setLive func(*live.Config)) *world {
	t.Helper()
	w := &world{t: t, nats: servertest.NATS(t), reg: prometheus.NewRegistry(), logs: &logs{}}
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

	cfg := Config{Registry: w.reg, Logger: slog.New(slog.NewJSONHandler(w.logs, nil)), Store: w.store}
	pcfg := publisher.Config{Conn: w.js.Conn(), RetryMin: 10 * time.Millisecond, RetryMax: 100 * time.Millisecond}
	if set != nil {
		set(&cfg, &pcfg)
	}
	lcfg := live.Config{JS: w.js}
	if setLive != nil {
		setLive(&lcfg)
	}
	if w.pub, err = publisher.New(pcfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		w.pub.Close(ctx)
	})
	if cfg.Publisher == nil {
		cfg.Publisher = w.pub
	}
	if cfg.History == nil {
		h, err := cache.NewHistory(cache.HistoryConfig{File: w.store, Pending: w.pub, Observe: w.pub.Observe})
		if err != nil {
			t.Fatal(err)
		}
		cfg.History = h
	}
	if w.feed, err = live.New(lcfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.feed.Close(context.Background()) })
	cfg.Events = w.feed
	w.addr, w.stop = serve(t, New(cfg))
	return w
}

// serve runs a gateway on a free port until the test ends.
func serve(t *testing.T, g *Gateway) (addr string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(ctx, ln) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String(), stop
}

// answer is what came back.
type answer struct {
	t      *testing.T
	status int
	header http.Header
	body   []byte
}

// do sends a request; path goes out as it is. header alternates names and values.
func (w *world) do(method, path, body string, header ...string) *answer {
	w.t.Helper()
	return do(w.t, w.addr, method, path, body, header...)
}

func do(t *testing.T, addr, method, path, body string, header ...string) *answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body == "" {
		req.Body = nil
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	client := http.Client{Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	a := &answer{t, res.StatusCode, res.Header, all}
	conforms(t, method, path, a)
	return a
}

// post sends a turn.
func (w *world) post(session, turn string, header ...string) *answer {
	w.t.Helper()
	return w.do("POST", sessionPath(session)+"/turns", turn, append([]string{"Content-Type", "application/json"}, header...)...)
}

func sessionPath(session string) string { return "/v1/sessions/" + percent(session) }

// percent encodes every byte that is not a letter, a digit, - or _.
func percent(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(string("0123456789abcdef"[c>>4])+string("0123456789abcdef"[c&15])))
		}
	}
	return b.String()
}

// want checks the status and returns the answer.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %.300s", a.status, status, a.body)
	}
	return a
}

// into decodes the answer.
func (a *answer) into(v any) {
	a.t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/json" {
		a.t.Errorf("Content-Type %q", got)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%v: %.300s", err, a.body)
	}
}

// problem checks that the answer is a problem document about member.
func (a *answer) problem(status int, member string) problem {
	a.t.Helper()
	a.want(status)
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		a.t.Errorf("Content-Type %q", got)
	}
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		a.t.Fatalf("%v: %.300s", err, a.body)
	}
	if p.Status != status || p.Type == "" || p.Title == "" || p.Member != member {
		a.t.Errorf("problem %s, want status %d and member %q", a.body, status, member)
	}
	if retry := a.header.Get("Retry-After"); (retry != "") != (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) {
		a.t.Errorf("status %d with Retry-After %q", status, retry)
	}
	return p
}

type turnView struct {
	SessionID string `json:"session_id"`
	accepted
	User      string `json:"user"`
	Assistant string `json:"assistant"`
}

type historyView struct {
	SessionID string     `json:"session_id"`
	Source    string     `json:"source"`
	Degraded  *bool      `json:"degraded"`
	Revision  *int64     `json:"revision"`
	Turns     []turnView `json:"turns"`
}

func (w *world) history(session, query string) historyView {
	w.t.Helper()
	var h historyView
	w.do("GET", sessionPath(session)+"/history"+query, "").want(http.StatusOK).into(&h)
	if h.Turns == nil || h.Degraded == nil || h.Revision == nil {
		w.t.Errorf("history %+v lacks a member", h)
	}
	return h
}

// consume brings everything in the stream to the store.
func (w *world) consume() {
	w.t.Helper()
	ctx := w.t.Context()
	servertest.Eventually(w.t, patience, "an empty buffer", func() bool { return w.pub.Stats().Turns == 0 })
	s, err := w.js.Stream(ctx, stream.Turns)
	if err != nil {
		w.t.Fatal(err)
	}
	for seq := w.seen + 1; seq <= int(s.CachedInfo().State.LastSeq); seq++ {
		m, err := s.GetMsg(ctx, uint64(seq))
		if err != nil {
			w.t.Fatal(err)
		}
		turn, err := transcript.Decode(m.Data, 0)
		if err != nil {
			w.t.Fatal(err)
		}
		if m.Subject != stream.TurnSubject(turn.SessionID) {
			w.t.Errorf("a turn of %q is on %s", turn.SessionID, m.Subject)
		}
		if err := w.store.Append(ctx, turn); err != nil {
			w.t.Fatal(err)
		}
		w.seen = seq
	}
}

// Turn looks for a turn in the stream, message by message.
func (w *world) Turn(ctx context.Context, session, id string) (found transcript.Snapshot, ok bool, err error) {
	s, err := w.js.Stream(ctx, stream.Turns)
	if err != nil {
		return found, false, err
	}
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(ctx, seq)
		if err != nil {
			return found, false, err
		}
		t, err := transcript.Decode(m.Data, 0)
		if err != nil {
			return found, false, err
		}
		if t.SessionID == session && t.ID == id && (!ok || t.Beats(&found)) {
			found, ok = t, true
		}
	}
	return found, ok, nil
}

// logs is a log in memory.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func mustParse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.ParseRequestURI(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
