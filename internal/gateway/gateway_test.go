package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/internal/metrics"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

func TestUnknownPathsAndMethods(t *testing.T) {
	w := newWorld(t, nil)
	for _, path := range []string{
		"/", "", "/v1", "/v1/", "/v1/sessions/", "/v1/sessions/s/", "/v1/sessions/s/turns/", "/v1/sessions/s/turns/t/x",
		"/v1/events/", "/openapi", "/healthz/", "//healthz", "/v1/../healthz", "/V1/sessions", "/v1/sessions/a/b/history",
	} {
		status, member := http.StatusNotFound, ""
		if path == "/v1/sessions/s/turns/" {
			status, member = http.StatusBadRequest, "id"
		}
		w.do("GET", path, "").problem(status, member)
	}
	for _, c := range []struct{ method, path, allow string }{
		{"GET", "/v1/sessions/s/turns", "POST"},
		{"PUT", "/v1/sessions/s/turns", "POST"},
		{"POST", "/v1/sessions/s/history", "GET, HEAD"},
		{"DELETE", "/v1/sessions", "GET, HEAD"},
		{"OPTIONS", "/v1/sessions", "GET, HEAD"},
		{"POST", "/metrics", "GET, HEAD"},
		{"BREW", "/healthz", "GET, HEAD"},
		{"DELETE", "/v1/sessions/s/turns/t", "GET, HEAD"},
		{"PATCH", "/v1/sessions/s/transcript", "GET, HEAD"},
		{"OPTIONS", "/v1/turns", "POST"},
		{"TRACE", "/v1/events", "GET, HEAD"},
		{"DELETE", "/readyz", "GET, HEAD"},
		{"PUT", "/openapi.json", "GET, HEAD"},
		{"DELETE", "/v1/sessions/s", ""}, {"GET", "/v1/sessions/s", ""}, {"OPTIONS", "/v1/sessions/a%2Fb", ""},
	} {
		a := w.do(c.method, c.path, "")
		a.problem(http.StatusMethodNotAllowed, "")
		if got, ok := a.header["Allow"]; !ok || got[0] != c.allow {
			t.Errorf("%s %s: Allow %q, want %q", c.method, c.path, got, c.allow)
		}
	}
}

// Every session id that follows the rules goes through a path and back.
func TestPathRoundTrip(t *testing.T) {
	g := New(Config{Publisher: full{}})
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.String().Draw(t, "id")
		if transcript.CheckSessionID(id) != nil {
			t.Skip("not a session id")
		}
		for _, path := range []string{turnPath(id, "t1"), "/v1/sessions/" + percent(id) + "/turns/t1"} {
			r := httptest.NewRequest("GET", path, nil)
			_, pattern, at, err := g.routes.find(r)
			if err != nil || pattern != "/v1/sessions/{id}/turns/{turn}" || at != (place{id, "t1"}) {
				t.Fatalf("%s: %q %+v %v", path, pattern, at, err)
			}
		}
	})
}

func TestHealth(t *testing.T) {
	var fault atomic.Pointer[error]
	addr, _ := serve(t, New(Config{
		Healthy: func() error {
			if err := fault.Load(); err != nil {
				return *err
			}
			return nil
		},
		Ready: map[string]Check{"nats": func(context.Context) error { return errors.New("down") }},
	}))
	do(t, addr, "GET", "/healthz", "").want(http.StatusOK)
	err := fmt.Errorf("sync: %w", transcript.ErrFailed)
	fault.Store(&err)
	if p := do(t, addr, "GET", "/healthz", "").problem(http.StatusServiceUnavailable, ""); !strings.Contains(p.Detail, "durable") {
		t.Errorf("%+v", p)
	}
}

// In time of its own, which a busy machine does not stretch: no check is late but the one that hangs.
func TestReady(t *testing.T) { synctest.Test(t, ready) }

func ready(t *testing.T) {
	var down atomic.Bool
	release := make(chan struct{})
	var hung atomic.Int32
	l := &logs{}
	g := New(Config{
		Logger:       slog.New(slog.NewTextHandler(l, nil)),
		CheckTimeout: 20 * time.Millisecond, Exposed: []string{"0.0.0.0:8080"},
		Ready: map[string]Check{
			"redis": func(context.Context) error { return nil },
			"nats": func(context.Context) error {
				if down.Load() {
					return errors.New("unreachable at x; start it")
				}
				return nil
			},
			"consumer": func(context.Context) error {
				if down.Load() {
					hung.Add(1)
					<-release
				}
				return nil
			},
		},
	})
	ask := func() *answer {
		rec := httptest.NewRecorder()
		g.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost/readyz", nil))
		a := &answer{t, rec.Code, rec.Header(), rec.Body.Bytes()}
		conforms(t, "GET", "/readyz", a)
		return a
	}
	var got readiness
	ask().want(http.StatusOK).into(&got)
	if got.Status != "ready" || strings.Join(got.Checks, " ") != "consumer nats redis" || len(got.Exposed) != 1 {
		t.Errorf("%+v", got)
	}
	down.Store(true)
	for range 3 {
		p := ask().problem(http.StatusServiceUnavailable, "")
		if len(p.NotReady) != 2 || p.NotReady[0] != (fault{"consumer", "no answer within 20ms"}) || p.NotReady[1] != (fault{"nats", "unreachable at x; start it"}) || len(p.Exposed) != 1 {
			t.Errorf("%+v", p)
		}
	}
	if n := strings.Count(l.String(), "\n"); n != 1 {
		t.Errorf("%d lines for three answers:\n%s", n, l)
	}
	if n := hung.Load(); n != 1 {
		t.Errorf("a check that hangs runs %d times", n)
	}
	if bodies, checks := g.Late(); bodies != 0 || checks != 3 {
		t.Errorf("%d bodies and %d checks were late, not the one check three times", bodies, checks)
	}
	down.Store(false)
	close(release)
	synctest.Wait() // until its slot is free
	ask().want(http.StatusOK)
}

// A check that panics is a fault, not the end of the process.
func TestReadyPanic(t *testing.T) {
	addr, _ := serve(t, New(Config{CheckTimeout: patience, Ready: map[string]Check{"x": func(context.Context) error { panic("boom") }}}))
	for range 2 {
		p := do(t, addr, "GET", "/readyz", "").problem(http.StatusServiceUnavailable, "")
		if len(p.NotReady) != 1 || p.NotReady[0].Check != "x" || !strings.Contains(p.NotReady[0].Detail, "boom") {
			t.Errorf("%+v", p)
		}
	}
}

// panicking is a publisher that panics.
type panicking struct{ full }

func (panicking) PublishDraft(context.Context, *transcript.Draft) (*publisher.Receipt, error) {
	panic("boom")
}

func TestPanics(t *testing.T) {
	l := &logs{}
	g := New(Config{Publisher: panicking{}, Logger: slog.New(slog.NewTextHandler(l, nil))})
	g.routes = append(g.routes, newRoute("GET", "/late", func(w http.ResponseWriter, _ *http.Request, _ place) error {
		w.Write([]byte("half"))
		panic("late")
	}))
	addr, _ := serve(t, g)
	p := do(t, addr, "POST", "/v1/sessions/s/turns", `{"user":"secret"}`, "Content-Type", "application/json").problem(http.StatusInternalServerError, "")
	if strings.Contains(p.Detail, "boom") {
		t.Errorf("%+v", p)
	}
	if out := l.String(); !strings.Contains(out, "boom") || strings.Contains(out, "secret") || strings.Count(out, "\n") != 1 {
		t.Errorf("log %s", out)
	}
	once := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // on a used connection it would try again
	if res, err := once.Get("http://" + addr + "/late"); err == nil {
		res.Body.Close()
		t.Error("half an answer passed for a whole one")
	}
	if n := testutil.ToFloat64(g.metrics.requests.WithLabelValues("/late", "GET", "500")); n != 1 {
		t.Errorf("%v counted", n)
	}
}

// One line per failure, with the token; none per success, no text, no id.
func TestLogs(t *testing.T) {
	w := newWorld(t, nil)
	w.post("a/secret", `{"user":"secret text"}`).want(http.StatusAccepted)
	if out := w.logs.String(); out != "" {
		t.Errorf("log of a success: %s", out)
	}
	w.post("a/secret", `{"user":"secret text","secret name":1,"secret name":2}`).want(http.StatusBadRequest)
	w.post("a/secret", `{"user":"secret text","rev":0}`).want(http.StatusUnprocessableEntity)
	out := w.logs.String()
	if strings.Count(out, "\n") != 2 || strings.Count(out, `"session":"a=2Fsecret"`) != 2 || strings.Contains(out, "secret text") ||
		strings.Contains(out, "a/secret") || strings.Contains(out, "secret name") {
		t.Errorf("log %s", out)
	}
}

// A request outlives the drain bound: it is cut off, and Serve says so.
func TestDrainBound(t *testing.T) {
	arrived := make(chan struct{})
	g := New(Config{DrainTimeout: 20 * time.Millisecond})
	g.routes = append(g.routes, newRoute("GET", "/hang", func(_ http.ResponseWriter, r *http.Request, _ place) error {
		close(arrived)
		<-r.Context().Done()
		return r.Context().Err()
	}))
	ctx, cancel := context.WithCancel(t.Context())
	ln := httptest.NewUnstartedServer(nil).Listener
	ended := make(chan error)
	go func() { ended <- g.Serve(ctx, ln) }()
	go http.Get("http://" + ln.Addr().String() + "/hang")
	<-arrived
	cancel()
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	servertest.Eventually(t, patience, "the request's end", func() bool {
		return testutil.ToFloat64(g.metrics.requests.WithLabelValues("/hang", "GET", "499")) == 1
	})
}

// The names that dashboards and alerts are made of.
func TestMetrics(t *testing.T) {
	w := newWorld(t, nil)
	h, err := cache.NewHistory(cache.HistoryConfig{File: w.store})
	if err != nil {
		t.Fatal(err)
	}
	redis, err := cache.New(cache.Config{URL: "redis://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	w.reg.MustRegister(
		metrics.Publish(w.pub.Stats), metrics.PublishDuration(), metrics.Store(w.store.Stats),
		metrics.Redis(redis.Stats), metrics.History(h.Stats), metrics.Build("v1.2.3", "abc"),
	)
	w.post("s", `{"user":"hi"}`, "Prefer", "wait=10").want(http.StatusCreated)
	w.post("a/secret", `{"user":1}`).want(http.StatusUnprocessableEntity)
	w.do("GET", "/nothing/here", "").want(http.StatusNotFound)
	a := w.do("GET", "/metrics", "").want(http.StatusOK)
	for _, line := range []string{
		`afterword_http_requests_total{code="201",method="POST",route="/v1/sessions/{id}/turns"} 1`,
		`afterword_http_requests_total{code="422",method="POST",route="/v1/sessions/{id}/turns"} 1`,
		`afterword_http_requests_total{code="404",method="GET",route="unknown"} 1`,
		`afterword_http_request_duration_seconds_count{method="POST",route="/v1/sessions/{id}/turns"} 2`,
		`afterword_http_requests_in_flight 1`,
		`afterword_publish_accepted_total 1`, `afterword_publish_stored_total 1`, `afterword_publish_duplicates_total 0`,
		`afterword_publish_retries_total 0`, `afterword_publish_overflow_total 0`, `afterword_publish_set_aside_total 0`, `afterword_publish_set_aside_turns 0`,
		`afterword_publish_buffer_turns 0`, `afterword_publish_buffer_bytes 0`, `afterword_publish_buffer_oldest_age_seconds 0`,
		`afterword_publish_in_flight_turns 0`, `afterword_publish_unsettled_turns 1`, `afterword_publish_blocked_seconds 0`,
		`afterword_publish_duration_seconds_count 0`,
		`afterword_store_appended_total 0`, `afterword_store_syncs_total 0`, `afterword_store_sync_seconds_total 0`,
		`afterword_store_folds_total 0`, `afterword_store_fold_seconds_total 0`, `afterword_store_fold_failures_total 0`,
		`afterword_store_dirty_sessions 0`, `afterword_store_dirty_oldest_age_seconds 0`, `afterword_store_operations_in_flight 0`,
		`afterword_redis_operations_total{op="read",outcome="miss"} 0`, `afterword_redis_breaker_state{state="closed"} 1`,
		`afterword_redis_breaker_state{state="open"} 0`, `afterword_redis_connections 0`, `afterword_redis_idle_connections 0`,
		`afterword_redis_pool_timeouts_total 0`,
		`afterword_history_reads_total{degraded="true",source="redis"} 0`, `afterword_history_reads_total{degraded="false",source="file"} 0`,
		`afterword_build_info{go_version=`,
	} {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(line)).Match(a.body) {
			t.Errorf("/metrics lacks %s", line)
		}
	}
	if strings.Contains(string(a.body), "secret") {
		t.Error("an id is in the metrics")
	}
	problems, err := testutil.GatherAndLint(w.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
