package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// ask sends a request for a host of one's own choice. header alternates names and values.
func (w *world) ask(method, path, host, body string, header ...string) *answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.addr+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Host = host
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	a := &answer{w.t, res.StatusCode, res.Header, all}
	conforms(w.t, method, path, a)
	return a
}

// everyPath has one of each route, with the console's stand-in and one that is not there.
func everyPath() (paths []string) {
	for _, rt := range New(Config{Publisher: full{}}).routes {
		paths = append(paths, strings.NewReplacer("{id}", "s", "{turn}", "t").Replace(rt.pattern))
	}
	slices.Sort(paths)
	return append(slices.Compact(paths), "/nothing", "/around")
}

// No route answers for another host, a proxy that nobody named, or a page of another site.
func TestGuardOfEveryPath(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) {
		c.Around = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/around" {
					return
				}
				next.ServeHTTP(w, r)
			})
		}
	})
	const turn = `{"session_id":"s","user":"hi"}`
	for _, path := range everyPath() {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
			for name, c := range map[string]struct {
				host   string
				status int
				word   string
				header []string
			}{
				"another host":            {"evil.example.org", 421, "host", nil},
				"a proxy":                 {"127.0.0.1", 421, "host", []string{"X-Forwarded-For", "203.0.113.9"}},
				"a page of another site":  {w.addr, 403, "origin", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}},
				"an old browser":          {w.addr, 403, "origin", []string{"Origin", "https://evil.example.org"}},
				"a page without a origin": {w.addr, 403, "origin", []string{"Origin", "null"}},
			} {
				a := w.ask(method, path, c.host, turn, append(c.header, "Content-Type", "application/json")...)
				if p := a.problem(c.status, ""); p.Type != typePrefix+c.word {
					t.Errorf("%s %s, %s: %s", method, path, name, a.body)
				}
			}
		}
	}
	if n := w.pub.Stats().Accepted; n != 0 {
		t.Errorf("%d turns were accepted", n)
	}
	if a := w.do("GET", "/metrics", ""); !strings.Contains(string(a.body), `afterword_http_requests_total{code="421",method="GET",route="unknown"}`) {
		t.Error("what was refused is not counted")
	}
}

// Pages of an allowed origin use the API, and nothing else.
func TestCORS(t *testing.T) {
	const origin = "https://chat.example.org"
	origins, err := httpio.ParseOrigins(origin)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.Guard = httpio.NewGuard(nil, origins) })
	page := []string{"Origin", origin, "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"}
	for path, methods := range map[string]string{
		"/v1/sessions/a%2Fb/turns": "POST", "/v1/turns": "POST", "/v1/sessions/s/history": "GET, HEAD", "/v1/sessions/s/turns/t": "GET, HEAD", "/v1/events": "GET, HEAD", "/openapi.json": "GET, HEAD",
	} {
		a := w.ask("OPTIONS", path, w.addr, "", append(page, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,prefer")...).want(http.StatusNoContent)
		if h := a.header; h.Get("Access-Control-Allow-Origin") != origin || h.Get("Access-Control-Allow-Methods") != methods || h.Get("Vary") != "Origin" || len(a.body) != 0 {
			t.Errorf("%s: %v", path, h)
		}
		for _, name := range []string{"Content-Type", "Prefer", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "traceparent"} {
			if !strings.Contains(a.header.Get("Access-Control-Allow-Headers"), name) {
				t.Errorf("%s: %s may not be sent", path, name)
			}
		}
		// That is no preflight, and this origin is no one's.
		w.ask("OPTIONS", path, w.addr, "", page...).problem(http.StatusMethodNotAllowed, "")
		w.ask("OPTIONS", path, w.addr, "", "Origin", "https://other.example.org", "Access-Control-Request-Method", "POST").problem(http.StatusForbidden, "")
	}
	// Of a path that is unknown no method is allowed, rather than one without a name.
	unknown := w.ask("OPTIONS", "/v1/nothing", w.addr, "", append(page, "Access-Control-Request-Method", "GET")...).want(http.StatusNoContent)
	if _, ok := unknown.header["Access-Control-Allow-Methods"]; ok || unknown.header.Get("Access-Control-Allow-Origin") != origin {
		t.Errorf("%v", unknown.header)
	}
	a := w.post("s", `{"user":"hi","assistant":"ho"}`, append(page, "Prefer", "wait=20")...).want(http.StatusCreated)
	for _, name := range []string{"ETag", "Location", "Retry-After"} {
		if !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), name) {
			t.Errorf("%s may not be read: %v", name, a.header)
		}
	}
	// What goes wrong can be read too.
	for _, a := range []*answer{
		w.post("s", `{}`, page...).want(422), w.do("GET", "/v1/sessions/nobody/transcript", "", page...).want(404),
		w.do("GET", "/v1/sessions/s/history", "", page...).want(200), w.do("GET", "/v1/events?after=0&limit=1", "", page...).want(200),
	} {
		if a.header.Get("Access-Control-Allow-Origin") != origin || a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%v", a.header)
		}
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		if a := w.do("GET", path, "", page...).want(http.StatusForbidden); a.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", path, a.header)
		}
	}
	if a := w.do("GET", "/v1/sessions/s/history", ""); a.header.Get("Vary") != "Origin" || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%v", a.header)
	}
}

// A body that is too long gets its answer, and so does one that is refused before it was read, whenever
// the client reads it.
func TestLongBodies(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.MaxBatchBytes = 1 << 20 })
	part := strings.Repeat(strings.Repeat(" ", 1<<10-1)+"\n", 1<<10)
	for name, c := range map[string]struct {
		head   string
		status string
	}{
		"a turn":             {"POST /v1/sessions/s/turns HTTP/1.1\r\nContent-Type: application/json", "413"},
		"a batch":            {"POST /v1/turns HTTP/1.1\r\nContent-Type: application/x-ndjson", "413"},
		"a form":             {"POST /v1/turns HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded", "415"},
		"of another site":    {"POST /v1/turns HTTP/1.1\r\nOrigin: http://evil.com", "403"},
		"for another method": {"PUT /v1/turns HTTP/1.1", "405"},
	} {
		for _, length := range []string{"Content-Length: 16777216", "Transfer-Encoding: chunked"} {
			conn, err := net.Dial("tcp", w.addr)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(conn, "%s\r\nHost: localhost\r\n%s\r\n\r\n", c.head, length)
			for i := 0; i < 16 && err == nil; i++ {
				if length[0] == 'T' {
					_, err = fmt.Fprintf(conn, "%x\r\n%s\r\n", len(part), part)
				} else {
					_, err = io.WriteString(conn, part)
				}
			}
			if err == nil && length[0] == 'T' {
				_, err = io.WriteString(conn, "0\r\n\r\n")
			}
			if err != nil {
				t.Errorf("%s, %s: %v", name, length, err)
			}
			all, err := io.ReadAll(bufio.NewReader(conn))
			if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 "+c.status) || !strings.Contains(string(all), `"status":`+c.status) {
				t.Errorf("%s, %s: %v %.300s", name, length, err, all)
			}
			conn.Close()
		}
	}
}

// Who waits for 100-continue gets the answer instead, and nothing waits for the body.
func TestLongBodyNotSent(t *testing.T) {
	w := newWorld(t, nil)
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "POST /v1/sessions/s/turns HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 16777216\r\n\r\n")
	began := time.Now()
	all, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 413") || strings.Contains(string(all), "100 Continue") || time.Since(began) >= httpio.DrainTime {
		t.Errorf("%v after %s: %.300s", err, time.Since(began), all)
	}
}

// One client cannot hold all streams of events; what it gives back it may have again.
func TestEventsPerClient(t *testing.T) {
	hosts, err := httpio.ParseHosts("chat.example.org")
	if err != nil {
		t.Fatal(err)
	}
	w := newLiveWorld(t, func(c *Config, _ *publisher.Config) { c.Guard = httpio.NewGuard(hosts, nil) }, func(c *live.Config) { c.Clients, c.PerClient = 5, 2 })
	listen := func(from string, header ...string) (status int, leave func()) {
		t.Helper()
		transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext, DisableKeepAlives: true}
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", "http://"+w.addr+"/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
				req.Host = header[i+1]
			}
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		leave = func() { cancel(); res.Body.Close() }
		t.Cleanup(leave)
		if res.StatusCode == http.StatusTooManyRequests && (res.Header.Get("Retry-After") == "" || res.Header.Get("Content-Type") != "application/problem+json") {
			t.Errorf("%v", res.Header)
		}
		return res.StatusCode, leave
	}
	status, leave := listen("127.0.0.1")
	second, _ := listen("127.0.0.1")
	third, _ := listen("127.0.0.1")
	forged, _ := listen("127.0.0.1", "X-Forwarded-For", "203.0.113.1") // no proxy was named that may say so
	other, _ := listen("127.0.0.2")                                    // all of this machine is one client
	if status != 200 || second != 200 || third != 429 || forged != 421 || other != 429 {
		t.Errorf("%d %d, then %d, %d, and from another address of this machine %d", status, second, third, forged, other)
	}
	if p := w.do("GET", "/v1/events", "").problem(http.StatusTooManyRequests, ""); p.Type != typePrefix+"events" {
		t.Errorf("%+v", p)
	}
	// Behind a proxy that was named it is its clients that count.
	proxied := func(client string) int {
		status, _ := listen("127.0.0.1", "Host", "chat.example.org", "X-Forwarded-For", client)
		return status
	}
	for n, want := range []int{200, 200, 200, 503} { // all 5 are taken then
		if got := proxied(fmt.Sprint("203.0.113.", n)); got != want {
			t.Errorf("client %d behind a proxy: %d, want %d", n, got, want)
		}
	}
	leave()
	deadline := time.Now().Add(patience)
	for {
		status, leave := listen("127.0.0.1")
		if status == 200 {
			break
		}
		if leave(); time.Now().After(deadline) {
			t.Fatalf("still %d", status)
		}
	}
}

// Requests that send long bodies slowly hold bounded memory together: more of them are told to come again, and
// ordinary turns pass.
func TestBodyMemory(t *testing.T) {
	memory := transcript.NewMemory(200<<10, 10*time.Millisecond)
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.BodyMemory = memory })
	slow, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	long := `{"session_id":"s","user":"` + strings.Repeat("x", 250<<10) + `"}`
	fmt.Fprintf(slow, "POST /v1/sessions/s/turns HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 300000\r\n\r\n%s", long)
	servertest.Eventually(t, patience, "the slow one has come", func() bool { return memory.Stats().Held > 150<<10 })
	if p := w.post("s", long).problem(http.StatusServiceUnavailable, ""); !strings.Contains(p.Detail, "--body-memory") {
		t.Errorf("%+v", p)
	}
	w.post("s", `{"user":"short"}`).want(http.StatusAccepted)
	p := w.do("POST", "/v1/turns", `{"session_id":"s","user":"short"}`+"\n"+long, "Content-Type", "application/x-ndjson").problem(http.StatusServiceUnavailable, "")
	if p.Taken == nil || *p.Taken != 1 {
		t.Errorf("%+v", p)
	}
	slow.Close()
	servertest.Eventually(t, patience, "what a request held is given back", func() bool { return w.post("s", long).status == http.StatusAccepted })
	w.do("POST", "/v1/turns", long+"\n"+long, "Content-Type", "application/x-ndjson").want(http.StatusAccepted)
}
