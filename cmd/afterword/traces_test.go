package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/afterword-io/afterword/internal/credentials"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
)

// secretText is what people wrote, and no log line or span may hold.
const secretText = "xyzzy-plugh"

// receiver is a collector in the test.
type receiver struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*otlp.Span
	attrs string // of the resources
	raw   strings.Builder
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		var in collector.ExportTraceServiceRequest
		if err != nil || req.URL.Path != "/v1/traces" || proto.Unmarshal(body, &in) != nil {
			http.Error(w, "not OTLP", http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw.Write(body)
		for _, rs := range in.ResourceSpans {
			r.attrs = rs.Resource.String()
			for _, ss := range rs.ScopeSpans {
				r.spans = append(r.spans, ss.Spans...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// named returns the spans of a name, in a trace when that is not "".
func (r *receiver) named(name, trace string) (found []*otlp.Span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if s.Name == name && (trace == "" || hex.EncodeToString(s.TraceId) == trace) {
			found = append(found, s)
		}
	}
	return found
}

// startServe starts `afterword serve` on free ports.
func startServe(t *testing.T, env []string, args ...string) serveProcess {
	t.Helper()
	dataDir := t.TempDir()
	cmd := exec.Command("afterword", append([]string{"serve", "--data-dir", dataDir, "--listen", "127.0.0.1:0",
		"--embedded-nats", "127.0.0.1:0", "--embedded-redis", "127.0.0.1:0", "--log-format", "json"}, args...)...)
	cmd.Env = append(append(os.Environ(), "NATS_URL=", "REDIS_URL="), env...)
	p := startProcess(t, cmd)
	p.dataDir = dataDir
	return p
}

// startProcess starts a service that logs JSON, and waits until it is ready.
func startProcess(t *testing.T, cmd *exec.Cmd) serveProcess {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := serveProcess{t: t, cmd: cmd, log: &output{}, read: make(chan struct{})}
	go func() {
		defer close(p.read)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			p.log.Write(append(lines.Bytes(), '\n'))
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.read
		cmd.Wait()
	})
	p.url = p.logged("serving HTTP", "url")
	servertest.Eventually(t, scriptPatience, "readiness", func() bool {
		status, _, err := request("GET", p.url+"/readyz", "")
		return err == nil && status == http.StatusOK
	})
	return p
}

type serveProcess struct {
	t            *testing.T
	cmd          *exec.Cmd
	log          *output
	read         chan struct{}
	url, dataDir string
}

// lines are those of the log so far; each is one JSON object.
func (p *serveProcess) lines() (all []map[string]any) {
	p.t.Helper()
	for line := range strings.Lines(p.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil || m["msg"] == "" || m["level"] == "" {
			p.t.Errorf("%v: log line %q", err, line)
		}
		all = append(all, m)
	}
	return all
}

// logged waits for a message and returns a member of its line.
func (p *serveProcess) logged(message, member string) (value string) {
	p.t.Helper()
	servertest.Eventually(p.t, scriptPatience, message, func() bool {
		for _, m := range p.lines() {
			if m["msg"] == message {
				value = fmt.Sprint(m[member])
				return true
			}
		}
		return false
	})
	return value
}

// stop ends it as a supervisor does, and returns how long that took.
func (p *serveProcess) stop() time.Duration {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	late := time.AfterFunc(scriptPatience, func() { p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.read
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("serve ended with %v: %s", err, p.log)
	}
	return time.Since(began)
}

func (p *serveProcess) post(path, kind, body string, header ...string) int {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), "POST", p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", kind)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// From the request of the chat service to the refresh of the cache, a turn is one trace.
func TestTraces(t *testing.T) {
	to := newReceiver(t)
	p := startServe(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + to.URL, "OTEL_BSP_SCHEDULE_DELAY=600000", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=test"})
	const trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	parent := "00-" + trace + "-" + caller + "-01"
	const turn = `{"user":"` + secretText + `","assistant":"` + secretText + `"}`
	if status := p.post("/v1/sessions/kept%2Fprivate/turns", "application/json", turn, "traceparent", parent, "Prefer", "wait=20"); status != http.StatusCreated {
		t.Fatal(status)
	}
	if status := p.post("/v1/sessions/kept%2Fprivate/turns", "application/json", `{}`, "traceparent", parent); status != http.StatusUnprocessableEntity {
		t.Fatal(status)
	}
	p.post("/v1/sessions/unsampled/turns", "application/json", turn, "traceparent", "00-"+strings.Repeat("1", 32)+"-"+caller+"-00")
	servertest.Eventually(t, scriptPatience, "the refresh of the cache", func() bool {
		_, body, err := request("GET", p.url+"/v1/sessions/kept%2Fprivate/history", "")
		return err == nil && strings.Contains(body, `"source":"redis"`)
	})
	p.stop() // which sends what is queued: nothing else did

	fromRedis := false // says the span of one of those requests
	for _, s := range to.named("GET /v1/sessions/{id}/history", "") {
		for _, a := range s.Attributes {
			fromRedis = fromRedis || a.Key == "afterword.history.source" && a.Value.GetStringValue() == "redis"
		}
	}
	if !fromRedis {
		t.Error("no span says that a history came from Redis")
	}
	const request = "POST /v1/sessions/{id}/turns"
	if n := len(to.named(request, trace)); n != 2 { // the refused one too
		t.Fatalf("%d requests", n)
	}
	at, chain := caller, []string{request, "publish turn", "commit turn", "refresh cache"}
	var commit, publish *otlp.Span
	for _, name := range chain {
		var next *otlp.Span
		for _, s := range to.named(name, trace) {
			if hex.EncodeToString(s.ParentSpanId) == at && !strings.Contains(s.String(), "int_value:422") {
				next = s
			}
		}
		if next == nil {
			t.Fatalf("no span %q below %s", name, at)
		}
		if next.EndTimeUnixNano < next.StartTimeUnixNano {
			t.Errorf("%q ends before it begins", name)
		}
		switch name {
		case "publish turn":
			publish = next
		case "commit turn":
			commit = next
		}
		at = hex.EncodeToString(next.SpanId)
	}
	batches := to.named("commit batch", "")
	linked := false
	for _, b := range batches {
		for _, l := range b.Links {
			linked = linked || hex.EncodeToString(l.SpanId) == hex.EncodeToString(publish.SpanId)
		}
		if hex.EncodeToString(b.TraceId) == trace || len(b.ParentSpanId) > 0 {
			t.Error("a batch belongs to the trace of one turn")
		}
	}
	if !linked || len(commit.Links) != 1 {
		t.Errorf("%d batches, none linked to the publishing span; or the commit, with %d links, to none", len(batches), len(commit.Links))
	}
	if !strings.Contains(to.attrs, "afterword-serve") || !strings.Contains(to.attrs, "deployment.environment.name") {
		t.Errorf("resource %s", to.attrs)
	}
	if n := len(to.named(request, strings.Repeat("1", 32))); n != 0 {
		t.Errorf("%d spans of a trace that is not sampled", n)
	}
	if raw := to.raw.String(); strings.Contains(raw, secretText) || strings.Contains(raw, "private") {
		t.Error("a span holds what was said, or in which session")
	}
	found := false
	for _, m := range p.lines() {
		found = found || m["msg"] == "request failed" && m["trace_id"] == trace && m["span_id"] != nil
	}
	if !found {
		t.Errorf("no log line has the trace: %s", p.log)
	}
}

// A collector that hangs delays nothing: neither turns nor, for long, the end.
func TestHungCollector(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // it accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p := startServe(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + ln.Addr().String(), "OTEL_BSP_SCHEDULE_DELAY=10", "OTEL_BSP_MAX_QUEUE_SIZE=16"},
		"--drain-timeout", "8s")
	for range 200 { // far more spans than may wait
		if status := p.post("/v1/sessions/s/turns", "application/json", `{"user":"hi"}`); status != http.StatusAccepted {
			t.Fatal(status)
		}
	}
	servertest.Eventually(t, scriptPatience, "all turns in the transcript", func() bool {
		status, body, err := request("GET", p.url+"/v1/sessions/s/transcript", "")
		return err == nil && status == http.StatusOK && strings.Contains(body, `"message_count":200,`)
	})
	if took := p.stop(); took > 8*time.Second+scriptPatience/4 {
		t.Errorf("it took %s to stop", took)
	}
}

func TestTracesOn(t *testing.T) {
	for _, c := range []struct {
		env    string
		on     bool
		reason string
	}{
		{"", false, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x", true, ""},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://x OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf OTEL_TRACES_EXPORTER=otlp", true, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_SDK_DISABLED=TRUE", false, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_TRACES_EXPORTER=none", false, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_TRACES_EXPORTER=zipkin", false, "zipkin"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://x OTEL_EXPORTER_OTLP_PROTOCOL=grpc", false, "grpc"},
		{"OTEL_SERVICE_NAME=x", false, ""},
	} {
		on, why := tracesOn(func(name string) (string, bool) {
			for pair := range strings.FieldsSeq(c.env) {
				if v, ok := strings.CutPrefix(pair, name+"="); ok {
					return v, true
				}
			}
			return "", false
		})
		if on != c.on || (why != "") != (c.reason != "") || !strings.Contains(why, c.reason) {
			t.Errorf("%s: %t %q", c.env, on, why)
		}
	}
}

// Whatever happens to turns, at whatever level is logged: a log line is one JSON object, and holds
// nothing of what was said.
func TestLogsHoldNoText(t *testing.T) {
	p := startServe(t, nil, "--log-level", "debug")
	const js, lines = "application/json", "application/x-ndjson"
	good := `{"user":"` + secretText + `","assistant":"` + secretText + `","meta":{"` + secretText + `":"` + secretText + `"}}`
	for _, c := range []struct {
		path, kind, body string
		status           int
	}{
		{"/v1/sessions/s/turns", js, good, 202},
		{"/v1/sessions/s/turns", js, `{"user":"` + secretText + `"`, 400},
		{"/v1/sessions/s/turns", js, `{"user":"a","` + secretText + `":1,"` + secretText + `":2}`, 400},
		{"/v1/sessions/s/turns", js, `{"user":"a","x":` + secretText + `}`, 400},
		{"/v1/sessions/s/turns", js, `{"user":["` + secretText + `"]}`, 422},
		{"/v1/sessions/s/turns", js, `{"user":"a","status":"` + secretText + `"}`, 422},
		{"/v1/sessions/s/turns", js, `{"user":"a","timestamp":"` + secretText + `"}`, 422},
		{"/v1/sessions/s/turns", js, `{"user":"` + secretText + strings.Repeat("x", 1<<20) + `"}`, 413},
		{"/v1/turns", lines, `{"session_id":"s","user":"` + secretText + `"}` + "\n" + `{"session_id":"s","user":"` + secretText + "\n" + secretText, 422},
	} {
		if status := p.post(c.path, c.kind, c.body); status != c.status {
			t.Errorf("%.60s: %d, want %d", c.body, status, c.status)
		}
	}
	pair, err := credentials.Read(p.dataDir)
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+pair.NATS.Addr.String(), publisher.Embedded(p.dataDir))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for _, payload := range []string{secretText, `{"id":"x","session_id":"s","timestamp":"` + secretText + `","user":"` + secretText + `"}`,
		`{"id":"x","session_id":"s","timestamp":"2026-01-31T12:00:00Z","user":{"` + secretText + `":1}}`,
		`{"id":"x","session_id":"other","timestamp":"2026-01-31T12:00:00Z","user":"` + secretText + `"}`} {
		if _, err := nc.RequestWithContext(t.Context(), stream.TurnSubject("s"), []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	servertest.Eventually(t, scriptPatience, "dead letters", func() bool {
		n := 0
		for _, m := range p.lines() {
			if strings.Contains(fmt.Sprint(m["msg"]), "dead letter") {
				n++
			}
		}
		return n >= 4
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if req, err := http.NewRequestWithContext(ctx, "GET", p.url+"/v1/events?after=0", nil); err == nil {
		if res, err := http.DefaultClient.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	for _, path := range []string{"/history", "/transcript", "/turns/x"} {
		request("GET", p.url+"/v1/sessions/s"+path, "")
	}
	p.stop()
	failed := 0
	for _, m := range p.lines() {
		if m["msg"] == "request failed" {
			failed++
		}
	}
	if failed < 8 { // one line each, the batch among them
		t.Errorf("%d lines about failed requests: %s", failed, p.log)
	}
	for line := range strings.Lines(p.log.String()) {
		if strings.Contains(line, secretText) {
			t.Errorf("a log line holds what was said: %s", line)
		}
	}
}
