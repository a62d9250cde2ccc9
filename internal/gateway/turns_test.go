package gateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

func TestPostAccepts(t *testing.T) {
	w := newWorld(t, nil)
	a := w.post("abc", `{"user":"hi","assistant":"hello"}`).want(http.StatusAccepted)
	var got accepted
	a.into(&got)
	if got.ID == "" || got.Rev != 1 || got.Level != "buffered" {
		t.Errorf("%+v", got)
	}
	if _, err := transcript.ParseInstant(got.Timestamp); err != nil || !strings.HasSuffix(got.Timestamp, "+00:00") {
		t.Errorf("timestamp %q: %v", got.Timestamp, err)
	}
	if want := "/v1/sessions/abc/turns/" + got.ID; a.header.Get("Location") != want {
		t.Errorf("Location %q, want %q", a.header.Get("Location"), want)
	}
	if a.header.Get("Preference-Applied") != "" {
		t.Error("a preference was applied that nobody had")
	}

	// A turn's own id, timestamp, rev and unknown members stay as they are.
	w.post("abc", `{"session_id":"abc","id":"own","timestamp":"2026-01-02T03:04:05.1234567+02:00","rev":7,"user":"","x_new":[1.50, {"a":"<"}]}`).
		want(http.StatusAccepted).into(&got)
	if got != (accepted{"own", "2026-01-02T01:04:05.123456+00:00", 7, "buffered"}) {
		t.Errorf("%+v", got)
	}
	w.consume()
	doc := w.do("GET", "/v1/sessions/abc/transcript", "").want(http.StatusOK).body
	if !strings.Contains(string(doc), `"x_new":[1.50,{"a":"<"}]`) {
		t.Errorf("an unknown member was changed: %s", doc)
	}
}

// Any session id works, and is a session of its own.
func TestEveryID(t *testing.T) {
	w := newWorld(t, nil)
	ids := []string{
		"../../etc/passwd", "..", ".", "a.b", "*", ">", "turns.>", "a/b", "/", "//", "空", "afterword", "a b", "a+b", "%2F", "%",
		"?x=1", "#", "~", "history", "{id}", `"`, `\`, "A", "a", "..\\..", strings.Repeat("🦜", 60), strings.Repeat("x", 255),
	}
	for _, id := range ids {
		w.post(id, fmt.Sprintf(`{"user":%q,"assistant":"a"}`, "of "+id)).want(http.StatusAccepted)
	}
	check := func(source string) {
		t.Helper()
		for _, id := range ids {
			h := w.history(id, "")
			if h.SessionID != id || h.Source != source || *h.Degraded || len(h.Turns) != 1 || h.Turns[0].User != "of "+id {
				t.Fatalf("history of %q: %+v", id, h)
			}
		}
	}
	check("none") // accepted here, not written yet
	w.consume()
	check("file")
	for _, id := range ids {
		doc, err := transcript.ParseDocument(id, w.do("GET", sessionPath(id)+"/transcript", "").want(http.StatusOK).body)
		if err != nil || doc.Len() != 1 {
			t.Errorf("transcript of %q: %v", id, err)
		}
	}
	// Dots that nobody encoded are not cleaned away either.
	for _, id := range []string{"..", "."} {
		var h historyView
		w.do("GET", "/v1/sessions/"+id+"/history", "").want(http.StatusOK).into(&h)
		if h.SessionID != id || len(h.Turns) != 1 {
			t.Errorf("history of a plain %q: %+v", id, h)
		}
	}
}

// Bytes that net/http clients would have encoded, next to an encoded slash.
func TestRawPath(t *testing.T) {
	for raw, want := range map[string]string{
		"/v1/sessions/空%2Fb/turns":   "空/b",
		"/v1/sessions/a\"%2F/turns":  `a"/`,
		"/v1/sessions/a;b,c=d/turns": "a;b,c=d",
		"/v1/sessions/%252F/turns":   "%2F",
	} {
		path, ok := httpio.Segments(mustParse(t, raw))
		if !ok || len(path) != 4 || path[2] != want {
			t.Errorf("%s: %q %t", raw, path, ok)
		}
	}
	for _, id := range []string{".", "..", "a/b", "空", "%"} {
		path, ok := httpio.Segments(mustParse(t, turnPath(id, "t1")))
		if !ok || len(path) != 5 || path[2] != id || path[4] != "t1" {
			t.Errorf("turnPath of %q: %q", id, path)
		}
	}
}

func TestPostRefuses(t *testing.T) {
	const limit = 20_000
	w := newWorld(t, func(c *Config, p *publisher.Config) { c.MaxBody, p.MaxPayload = limit, limit })
	ok := `{"user":"hi"}`
	longText := strings.Repeat("y", limit-100)
	for _, c := range []struct {
		name, path, body string
		status           int
		member           string
	}{
		{"empty id", "//turns", ok, 400, "session_id"},
		{"256 bytes", "/" + strings.Repeat("x", 256) + "/turns", ok, 400, "session_id"},
		{"NUL", "/a%00b/turns", ok, 400, "session_id"},
		{"line feed", "/a%0ab/turns", ok, 400, "session_id"},
		{"C1 control", "/a%C2%85b/turns", ok, 400, "session_id"},
		{"invalid UTF-8", "/%ff/turns", ok, 400, "session_id"},
		{"encoded surrogate", "/%ED%A0%80/turns", ok, 400, "session_id"},

		{"empty body", "/s/turns", "", 400, ""},
		{"bad syntax", "/s/turns", `{"user":"hi"`, 400, ""},
		{"more after it", "/s/turns", ok + ok, 400, ""},
		{"duplicate names", "/s/turns", `{"user":"a","user":"b"}`, 400, ""},
		{"duplicate names inside", "/s/turns", `{"user":"a","meta":{"x":1,"x":2}}`, 400, ""},
		{"duplicate unknown names", "/s/turns", `{"user":"a","z":1,"z":2}`, 400, ""},
		{"5000 brackets", "/s/turns", strings.Repeat("[", 5000), 400, ""},
		{"5000 brackets in a member", "/s/turns", `{"user":"a","x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}", 400, ""},
		{"lone surrogate", "/s/turns", `{"user":"\ud800"}`, 400, ""},
		{"invalid UTF-8 in the body", "/s/turns", "{\"user\":\"\xff\"}", 400, ""},
		{"NaN", "/s/turns", `{"user":"a","x":NaN}`, 400, ""},

		{"an array", "/s/turns", `[1]`, 422, ""},
		{"wrong type", "/s/turns", `{"user":1}`, 422, "user"},
		{"wrong type inside", "/s/turns", `{"user":"a","usage":{"input_tokens":"1"}}`, 422, "usage.input_tokens"},
		{"missing user", "/s/turns", `{"assistant":"a"}`, 422, "user"},
		{"names are case-sensitive", "/s/turns", `{"User":"a"}`, 422, "user"},
		{"unknown status", "/s/turns", `{"user":"a","status":"done"}`, 422, "status"},
		{"own id without timestamp", "/s/turns", `{"user":"a","id":"x"}`, 422, "timestamp"},
		{"bad id", "/s/turns", `{"user":"a","id":"x y","timestamp":"2026-01-01T00:00:00Z"}`, 422, "id"},
		{"year 10000", "/s/turns", `{"user":"a","timestamp":"10000-01-01T00:00:00Z"}`, 422, "timestamp"},
		{"year 2200", "/s/turns", `{"user":"a","timestamp":"2200-01-01T00:00:00Z"}`, 422, "timestamp"},
		{"rev 0", "/s/turns", `{"user":"a","rev":0}`, 422, "rev"},
		{"rev 1.5", "/s/turns", `{"user":"a","rev":1.5}`, 422, "rev"},
		{"rev 1e9", "/s/turns", `{"user":"a","rev":1000000000}`, 422, "rev"},
		{"rev 2 without id", "/s/turns", `{"user":"a","rev":2,"timestamp":"2026-01-01T00:00:00Z"}`, 422, "id"},
		{"a parent that is no id", "/s/turns", `{"user":"a","parent":"x y"}`, 422, "parent"},
		{"a long parent", "/s/turns", `{"user":"a","parent":"` + strings.Repeat("x", 129) + `"}`, 422, "parent"},
		{"a parent of null", "/s/turns", `{"user":"a","parent":null}`, 422, "parent"},
		{"it supersedes nothing", "/s/turns", `{"user":"a","supersedes":""}`, 422, "supersedes"},
		{"it supersedes what is no id", "/s/turns", `{"user":"a","supersedes":"é"}`, 422, "supersedes"},
		{"a redaction that carries text", "/s/turns", `{"user":"yyyy","id":"x","timestamp":"2026-01-01T00:00:00Z","status":"redacted","rev":1000000}`, 422, "user"},
		{"a redaction that carries tool calls", "/s/turns", `{"user":"","tool_calls":[{"name":"yyyy"}],"id":"x","timestamp":"2026-01-01T00:00:00Z","status":"redacted","rev":1000000}`, 422, "tool_calls"},
		{"a redaction without its rev", "/s/turns", `{"user":"","id":"x","timestamp":"2026-01-01T00:00:00Z","status":"redacted"}`, 422, "rev"},
		{"another session", "/s/turns", `{"user":"a","session_id":"S"}`, 422, "session_id"},
		{"a bad session in the body", "/s/turns", `{"user":"a","session_id":"\u0000"}`, 422, "session_id"},

		{"body over the limit", "/s/turns", `{"user":"` + strings.Repeat("y", limit) + `"}`, 413, ""},
		{"encoding over the limit", "/" + strings.Repeat("z", 255) + "/turns", `{"user":"` + longText + `"}`, 413, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := *w
			w.t = t
			p := w.do("POST", "/v1/sessions"+c.path, c.body, "Content-Type", "application/json; charset=utf-8").problem(c.status, c.member)
			if p.Detail == "" || len(p.Detail) > 300 {
				t.Errorf("detail %q", p.Detail)
			}
		})
	}
	if n := w.pub.Stats().Accepted; n != 0 {
		t.Errorf("%d turns were accepted", n)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(w.logs.String()), "\n") {
		if strings.Contains(line, "yyyy") || len(line) > 600 {
			t.Errorf("a log line with a text in it: %.200s", line)
		}
	}
}

// A body of unknown length is cut off at the limit.
func TestPostChunkedOverLimit(t *testing.T) {
	g := New(Config{Publisher: full{}, MaxBody: 1000})
	addr, _ := serve(t, g)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "POST /v1/sessions/s/turns HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n%s\r\n", strings.Repeat(" ", 2000))
	head := make([]byte, 12)
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 413" {
		t.Errorf("%q %v", head, err)
	}
}

func TestPostContentType(t *testing.T) {
	w := newWorld(t, nil)
	for given, status := range map[string]int{
		"":                                               415,
		"application/json":                               202,
		"application/json;":                              202,
		"Application/JSON; charset=UTF-8":                202,
		`application/json;charset="utf-8"`:               202,
		"application/json; Charset=utf8":                 202,
		"application/json; profile=x":                    202,
		"application/vnd.chat+json":                      202,
		"application/json; charset=latin1":               415,
		"application/json; charset=utf-16":               415,
		`application/json; charset=""`:                   415,
		"application/json; charset":                      415,
		"application/json; charset=utf-8; charset=utf-7": 415,
		"application/json, text/plain":                   415,
		"application/json/x":                             415,
		"application/x-www-form-urlencoded":              415,
		"multipart/form-data; boundary=x":                415,
		"text/plain;charset=UTF-8":                       415,
		"application/xml":                                415,
		"json":                                           415,
		"application/jsonp":                              415,
		";":                                              415,
	} {
		var header []string
		if given != "" {
			header = []string{"Content-Type", given}
		}
		a := w.do("POST", "/v1/sessions/s/turns", `{"user":"hi"}`, header...)
		if a.status != status {
			t.Errorf("%q: status %d, want %d", given, a.status, status)
		}
		if status == 415 && a.status == 415 {
			if p := a.problem(415, ""); strings.Contains(given, "latin1") && !strings.Contains(p.Detail, `charset "latin1"`) {
				t.Errorf("%+v", p)
			}
		}
	}
	w.do("POST", "/v1/sessions/s/turns", `{"user":"hi"}`, "Content-Type", "application/json", "Content-Type", "application/json").problem(415, "")
	for _, kind := range []string{"application/x-ndjson; charset=latin1", "application/x-ndjson; charset", "application/json"} {
		w.batch(`{"session_id":"s","user":"hi"}`, "Content-Type", kind).problem(415, "") // two of them
		w.do("POST", "/v1/turns", `{"session_id":"s","user":"hi"}`, "Content-Type", kind).problem(415, "")
	}
	w.do("POST", "/v1/turns", `{"session_id":"s","user":"hi"}`, "Content-Type", "application/x-ndjson; charset=UTF-8").want(202)
	w.post("s", "\x1f\x8b", "Content-Encoding", "gzip").problem(415, "")
}

func TestPreferWait(t *testing.T) {
	w := newWorld(t, nil)
	for _, prefer := range [][]string{{"wait=5"}, {"respond-async, Wait = 5"}, {`return=minimal; x=1`, `wait="5"; y`}} {
		var header []string
		for _, p := range prefer {
			header = append(header, "Prefer", p)
		}
		a := w.post("s", `{"user":"hi"}`, header...).want(http.StatusCreated)
		var got accepted
		a.into(&got)
		if got.Level != "stored" || a.header.Get("Preference-Applied") != "wait=5" || a.header.Get("Location") == "" {
			t.Errorf("%q: %+v %v", prefer, got, a.header)
		}
		if _, ok, err := w.Turn(t.Context(), "s", got.ID); !ok || err != nil {
			t.Errorf("201, but it is not in the stream: %v", err)
		}
	}
	for _, prefer := range []string{"wait", "wait=", "wait=-1", "wait=x", "wait=0", "respond-async"} {
		if a := w.post("s", `{"user":"hi"}`, "Prefer", prefer).want(http.StatusAccepted); a.header.Get("Preference-Applied") != "" {
			t.Errorf("%q was applied", prefer)
		}
	}
}

// noStream makes a world whose stream takes nothing.
func (w *world) noStream() {
	w.t.Helper()
	if err := w.js.DeleteStream(w.t.Context(), stream.Turns); err != nil {
		w.t.Fatal(err)
	}
}

func TestPreferWaitRunsOut(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.MaxWait = time.Second })
	w.noStream()
	a := w.post("s", `{"user":"hi"}`, "Prefer", "wait=99999999999999999999").want(http.StatusAccepted)
	var got accepted
	a.into(&got)
	if got.Level != "buffered" || a.header.Get("Preference-Applied") != "wait=1" {
		t.Errorf("%+v %v", got, a.header)
	}
}

// A stop does not hold up those who wait, and they are told the truth.
func TestStopEndsWaits(t *testing.T) {
	w := newWorld(t, nil)
	w.noStream()
	done := make(chan *answer)
	go func() { done <- w.post("s", `{"user":"hi"}`, "Prefer", "wait=30") }()
	servertest.Eventually(t, patience, "the turn", func() bool { return w.pub.Stats().Turns == 1 })
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	var got accepted
	(<-done).want(http.StatusAccepted).into(&got)
	if got.Level != "buffered" {
		t.Errorf("%+v", got)
	}
}

// When the publisher ends, who waits learns the turn's name, to send it again.
func TestPublisherEndsWait(t *testing.T) {
	w := newWorld(t, nil)
	w.noStream()
	done := make(chan *answer)
	go func() { done <- w.post("s", `{"user":"hi"}`, "Prefer", "wait=30") }()
	servertest.Eventually(t, patience, "the turn", func() bool { return w.pub.Stats().Turns == 1 })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.pub.Close(ctx)
	p := (<-done).problem(http.StatusServiceUnavailable, "")
	if p.Turn == nil || p.Turn.ID == "" || p.Turn.Timestamp == "" || p.Turn.Rev != 1 || p.Turn.Level != "buffered" {
		t.Errorf("%+v", p.Turn)
	}
	w.post("s", `{"user":"hi"}`).problem(http.StatusServiceUnavailable, "")
}

func TestOverflow(t *testing.T) {
	w := newWorld(t, func(c *Config, p *publisher.Config) { p.BufferTurns = 1; c.RetryAfter = 1500 * time.Millisecond })
	w.noStream()
	w.post("s", `{"user":"hi"}`).want(http.StatusAccepted)
	a := w.post("s", `{"user":"hi"}`)
	a.problem(http.StatusServiceUnavailable, "")
	if got := a.header.Get("Retry-After"); got != "2" {
		t.Errorf("Retry-After %q", got)
	}
	if _, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream.Turns, Subjects: []string{stream.TurnSubjects}}); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, patience, "room", func() bool { return w.post("s", `{"user":"hi"}`).status == http.StatusAccepted })
}

// full is a publisher that takes nothing.
type full struct{}

func (full) PublishDraft(context.Context, *transcript.Draft) (*publisher.Receipt, error) {
	return nil, publisher.ErrOverflow
}
func (full) Stamp(string) (transcript.Instant, error)          { return 0, nil }
func (full) Level(string, string, int) (publisher.Level, bool) { return 0, false }
func (full) Pending(string) []transcript.Snapshot              { return nil }
func (full) Away() int                                         { return 0 }

// A session that is known to have no room takes no new turns, and later revisions.
func TestFullSession(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.Full = func(session string) bool { return session == "full" } })
	if p := w.post("full", `{"user":"u"}`).problem(http.StatusRequestEntityTooLarge, ""); p.Type != typePrefix+"session-too-large" {
		t.Errorf("%+v", p)
	}
	w.post("full", `{"id":"a","timestamp":"2026-01-01T00:00:00Z","user":"u","rev":2}`).want(http.StatusAccepted)
	w.post("other", `{"user":"u"}`).want(http.StatusAccepted)
}
