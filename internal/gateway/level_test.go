package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

const whole = `{"id":"t1","timestamp":"2026-01-02T03:04:05Z","user":"q","rev":%d,"assistant":"a%d","level":"mine","x":{"level":1}}`

// letters are dead letters by session and id.
type letters map[string]transcript.Snapshot

func (l letters) Turn(_ context.Context, session, id string) (s transcript.Snapshot, ok bool, err error) {
	s, ok = l[session+" "+id]
	return s, ok, nil
}

func (w *world) turn(session, id, query string) turnView {
	w.t.Helper()
	var v turnView
	w.do("GET", turnPath(session, id)+query, "").want(http.StatusOK).into(&v)
	return v
}

func (w *world) wantLevel(query, level string, rev int) {
	w.t.Helper()
	if v := w.turn("a/b", "t1", query); v.Level != level || v.Rev != rev || v.Assistant != fmt.Sprintf("a%d", rev) || v.SessionID != "a/b" {
		w.t.Errorf("with %q: %+v, want %s at rev %d", query, v, level, rev)
	}
}

// A turn is followed from buffered to written, and a newer revision after it.
func TestLevels(t *testing.T) {
	dead := letters{}
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.Dead = dead })
	w.do("GET", turnPath("a/b", "t1"), "").problem(http.StatusNotFound, "")

	w.post("a/b", fmt.Sprintf(whole, 1, 1), "Prefer", "wait=10").want(http.StatusCreated)
	w.wantLevel("", "stored", 1)
	w.wantLevel("?rev=1", "stored", 1)
	w.do("GET", turnPath("a/b", "t1")+"?rev=2", "").problem(http.StatusNotFound, "")
	w.consume()
	w.wantLevel("", "written", 1)

	// The answer comes while the stream takes nothing.
	w.noStream()
	w.post("a/b", fmt.Sprintf(whole, 2, 2)).want(http.StatusAccepted)
	w.wantLevel("", "buffered", 2)
	w.wantLevel("?rev=2", "buffered", 2)
	w.wantLevel("?rev=1", "written", 1)

	// A dead letter of another revision says nothing of this one; of this one, all.
	s, err := transcript.Decode([]byte(strings.Replace(fmt.Sprintf(whole, 2, 2), "{", `{"session_id":"a/b",`, 1)), 0)
	if err != nil {
		t.Fatal(err)
	}
	dead["a/b t1"] = s
	w.wantLevel("", "dead", 2)
	w.wantLevel("?rev=2", "dead", 2)
	w.wantLevel("?rev=1", "written", 1)

	// Requeued and written after all.
	if err := w.store.Append(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	w.wantLevel("", "written", 2)

	for _, q := range []string{"rev=0", "rev=x", "rev=1000001", "rev="} {
		w.do("GET", turnPath("a/b", "t1")+"?"+q, "").problem(http.StatusBadRequest, "rev")
	}
	for _, id := range []string{"", "a%20b", "%00", "空", strings.Repeat("x", 129), "a%2Fb"} {
		w.do("GET", "/v1/sessions/s/turns/"+id, "").problem(http.StatusBadRequest, "id")
	}
	w.do("GET", "/v1/sessions/s/turns/"+strings.Repeat("x", 128), "").problem(http.StatusNotFound, "")
}

// A turn in the spool is followed too; when it is nowhere else, it is not said to be missing.
func TestLevelOfTheSpool(t *testing.T) {
	w := newWorld(t, func(c *Config, p *publisher.Config) {
		p.SpoolDir, p.BufferTurns = filepath.Join(t.TempDir(), "spool"), 20
	})
	w.noStream()
	const n = 40
	for i := range n {
		turn := fmt.Sprintf(`{"id":"t%d","timestamp":"2026-01-02T03:04:05Z","user":"q"}`, i)
		servertest.Eventually(t, 10*time.Second, "room", func() bool {
			return w.post("s", turn).status == http.StatusAccepted
		})
	}
	servertest.Eventually(t, 10*time.Second, "it to be spooled", func() bool {
		return w.pub.Stats().Spool.Turns == n && w.pub.Away() > 0
	})
	away := 0
	for i := range n {
		a := w.do("GET", turnPath("s", fmt.Sprintf("t%d", i)), "")
		if a.status == http.StatusServiceUnavailable {
			away++
			continue
		}
		var v turnView
		if a.want(http.StatusOK).into(&v); v.Level != "spooled" {
			t.Errorf("%+v", v)
		}
	}
	if away == 0 || away == n {
		t.Errorf("%d turns of %d are in the spool only", away, n)
	}
	w.post("s", `{"id":"waited","timestamp":"2026-01-02T03:04:05Z","user":"q"}`, "Prefer", "wait=1").want(http.StatusAccepted)
}

// waiting is a publisher that has one turn.
type waiting struct {
	full
	snap  transcript.Snapshot
	level publisher.Level
}

func (w waiting) Pending(string) []transcript.Snapshot              { return []transcript.Snapshot{w.snap} }
func (w waiting) Level(string, string, int) (publisher.Level, bool) { return w.level, true }

// Without ?rev the newest revision counts; with it, the safest that is new enough.
func TestLook(t *testing.T) {
	var rev [4]transcript.Snapshot
	for n := 1; n < len(rev); n++ {
		d, err := (&transcript.Turn{SessionID: "s", ID: "t1", Timestamp: time.Unix(1, 0), Rev: n, User: "q"}).Draft()
		if err != nil {
			t.Fatal(err)
		}
		if rev[n], err = d.Snapshot(0); err != nil {
			t.Fatal(err)
		}
	}
	const none = 0
	for _, c := range []struct {
		pending, dead, stream int // revisions
		ask                   int
		rev                   int
		level                 publisher.Level
	}{
		{2, none, 1, 0, 2, publisher.Buffered},
		{2, none, 1, 1, 1, publisher.Stored},
		{2, none, 1, 2, 2, publisher.Buffered},
		{2, none, 1, 3, none, 0},
		{2, 1, 1, 0, 2, publisher.Buffered},
		{2, 1, 1, 1, 1, publisher.Dead}, // the stream still has what is dead
		{3, 1, 2, 1, 2, publisher.Stored},
		{3, 2, 2, 1, 2, publisher.Dead},
		{2, 2, 2, 0, 2, publisher.Dead},
		{1, none, 2, 0, 2, publisher.Stored},
		{1, none, 2, 1, 2, publisher.Stored},
	} {
		in := func(n int) Turns {
			if n == none {
				return letters{}
			}
			return letters{"s t1": rev[n]}
		}
		g := New(Config{Publisher: waiting{snap: rev[c.pending]}, Dead: in(c.dead), Stream: in(c.stream)})
		got, err := g.look(t.Context(), place{"s", "t1"}, c.ask)
		if err != nil || (got == nil) != (c.rev == none) || got != nil && (got.snap.Rev != c.rev || got.level != c.level) {
			t.Errorf("%+v: %+v %v", c, got, err)
		}
	}
}

// Another process published it: the stream knows.
func TestLevelFromStream(t *testing.T) {
	w := newWorld(t, nil)
	w.post("a/b", fmt.Sprintf(whole, 1, 1), "Prefer", "wait=10").want(http.StatusCreated)
	addr, _ := serve(t, New(Config{Publisher: full{}, Store: w.store, Stream: w}))
	var v turnView
	do(t, addr, "GET", turnPath("a/b", "t1"), "").want(http.StatusOK).into(&v)
	if v.Level != "stored" {
		t.Errorf("%+v", v)
	}
	do(t, addr, "GET", turnPath("a/b", "t2"), "").problem(http.StatusNotFound, "")

	// Without the stream's answer nobody knows.
	addr, _ = serve(t, New(Config{Publisher: full{}, Store: w.store, Stream: broken{transcript.ErrLate}}))
	do(t, addr, "GET", turnPath("a/b", "t1"), "").problem(http.StatusServiceUnavailable, "")
	w.consume()
	do(t, addr, "GET", turnPath("a/b", "t1"), "").want(http.StatusOK).into(&v)
	if v.Level != "written" {
		t.Errorf("%+v", v)
	}
}

// The gateway's level takes the place of a member of that name, and only there.
func TestWithLevel(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                        `{"level":"stored"}`,
		`{"a":1.50}`:                `{"a":1.50,"level":"stored"}`,
		`{"level":{"level":1}}`:     `{"level":"stored"}`,
		`{"a":{"level":1},"b":"<"}`: `{"a":{"level":1},"b":"<","level":"stored"}`,
		`{"level":1,"levels":"x"}`:  `{"levels":"x","level":"stored"}`,
	} {
		got, err := withLevel([]byte(in), publisher.Stored)
		if err != nil || string(got) != want || !json.Valid(got) {
			t.Errorf("%s: %s %v, want %s", in, got, err, want)
		}
	}
}
