package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

// The page comes with a policy that lets it have only what it is made of, under either path that
// a proxy may ask for, and says nothing of other hosts.
func TestPage(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.BasePath = "/ops" })
	for _, from := range []string{"/", "/console", "/ops", "/ops/", "/ops/console"} {
		if to := w.get(from).is(http.StatusFound).header.Get("Location"); to != "/ops/console/" {
			t.Errorf("%s leads to %q", from, to)
		}
	}
	pages, err := fs.Glob(files, "page/*")
	if err != nil || len(pages) < 10 {
		t.Fatalf("%d files, %v", len(pages), err)
	}
	kinds := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".html": "text/html; charset=utf-8"}
	elsewhere := regexp.MustCompile(`(?i)(https?:)?//[a-z]|\son[a-z]+=|style=|innerHTML|insertAdjacentHTML|document\.write|eval\(`)
	for _, name := range pages {
		for _, base := range []string{"", "/ops"} {
			at := base + "/console/" + strings.TrimSuffix(path.Base(name), "index.html")
			a := w.get(at).is(http.StatusOK)
			csp := a.header.Get("Content-Security-Policy")
			for _, part := range []string{"default-src 'none'", "script-src 'self';", "style-src 'self';", "frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"} {
				if !strings.Contains(csp, part) {
					t.Errorf("%s: the policy %q has no %q", at, csp, part)
				}
			}
			if strings.Contains(csp, "unsafe") || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Referrer-Policy") != "no-referrer" {
				t.Errorf("%s: headers are %v", at, a.header)
			}
			if got := a.header.Get("Content-Type"); got != kinds[path.Ext(name)] {
				t.Errorf("%s is %q", at, got)
			}
			if w.get(at, "If-None-Match", a.header.Get("Etag")).status != http.StatusNotModified {
				t.Errorf("%s is sent again though it has not changed", at)
			}
			for _, line := range strings.Split(a.body, "\n") {
				if found := elsewhere.FindString(line); found != "" && !strings.Contains(line, "http://www.w3.org/2000/svg") && !strings.HasPrefix(strings.TrimSpace(line), "//") {
					t.Errorf("%s has %q: %s", name, found, line)
				}
			}
		}
	}
	if a := w.get("/v1/sessions"); a.status != http.StatusNotFound || a.header.Get("Content-Security-Policy") != "" {
		t.Errorf("what is not the console's is answered by it: %d", a.status)
	}
	w.get("/console/api/nothing").is(http.StatusNotFound)
}

// Paths are neither cleaned nor redirected, and one that is there says which methods it answers.
func TestPaths(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.BasePath = "/ops" })
	for _, path := range []string{
		"/console//x", "/console//evil.example.org", "/console//evil.example.org/..", "/console/../v1", "/console/%2e%2e/v1", "/console/./", "/console/x/",
		"//console/", "//evil.example.org/console/", "/console/api", "/console/api/", "/console/api//sessions", "/console/%2F", "/console/main.js/",
		"/ops/console//x", "/ops//console/", "/ops/../console", "/consolex", "/opsx/console/",
	} {
		if a := w.get(path); a.status != http.StatusNotFound || a.header.Get("Location") != "" {
			t.Errorf("%s: %d, Location %q", path, a.status, a.header.Get("Location"))
		}
	}
	for _, path := range []string{"/", "/console", "/ops", "/ops/", "/ops/console"} {
		if a := w.get(path); a.status != http.StatusFound || a.header.Get("Location") != "/ops/console/" {
			t.Errorf("%s: %d, Location %q", path, a.status, a.header.Get("Location"))
		}
	}
	for path, allow := range map[string]string{
		"/": "GET, HEAD", "/console/": "GET, HEAD", "/console/main.js": "GET, HEAD", "/console/api/sessions": "GET, HEAD", "/console/api/letters/7": "GET, HEAD",
		"/console/api/replays": "GET, HEAD, POST", "/ops/console/api/letters/requeue": "POST", "/console/api/replays/1/cancel": "POST",
	} {
		for _, method := range []string{http.MethodDelete, http.MethodPatch, http.MethodOptions, "BREW"} {
			if a := w.do(method, path, "").is(http.StatusMethodNotAllowed); a.header.Get("Allow") != allow {
				t.Errorf("%s %s: Allow %q, want %q", method, path, a.header.Get("Allow"), allow)
			}
		}
	}
	w.get("/console/api/letters/requeue").is(http.StatusMethodNotAllowed)
	w.post("/console/api/replays", `{"session":"`+strings.Repeat("x", maxBody)+`"}`).is(http.StatusRequestEntityTooLarge, "bytes")
}

// A page of another site changes nothing and reads nothing; a console that is read-only changes nothing.
func TestGuard(t *testing.T) {
	w := newWorld(t, nil)
	const change = "/console/api/letters/discard"
	for _, header := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "http://other.example.org"}, {"Origin", "null"},
	} {
		w.post(change, `{"seqs":[1]}`, header...).is(http.StatusForbidden, "another site")
	}
	w.get("/console/api/overview", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors").is(http.StatusForbidden)
	w.get("/console/", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate").is(http.StatusOK) // a link to it
	w.post(change, `{"seqs":[1]}`, "Origin", w.base, "Sec-Fetch-Site", "same-origin").is(http.StatusNotFound)
	w.do(http.MethodPost, change, `{"seqs":[1]}`, "Content-Type", "text/plain").is(http.StatusUnsupportedMediaType) // as a form sends it
	w.post(change, `{"seqs":[1]}`).is(http.StatusNotFound, "not there any more")                                    // not a browser

	ro := newWorld(t, func(c *Config) { c.ReadOnly = true })
	for _, at := range []string{"letters/discard", "letters/requeue", "replays", "replays/1/cancel"} {
		ro.post("/console/api/"+at, `{}`).is(http.StatusForbidden, "read-only")
	}
	ro.get("/console/api/overview", "Host", "evil.example.org").is(http.StatusMisdirectedRequest, "allowed-hosts")
}

// Requests are bounded, and what is wrong with them is said.
func TestBadRequests(t *testing.T) {
	w := newWorld(t, nil)
	for at, detail := range map[string]string{
		"sessions?limit=0": "limit", "sessions?limit=501": "limit", "sessions?limit=x": "limit", "sessions?cursor=%21": "cursor",
		"sessions?prefix=%FF": "prefix", "sessions?prefix=" + strings.Repeat("x", 300): "prefix",
		"transcript": "session", "transcript?session=%0A": "session", "transcript?session=a&before=-1": "before", "transcript?session=a&limit=201": "limit",
		"agreement?session=": "session", "letters?kind=other": "kind", "letters/x": "number", "overview?since=x": "since",
		"tail?prefix=" + strings.Repeat("x", 300): "prefix",
	} {
		w.get("/console/api/"+at).is(http.StatusBadRequest, detail)
	}
	for _, body := range []string{"", "{", `{}`, `{"seqs":[]}`, `{"seqs":[1],"kind":"json","until":1}`, `{"kind":"json"}`, `{"kind":"other","until":1}`, `{"until":1}`, `{"other":1}`, `{"seqs":[1]}{}`} {
		w.post("/console/api/letters/requeue", body).is(http.StatusBadRequest)
		w.post("/console/api/letters/discard", body).is(http.StatusBadRequest)
	}
	for _, body := range []string{`{}`, `{"session":"a","all":true}`, `{"session":"\n"}`, `{"all":true,"rate":-1}`, `{"all":true,"since":"yesterday"}`} {
		w.post("/console/api/replays", body).is(http.StatusBadRequest)
	}
	for body, detail := range map[string]string{`{"seqs":"x"}`: "seqs is of another type.", `[1]`: "it is no object.", `{"other":1}`: `unknown field "other".`, `{x`: "it is not JSON at byte 2."} {
		w.post("/console/api/letters/requeue", body).is(http.StatusBadRequest, "The request is not what is expected here: "+detail)
	}
	w.post("/console/api/replays/7/cancel", "{}").is(http.StatusNotFound)
	w.get("/console/api/transcript?session=nobody").is(http.StatusNotFound)
	w.get("/console/api/agreement?session=nobody").is(http.StatusNotFound)
}

// What nothing is known of is said to be so.
func TestWithoutTranscripts(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Store, c.Writable, c.Cache, c.Feed = nil, nil, nil, nil })
	w.publish("s", "1")
	w.get("/console/api/sessions").is(http.StatusNotImplemented, "whole id")
	w.get("/console/api/tail").is(http.StatusNotImplemented)
	w.post("/console/api/replays", `{"all":true}`).is(http.StatusNotImplemented, "afterword replay")
	var page transcriptPage
	w.get("/console/api/transcript?session=s").is(http.StatusOK).into(&page)
	if page.Source != "stream" || page.Total != 1 {
		t.Errorf("the transcript is %+v", page)
	}
	var a agreement
	w.get("/console/api/agreement?session=s").is(http.StatusOK).into(&a)
	if a.Compared || a.Agrees || a.File.State != "none" || a.Redis.State != "none" || a.Stream.State != "present" || a.Stream.Turns != 1 {
		t.Errorf("the agreement is %+v", a)
	}
}

// Sessions are found by their beginning, page by page; what was said is shown only when
// that is asked for.
func TestSessions(t *testing.T) {
	w := newWorld(t, nil)
	w.consume()
	for _, session := range []string{"garden-1", "garden-2", "order/<b>", "garden-3"} {
		w.publish(session, "1")
	}
	for _, id := range []string{"2", "3", "4"} {
		w.publish("garden-1", id)
	}
	var found []string
	servertest.Eventually(t, patience, "everything to be written", func() bool {
		var page transcriptPage
		a := w.get("/console/api/transcript?session=garden-1")
		return a.status == http.StatusOK && json.Unmarshal([]byte(a.body), &page) == nil && page.Total == 4 && page.Source == "file" && w.get("/console/api/transcript?session=garden-3").status == http.StatusOK
	})
	for next := ""; ; {
		var list sessionList
		w.get("/console/api/sessions?prefix=garden&limit=2&cursor=" + next).is(http.StatusOK).into(&list)
		for _, s := range list.Sessions {
			found = append(found, s.SessionID)
		}
		if next = list.Next; next == "" {
			break
		}
	}
	if len(found) != 3 {
		t.Errorf("found %q", found)
	}
	hidden := w.get("/console/api/transcript?session=garden-1&limit=2").is(http.StatusOK)
	var page transcriptPage
	hidden.into(&page)
	if strings.Contains(hidden.body, secret) || page.First != 2 || len(page.Turns) != 2 || page.Turns[1].ID != "4" || page.Turns[1].User != nil || page.Turns[1].UserBytes != len("Is it "+secret+"?") {
		t.Errorf("hidden: %s", hidden.body)
	}
	shown := w.get("/console/api/transcript?session=garden-1&before=2&text=1").is(http.StatusOK)
	shown.into(&page)
	if page.First != 0 || len(page.Turns) != 2 || *page.Turns[0].User != "Is it "+secret+"?" || page.Turns[0].Model != "small-1" {
		t.Errorf("shown: %s", shown.body)
	}
}

// A turn of a branch that the recent history does not take is marked, and turns that name what they follow show it.
func TestBranches(t *testing.T) {
	w := newWorld(t, nil)
	for i, more := range []string{`"id":"a"`, `"id":"b"`, `"id":"c","supersedes":"b"`, `"id":"d","supersedes":"c","status":"failed"`, `"id":"e","parent":"gone"`, `"id":"f","parent":"c"`} {
		w.raw("talk", fmt.Sprintf(`{%s,"session_id":"talk","timestamp":"2026-01-31T12:00:0%dZ","user":"u","assistant":"a"}`, more, i))
	}
	for query, want := range map[string]string{
		"": `[a//false b/a/true c/a/false d/a/false e//true f/c/false]`, "&limit=2&before=3": `[b/a/true c/a/false]`,
	} {
		var page transcriptPage
		w.get("/console/api/transcript?session=talk" + query).is(http.StatusOK).into(&page)
		var got []string
		for _, turn := range page.Turns {
			got = append(got, fmt.Sprintf("%s/%s/%v", turn.ID, turn.Parent, turn.Aside))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%q: %s, want %s", query, got, want)
		}
	}
}

// The three copies of a session are compared, and a replay mends what is missing.
func TestAgreementAndReplay(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("s", "1")
	w.publish("s", "2")
	var a agreement
	w.get("/console/api/agreement?session=s").is(http.StatusOK).into(&a)
	if a.Agrees || !a.Compared || a.File.State != "absent" || a.Stream.Turns != 2 || a.Redis.State != "absent" || a.Difference == nil || a.Difference.Missing != 2 || a.Command != "afterword verify --repair --session s" {
		t.Errorf("without a file: %+v, %+v", a, a.Difference)
	}
	var begun replay
	w.post("/console/api/replays", `{"session":"s"}`).is(http.StatusAccepted).into(&begun)
	var list struct{ Replays []replay }
	servertest.Eventually(t, patience, "the replay to end", func() bool {
		w.get("/console/api/replays").is(http.StatusOK).into(&list)
		return list.Replays[0].State != "running"
	})
	if r := list.Replays[0]; r.ID != begun.ID || r.State != "done" || r.Turns != 2 || r.Done != r.Total || r.Ended == nil {
		t.Errorf("the replay is %+v", r)
	}
	rec, err := w.store.Recent(t.Context(), "s", 10)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cache.Refresh(t.Context(), "s", rec); err != nil {
		t.Fatal(err)
	}
	a = agreement{}
	w.get("/console/api/agreement?session=s").is(http.StatusOK).into(&a)
	if !a.Agrees || a.File.Turns != 2 || a.Redis.State != "present" || a.Redis.Revision != a.File.Revision || a.Command != "" {
		t.Errorf("after the replay: %+v", a)
	}
	w.publish("s", "3")
	if _, err := w.store.Read(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	a = agreement{}
	w.get("/console/api/agreement?session=s").is(http.StatusOK).into(&a)
	if a.Agrees || a.Difference.Missing != 1 {
		t.Errorf("with one more in the stream: %+v", a)
	}
}

// A replay says how far it is and how long it takes, a few run at one time, and each can be
// cancelled; the end of the console cancels the rest.
func TestCancelReplay(t *testing.T) {
	w := newWorld(t, nil)
	for range 40 {
		w.publish("s", time.Now().Format("150405.000000000"))
	}
	w.publish("t", "1")
	w.post("/console/api/replays", `{"all":true,"rate":1}`).is(http.StatusAccepted)
	w.post("/console/api/replays", `{"all":true}`).is(http.StatusConflict, "already")
	w.post("/console/api/replays", `{"session":"s","rate":1}`).is(http.StatusAccepted)
	w.post("/console/api/replays", `{"session":"t"}`).is(http.StatusConflict, "as many as may")
	w.post("/console/api/replays/2/cancel", "{}").is(http.StatusOK)
	var list struct{ Replays []replay }
	servertest.Eventually(t, patience, "one to be cancelled", func() bool {
		w.get("/console/api/replays").is(http.StatusOK).into(&list)
		return list.Replays[0].State == "cancelled" && list.Replays[1].State == "running"
	})
}

// Dead letters are counted by reason and looked at; some are requeued, those of a kind that were
// seen are discarded, and none that came later.
func TestLetters(t *testing.T) {
	w := newWorld(t, nil)
	w.consume()
	const broken = `{"user":"` + secret
	w.raw("a", broken)
	w.raw("b", `{"id":"1","session_id":"b","timestamp":"2026-01-31T12:00:00Z","user":"u","status":"`+secret+`"}`)
	w.raw("a", broken+"2")
	list := func(query string) (l letterList) {
		a := w.get("/console/api/letters" + query).is(http.StatusOK)
		if strings.Contains(a.body, secret) {
			t.Errorf("what was said is in the list: %s", a.body)
		}
		a.into(&l)
		return l
	}
	servertest.Eventually(t, patience, "three dead letters", func() bool { return list("").Total == 3 })
	all := list("")
	if len(all.Letters) != 3 || all.Letters[0].Seq != 3 || all.Counted != 3 || len(all.Kinds) != 2 || all.Kinds[0].Kind != "json" || all.Kinds[0].Count != 2 {
		t.Errorf("the list is %+v", all)
	}
	if ofKind := list("?kind=json&limit=1"); len(ofKind.Letters) != 1 || ofKind.Letters[0].Kind != "json" || ofKind.Total != 3 {
		t.Errorf("those of a kind are %+v", ofKind)
	}
	var first uint64
	for _, l := range all.Letters {
		if l.Kind == "json" {
			first = l.Seq
		}
	}
	number := jsonOf(first)
	if a := w.get("/console/api/letters/" + number).is(http.StatusOK); strings.Contains(a.body, secret) || !strings.Contains(a.body, "Afterword-Reason") {
		t.Errorf("a letter is %s", a.body)
	}
	var view letterView
	w.get("/console/api/letters/" + number + "?text=1").is(http.StatusOK).into(&view)
	if view.Payload == nil || !strings.HasPrefix(*view.Payload, broken) {
		t.Errorf("its payload is %v", view.Payload)
	}
	var done requeued
	w.post("/console/api/letters/requeue", `{"seqs":[`+number+`,99]}`).is(http.StatusOK).into(&done)
	if l := list(""); done.Requeued != 0 || len(done.Kept) != 0 || len(done.Back) != 1 || l.Total != 3 || l.Letters[0].RequeuedFrom != first || done.Back[0].Seq != l.Letters[0].Seq {
		t.Errorf("requeued %+v, then there are %+v; want it to have come back", done, l)
	}
	forged := w.forge("a")
	if l := list("").Letters; l[0].Seq != forged || l[0].Doubt == "" || l[1].Doubt != "" {
		t.Errorf("only the newest letter was made up, and the list is %+v", l)
	}
	view = letterView{}
	if w.get("/console/api/letters/" + jsonOf(forged)).is(http.StatusOK).into(&view); view.Doubt == "" {
		t.Errorf("a letter that was made up is %+v", view)
	}
	w.post("/console/api/letters/requeue", `{"seqs":[`+jsonOf(forged)+`]}`).is(http.StatusOK).into(&done)
	if done.Requeued != 0 || len(done.Kept) != 1 {
		t.Errorf("a letter that was made up: %+v", done)
	}
	w.post("/console/api/letters/discard", `{"seqs":[`+jsonOf(forged)+`]}`).is(http.StatusOK)
	var gone struct{ Discarded int }
	w.post("/console/api/letters/discard", `{"kind":"json","until":`+jsonOf(all.Until)+`}`).is(http.StatusOK).into(&gone)
	if left := list(""); gone.Discarded != 1 || left.Total != 2 {
		t.Errorf("discarded %d, left %+v", gone.Discarded, left)
	}
	w.get("/console/api/letters/" + jsonOf(1<<40)).is(http.StatusNotFound)
}

func jsonOf(n uint64) string {
	b, _ := json.Marshal(n) // of a number, always
	return string(b)
}

// The overview says what is wrong with the command that helps, what streams, groups and members do, and how
// that went; without NATS it says so, and keeps what it knew, with its age.
func TestOverview(t *testing.T) {
	w := newWorld(t, nil)
	var o overview
	look := func(ok func() bool) func() bool {
		return func() bool {
			o = overview{}
			w.get("/console/api/overview").is(http.StatusOK).into(&o)
			return ok()
		}
	}
	has := func(part, command string) func() bool {
		return look(func() bool {
			for _, t := range o.Troubles {
				if strings.Contains(t.What, part) && strings.HasPrefix(t.Command, command) {
					return true
				}
			}
			return false
		})
	}
	w.publish("s", "1")
	servertest.Eventually(t, patience, "that nobody consumes to be said", has("no group consumes", "afterword consume"))
	stop := w.consume()
	w.raw("s", "{")
	servertest.Eventually(t, patience, "the member and its latency to be seen", look(func() bool {
		return o.State != nil && len(o.State.Groups) == 1 && len(o.State.Groups[0].Members) == 1 && o.State.Groups[0].Members[0].Acked == 1 && o.State.Groups[0].Lag == 0
	}))
	if m := o.State.Groups[0].Members[0]; m.Host != "host-a" || m.Version != "v1.2.2" || o.Version != "v1.2.3" || !o.Replays || !o.Files || o.ReadOnly || o.State.Space == nil || o.State.Streams[0].Messages != 2 {
		t.Errorf("the overview is %+v", o)
	}
	servertest.Eventually(t, patience, "the dead letter to be said", has("1 dead letter: 1 json", "afterword dlq ls"))
	servertest.Eventually(t, patience, "samples with a rate and a latency", func() bool {
		now := time.Now().UTC()
		w.raw("s", fmt.Sprintf(`{"id":"%d","session_id":"s","timestamp":%q,"user":"u","assistant":"a"}`, now.UnixNano(), now.Format(time.RFC3339Nano)))
		return look(func() bool {
			for _, s := range o.Samples {
				if s.End != nil && s.Late != nil && *s.End > 0 && *s.Late > 0 && s.Stored != nil && *s.Stored > 0 && s.Written != nil && s.Lag != nil && s.Dead != nil && s.Disk != nil {
					return true
				}
			}
			return false
		})()
	})
	newest := o.Samples[len(o.Samples)-1].At
	var later overview
	w.get("/console/api/overview?since=" + jsonOf(uint64(newest))).is(http.StatusOK).into(&later)
	for _, s := range later.Samples {
		if s.At <= newest {
			t.Errorf("sample %d is not after %d", s.At, newest)
		}
	}
	stop()
	servertest.Eventually(t, patience, "its members to be gone", look(func() bool { return len(o.State.Groups[0].Members) == 0 }))
	w.nats.Stop()
	servertest.Eventually(t, patience, "the outage to be said", look(func() bool { return o.Stale != "" && len(o.Troubles) > 0 && o.Troubles[0].Level == "critical" }))
	if o.State == nil || time.Since(o.State.At) <= 0 {
		t.Error("what was known is forgotten")
	}
	w.get("/console/api/letters").is(http.StatusServiceUnavailable)
}

// A tail shows turns as they are stored, of sessions that begin so, without what was
// said; and ends with the console.
func TestTail(t *testing.T) {
	w := newWorld(t, nil)
	listen := func(query string) (next func() (kind, data string)) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+"/console/api/tail"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cancel(); res.Body.Close(); http.DefaultClient.CloseIdleConnections() })
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("the tail is %d, %v", res.StatusCode, res.Header)
		}
		lines := bufio.NewScanner(res.Body)
		return func() (kind, data string) {
			for lines.Scan() {
				line := lines.Text()
				if k, ok := strings.CutPrefix(line, "event: "); ok {
					kind = k
				} else if d, ok := strings.CutPrefix(line, "data: "); ok {
					return kind, d
				}
			}
			t.Fatalf("the tail ended: %v", lines.Err())
			return "", ""
		}
	}
	hidden, shown := listen("?prefix="+url.QueryEscape("garden-")), listen("?text=1")
	for _, next := range []func() (string, string){hidden, shown} {
		if kind, _ := next(); kind != "open" {
			t.Errorf("it begins with %q", kind)
		}
	}
	w.publish("order-1", "1")
	w.publish("garden-1", "2")
	kind, data := hidden()
	if kind != "turn" || !strings.Contains(data, `"garden-1"`) || strings.Contains(data, secret) {
		t.Errorf("hidden: %s %s", kind, data)
	}
	kind, data = shown()
	if kind != "turn" || !strings.Contains(data, `"order-1"`) || !strings.Contains(data, secret) {
		t.Errorf("shown: %s %s", kind, data)
	}
}

// A configuration that cannot be served is refused.
func TestConfig(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a console without a stream was made")
	}
	for path, ok := range map[string]bool{"": true, "/a": true, "/a/b-c.d_e~f": true, "a": false, "/": false, "/a/": false, "//a": false, "/a/../b": false, "/a b": false, "/ä": false, "/a?b": false} {
		if err := CheckBasePath(path); (err == nil) != ok {
			t.Errorf("base path %q: %v", path, err)
		}
	}
	for id, want := range map[string]string{"abc-1": "abc-1", "a b": "'a b'", "it's": `'it'\''s'`, "-x": "'-x'", "": "''", "$(rm)": "'$(rm)'"} {
		if got := quote(id); got != want {
			t.Errorf("%q is quoted %s", id, got)
		}
	}
}
