package gateway

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// event is one block of an event stream.
type event struct{ id, name, data, comment, retry string }

// listener reads events as a browser does.
type listener struct {
	t     *testing.T
	res   *http.Response
	lines *bufio.Reader
	leave context.CancelFunc
}

func (w *world) listen(query string, header ...string) *listener {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*patience)
	w.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+w.addr+"/v1/events"+query, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
		w.t.Fatalf("%s %v", res.Status, res.Header)
	}
	l := &listener{w.t, res, bufio.NewReader(res.Body), cancel}
	if first := l.next(); first.retry != "1000" || first.id == "" || first.name != "" || first.data != "" {
		w.t.Errorf("the stream begins with %+v", first)
	}
	return l
}

// next reads a block.
func (l *listener) next() (e event) {
	l.t.Helper()
	e, ok := l.read()
	if !ok {
		l.t.Fatal("the stream of events ended")
	}
	return e
}

func (l *listener) read() (e event, ok bool) {
	for {
		line, err := l.lines.ReadString('\n')
		if err != nil {
			return e, false
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case line == "\n":
			return e, true
		case name == "id":
			e.id = value
		case name == "event":
			e.name = value
		case name == "data":
			e.data = value
		case name == "retry":
			e.retry = value
		case name == "":
			e.comment = value
		default:
			l.t.Errorf("line %q", line)
		}
	}
}

// turn reads the next turn.
func (l *listener) turn(session, user string) event {
	l.t.Helper()
	e := l.next()
	if e.name != eventTurn || e.id == "" {
		l.t.Fatalf("%+v, want a turn", e)
	}
	s, err := transcript.Decode([]byte(e.data), 0)
	if err != nil || s.SessionID != session || !strings.Contains(e.data, strconv.Quote(user)) {
		l.t.Fatalf("%q %v, want %q of %q", e.data, err, user, session)
	}
	return e
}

func TestEvents(t *testing.T) {
	w := newWorld(t, nil)
	w.store1("a/1", "before")
	all, some, one := w.listen(""), w.listen("?prefix=a%2F"), w.listen("?session=a%2F2")
	w.store1("a/1", "first")
	w.store1("b", "second")
	w.store1("a/2", "line\nbreak: and more")
	e := all.turn("a/1", "first")
	all.turn("b", "second")
	all.turn("a/2", "line\nbreak: and more")
	some.turn("a/1", "first")
	some.turn("a/2", "line\nbreak: and more")
	one.turn("a/2", "line\nbreak: and more")

	// Who comes again with what it has gets what came since, and then what is new.
	again := w.listen("?after=0", "Last-Event-ID", e.id)
	again.turn("b", "second")
	again.turn("a/2", "line\nbreak: and more")
	w.store1("c", "third")
	again.turn("c", "third")
	w.listen("?after=0&session=a%2F1").turn("a/1", "before")
	few := w.listen("?after=0&limit=2")
	few.turn("a/1", "before")
	few.turn("a/1", "first")
	if _, more := few.read(); more {
		t.Error("more than the limit")
	}

	for query, member := range map[string]string{
		"?session=": "session", "?session=%00": "session", "?prefix=%ff": "prefix", "?after=-1": "after", "?after=x": "after", "?limit=0": "limit", "?x=%": "",
	} {
		w.do("GET", "/v1/events"+query, "").problem(http.StatusBadRequest, member)
	}
	w.do("GET", "/v1/events", "", "Last-Event-ID", "x").problem(http.StatusBadRequest, "Last-Event-ID")
	if a := w.do("HEAD", "/v1/events", "").want(http.StatusOK); a.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%v", a.header)
	}
}

// store1 posts a turn and waits until it is stored.
func (w *world) store1(session, user string) {
	w.t.Helper()
	w.post(session, fmt.Sprintf(`{"user":%q,"assistant":"a"}`, user), "Prefer", "wait=20").want(http.StatusCreated)
}

// When there are no turns a client hears that the connection lives, and how far it is: with
// that it comes again without a look at what it did not want.
func TestEventHeartbeats(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.Heartbeat = 20 * time.Millisecond })
	l := w.listen("?session=nobody")
	w.store1("s", "hi")
	w.store1("s", "ho")
	servertest.Eventually(t, patience, "a heartbeat behind the turns", func() bool {
		e := l.next()
		if e.comment != "heartbeat" || e.name != "" || e.data != "" {
			t.Fatalf("%+v", e)
		}
		return e.id == "2"
	})
	w.nats.Stop()
	servertest.Eventually(t, patience, "the news", func() bool { return l.next().comment == "waiting for the stream" })
}

// A client that takes nothing holds up nobody, and is cut off.
func TestStuckListener(t *testing.T) {
	w := newLiveWorld(t, func(c *Config, _ *publisher.Config) { c.SendTimeout = 300 * time.Millisecond },
		func(c *live.Config) { c.QueueTurns = 4 })
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	fmt.Fprint(conn, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	servertest.Eventually(t, patience, "the client", func() bool { return w.feed.Stats().Clients == 1 })
	quick := w.listen("")
	text := strings.Repeat("x", 500_000) // 8 MB in all: the system takes 4 MB for a client that does not read
	for range 16 {
		w.store1("s", text)
		quick.turn("s", text)
	}
	servertest.Eventually(t, patience, "the end of the stuck client", func() bool { return w.feed.Stats().Clients == 1 })
	w.store1("s", "last")
	quick.turn("s", "last")
}

// One that is slow is told what it missed.
func TestEventGap(t *testing.T) {
	w := newLiveWorld(t, nil, func(c *live.Config) { c.QueueTurns = 2 })
	l := w.listen("")
	text := strings.Repeat("x", 900_000) // 18 MB in all: more than the buffers on the way take
	const count = 20
	for range count {
		w.store1("s", text)
	}
	servertest.Eventually(t, patience, "all turns", func() bool { return w.feed.Stats().Turns == count })
	turns, missed := 0, 0
	for turns+missed < count {
		e := l.next()
		if e.name == eventTurn {
			turns++
			continue
		}
		var g gapView
		(&answer{t: t, header: http.Header{"Content-Type": {"application/json"}}, body: []byte(e.data)}).into(&g)
		if e.name != eventGap || g.Reason != live.Slow || g.Missed == 0 || e.id != strconv.FormatUint(g.After+g.Missed, 10) {
			t.Fatalf("%+v", e)
		}
		missed += int(g.Missed)
	}
	if missed == 0 {
		t.Error("nothing was missed")
	}
}

func TestTooManyListeners(t *testing.T) {
	w := newLiveWorld(t, nil, func(c *live.Config) { c.Clients = 1 })
	l := w.listen("")
	if p := w.do("GET", "/v1/events", "").problem(http.StatusServiceUnavailable, ""); p.Type != typePrefix+"clients" {
		t.Errorf("%+v", p)
	}
	l.leave()
	servertest.Eventually(t, patience, "room", func() bool { return w.feed.Stats().Clients == 0 })
	w.listen("")
}

func TestEventsWithoutStream(t *testing.T) {
	w := newLiveWorld(t, nil, func(c *live.Config) { c.Request = 200 * time.Millisecond })
	w.nats.Stop()
	w.do("GET", "/v1/events", "").problem(http.StatusServiceUnavailable, "")
}

// A past that is longer than one client gets comes in pieces.
func TestEventsInPieces(t *testing.T) {
	w := newLiveWorld(t, nil, func(c *live.Config) { c.Resume = 2 })
	for i := range 3 {
		w.store1("s", strconv.Itoa(i))
	}
	l := w.listen("?after=0")
	l.turn("s", "0")
	l.turn("s", "1")
	end := l.next()
	if _, more := l.read(); more || end.id != "2" || end.data != "" {
		t.Errorf("%+v %t", end, more)
	}
	w.listen("", "Last-Event-ID", end.id).turn("s", "2")
}

// A stop ends listening, and does not wait for it.
func TestStopEndsEvents(t *testing.T) {
	w := newWorld(t, nil)
	l := w.listen("")
	began := time.Now()
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	if _, more := l.read(); more || time.Since(began) > patience/2 {
		t.Errorf("more %t after %s", more, time.Since(began))
	}
}
