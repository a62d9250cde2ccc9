package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
)

func (w *world) batch(body string, header ...string) *answer {
	w.t.Helper()
	return w.do("POST", "/v1/turns", body, append([]string{"Content-Type", "application/x-ndjson"}, header...)...)
}

func TestBatch(t *testing.T) {
	w := newWorld(t, nil)
	body := "\ufeff" + `{"session_id":"a","user":"one"}` + "\r\n\n" + `{"session_id":"b","id":"t2","timestamp":"2026-01-31T12:00:00Z","user":"two","x":[1.50]}`
	var got batchAnswer
	w.batch(body).want(http.StatusAccepted).into(&got)
	if got.Taken != 3 || len(got.Results) != 2 {
		t.Fatalf("%+v", got)
	}
	for i, line := range []int{1, 3} {
		if r := got.Results[i]; r.Line != line || r.Status != 202 || r.Turn == nil || r.Turn.ID == "" || r.Turn.Level != "buffered" || r.Problem != nil {
			t.Errorf("%+v", r)
		}
	}
	if *got.Results[1].Turn != (accepted{"t2", "2026-01-31T12:00:00.000000+00:00", 1, "buffered"}) {
		t.Errorf("%+v", got.Results[1].Turn)
	}
	a := w.batch(body, "Prefer", "wait=20").want(http.StatusCreated)
	a.into(&got)
	if got.Results[0].Status != 201 || got.Results[1].Turn.Level != "stored" || a.header.Get("Preference-Applied") != "wait=20" {
		t.Errorf("%s %v", a.body, a.header)
	}
	w.consume()
	if h := w.history("b", ""); h.Source != "file" || *h.Revision != 1 { // it came twice and is there once
		t.Errorf("%+v", h)
	}
}

// One bad line does not keep the others out, and the answer says so with its status.
func TestBatchRefusesLines(t *testing.T) {
	w := newWorld(t, nil)
	body := strings.Join([]string{
		`{"session_id":"s","user":"ok"}`, `{"session_id":"s"}`, `not JSON`, `{"user":"whose?"}`, `{"session_id":"s","user":"ok too"}`,
	}, "\n") + "\n"
	a := w.batch(body)
	p := a.problem(http.StatusUnprocessableEntity, "")
	if p.Type != typePrefix+"batch" || p.Taken == nil || *p.Taken != 5 || len(p.Results) != 5 {
		t.Fatalf("%s", a.body)
	}
	for i, want := range []struct {
		status int
		member string
	}{{202, ""}, {422, "user"}, {400, ""}, {422, "session_id"}, {202, ""}} {
		r := p.Results[i]
		if r.Line != i+1 || r.Status != want.status || (r.Turn != nil) != (want.status == 202) {
			t.Errorf("line %d: %+v", i+1, r)
		}
		if r.Problem != nil && (r.Problem.Member != want.member || r.Problem.Status != want.status || r.Problem.Detail == "") {
			t.Errorf("line %d: %+v", i+1, r.Problem)
		}
	}
	if n := w.pub.Stats().Accepted; n != 2 {
		t.Errorf("%d were accepted", n)
	}
}

// A full buffer stops a batch, which says how far it came; the rest can be sent later.
func TestBatchOverflow(t *testing.T) {
	w := newWorld(t, func(_ *Config, p *publisher.Config) { p.BufferTurns = 3 })
	w.noStream()
	lines := make([]string, 10)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"session_id":"s","id":"t%d","timestamp":"2026-01-31T12:00:00Z","user":"u"}`, i)
	}
	p := w.batch(strings.Join(lines, "\n")).problem(http.StatusServiceUnavailable, "")
	if p.Type != typePrefix+"overflow" || p.Taken == nil || *p.Taken != 3 || len(p.Results) != 3 {
		t.Fatalf("%+v", p)
	}
	if _, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream.Turns, Subjects: []string{stream.TurnSubjects}}); err != nil {
		t.Fatal(err)
	}
	left := lines[*p.Taken:]
	servertest.Eventually(t, patience, "the rest", func() bool {
		a := w.batch(strings.Join(left, "\n"))
		if a.status == http.StatusAccepted {
			return true
		}
		left = left[*a.problem(http.StatusServiceUnavailable, "").Taken:]
		return false
	})
	servertest.Eventually(t, patience, "all in the stream", func() bool { return w.pub.Stats().Stored == 10 })
}

func TestBatchBounds(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.MaxBody, c.MaxBatchTurns, c.MaxBatchBytes = 200, 3, 500 })
	const line = `{"session_id":"s","user":"hi"}` + "\n"
	for _, c := range []struct {
		name, body    string
		status, taken int
	}{
		{"as much as there may be", strings.Repeat(line, 3), 202, 3},
		{"too many", strings.Repeat(line, 5), 413, 3},
		{"too many bytes", line + line + strings.Repeat(" ", 150) + "\n" + strings.Repeat(" ", 150) + "\n" + strings.Repeat(" ", 150) + "\n" + line, 413, 4},
		{"nothing", "", 400, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			a := w.batch(c.body).want(c.status)
			var got batchAnswer
			if err := json.Unmarshal(a.body, &got); err != nil || got.Taken != c.taken {
				t.Errorf("%s", a.body)
			}
		})
	}
	for _, kind := range []string{"application/json", "text/plain", ""} {
		w.do("POST", "/v1/turns", line, "Content-Type", kind).problem(http.StatusUnsupportedMediaType, "")
	}
	w.batch(line, "Content-Encoding", "gzip").problem(http.StatusUnsupportedMediaType, "")
	w.batch(line, "Idempotency-Key", "k").problem(http.StatusBadRequest, "Idempotency-Key")
}

// A line that is too long is refused like any other that is wrong: it counts, and the rest goes on.
func TestBatchLongLines(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.MaxBody, c.MaxBatchBytes = 200, 100_000 })
	const line = `{"session_id":"s","user":"hi"}`
	long := `{"session_id":"s","user":"` + strings.Repeat("x", 20_000) + `"}`
	for name, c := range map[string]struct {
		body  string
		codes []int
	}{
		"in the middle":                {line + "\n" + long + "\n" + line + "\n", []int{202, 413, 202}},
		"the first, with CR":           {long + "\r\n" + line + "\r\n", []int{413, 202}},
		"the last, without a line end": {line + "\n" + long, []int{202, 413}},
		"several":                      {long + "\n" + long + "\n" + line + "\n" + long, []int{413, 413, 202, 413}},
		"white space":                  {strings.Repeat(" ", 300) + "\n" + line, []int{413, 202}},
		"as long as a turn may be":     {line + strings.Repeat(" ", 200-len(line)) + "\r\n" + line, []int{202, 202}},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			a := w.batch(c.body)
			var got batchAnswer
			if err := json.Unmarshal(a.body, &got); err != nil || len(got.Results) != len(c.codes) || got.Taken != len(strings.Split(strings.TrimRight(c.body, "\n"), "\n")) {
				t.Fatalf("%d %s", a.status, a.body)
			}
			for i, r := range got.Results {
				if r.Status != c.codes[i] || r.Status == 413 && (r.Problem == nil || r.Problem.Type != typePrefix+"too-large" || !strings.Contains(r.Problem.Detail, "200 bytes")) {
					t.Errorf("result %d: %+v %+v", i, r, r.Problem)
				}
			}
		})
	}
	// The limit of the batch holds in the middle of such a line too.
	p := w.batch(line+"\n"+strings.Repeat("x", 200_000)).problem(413, "")
	if p.Taken == nil || *p.Taken != 1 || len(p.Results) != 1 || !strings.Contains(p.Detail, "100000 bytes") {
		t.Errorf("%+v", p)
	}
}

// A body that ends in the middle, or does not come, does not hide what was taken before.
func TestBatchCutOff(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.ReadTimeout = 2 * time.Second })
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "POST /v1/turns HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n"+
		`{"session_id":"s","user":"hi"}`+"\n"+`{"session_id":"s",`)
	all, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 408") || !strings.Contains(string(all), `"taken":1,"results":[{"line":1,"status":202`) {
		t.Errorf("%v: %s", err, all)
	}
}
