package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

func TestHistory(t *testing.T) {
	w := newWorld(t, nil)
	if h := w.history("new", ""); h.SessionID != "new" || h.Source != "none" || *h.Degraded || len(h.Turns) != 0 {
		t.Errorf("of an unknown session: %+v", h)
	}
	for i := range 12 {
		w.post("s", fmt.Sprintf(`{"user":"q%d","assistant":"a%d"}`, i, i)).want(http.StatusAccepted)
	}
	w.post("s", `{"user":"q12","status":"pending"}`).want(http.StatusAccepted)
	w.consume()
	h := w.history("s", "")
	if len(h.Turns) != 10 || h.Turns[0].User != "q2" || h.Turns[9].Assistant != "a11" || *h.Revision != 13 || h.Source != "file" {
		t.Errorf("%+v", h)
	}
	if h.Turns[0].SessionID != "" || h.Turns[0].ID == "" || h.Turns[0].Rev != 1 {
		t.Errorf("a turn is not whole: %+v", h.Turns[0])
	}
	if h := w.history("s", "?limit=2"); len(h.Turns) != 2 || h.Turns[0].User != "q10" {
		t.Errorf("%+v", h)
	}
	if h := w.history("s", "?limit=1000"); len(h.Turns) != 12 {
		t.Errorf("%d turns", len(h.Turns))
	}
	for _, q := range []string{"limit=0", "limit=1001", "limit=-1", "limit=ten", "limit=", "limit=1.0", "limit=99999999999999999999"} {
		w.do("GET", "/v1/sessions/s/history?"+q, "").problem(http.StatusBadRequest, "limit")
	}
	w.do("GET", "/v1/sessions/s/history?limit=%zz", "").problem(http.StatusBadRequest, "")
	w.do("GET", "/v1/sessions//history", "").problem(http.StatusBadRequest, "session_id")
	if a := w.do("HEAD", "/v1/sessions/s/history", "").want(http.StatusOK); len(a.body) != 0 {
		t.Errorf("HEAD has a body: %s", a.body)
	}
}

// broken is a store that does not answer.
type broken struct{ err error }

func (b broken) View(context.Context, string) (*transcript.View, error) { return nil, b.err }
func (b broken) List(context.Context, string, string, int) (transcript.Page, error) {
	return transcript.Page{}, b.err
}
func (b broken) Path(context.Context, string, transcript.PathQuery) (transcript.Recent, error) {
	return transcript.Recent{}, b.err
}
func (b broken) Turn(context.Context, string, string) (s transcript.Snapshot, ok bool, err error) {
	return s, false, b.err
}

// What cannot be read is never an empty answer.
func TestReadsInTrouble(t *testing.T) {
	late := fmt.Errorf("read session s: %w", transcript.ErrLate)
	w := newWorld(t, func(c *Config, _ *publisher.Config) {
		c.Store = broken{late}
		h, err := cache.NewHistory(cache.HistoryConfig{File: broken{late}})
		if err != nil {
			t.Fatal(err)
		}
		c.History = h
	})
	if h := w.history("s", ""); !*h.Degraded || h.Source != "none" {
		t.Errorf("%+v", h)
	}
	for _, path := range []string{"/v1/sessions/s/transcript", "/v1/sessions/s/turns/t1", "/v1/sessions"} {
		w.do("GET", path, "").problem(http.StatusServiceUnavailable, "")
	}
	// Turns are still accepted, and what is known of them is told.
	var got accepted
	w.post("s", `{"user":"hi"}`, "Prefer", "wait=5").want(http.StatusCreated).into(&got)
	var turn turnView
	w.do("GET", "/v1/sessions/s/turns/"+got.ID, "").want(http.StatusOK).into(&turn)
	if turn.Level != "stored" {
		t.Errorf("%+v", turn)
	}
}

// failing is a history that fails.
type failing struct{}

func (failing) Path(context.Context, string, transcript.PathQuery) (cache.Result, error) {
	return cache.Result{}, errors.New("failed")
}
func (failing) Load(context.Context, string, int) (cache.Result, error) {
	return cache.Result{}, errors.New("failed")
}

func TestSourcesMissing(t *testing.T) {
	addr, _ := serve(t, New(Config{Publisher: full{}}))
	for _, path := range []string{"/v1/sessions", "/v1/sessions/s/history", "/v1/sessions/s/transcript"} {
		do(t, addr, "GET", path, "").problem(http.StatusNotImplemented, "")
	}
	do(t, addr, "GET", "/v1/sessions/s/turns/t", "").problem(http.StatusNotFound, "")
	addr, _ = serve(t, New(Config{Publisher: full{}, History: failing{}}))
	do(t, addr, "GET", "/v1/sessions/s/history", "").problem(http.StatusServiceUnavailable, "")
	addr, _ = serve(t, New(Config{}))
	do(t, addr, "GET", "/v1/sessions", "").problem(http.StatusNotFound, "")
	do(t, addr, "GET", "/healthz", "").want(http.StatusOK)
}

func TestTranscript(t *testing.T) {
	w := newWorld(t, nil)
	w.do("GET", "/v1/sessions/s/transcript", "").problem(http.StatusNotFound, "")
	w.post("s", `{"user":"<é>","assistant":"a"}`).want(http.StatusAccepted)
	w.do("GET", "/v1/sessions/s/transcript", "").problem(http.StatusNotFound, "")
	w.consume()
	doc, err := w.store.Read(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	want, err := doc.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	a := w.do("GET", "/v1/sessions/s/transcript", "").want(http.StatusOK)
	if !bytes.Equal(a.body, want) || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%v %s", a.header, a.body)
	}
}

func TestSessions(t *testing.T) {
	w := newWorld(t, nil)
	type page struct {
		Sessions []sessionEntry `json:"sessions"`
		Next     *string        `json:"next"`
	}
	get := func(query string) (p page) {
		t.Helper()
		w.do("GET", "/v1/sessions"+query, "").want(http.StatusOK).into(&p)
		if p.Sessions == nil || p.Next == nil {
			t.Fatalf("%+v lacks a member", p)
		}
		return p
	}
	if p := get(""); len(p.Sessions) != 0 || *p.Next != "" {
		t.Errorf("%+v", p)
	}
	ids := []string{"a", "a/b", "a/<c>", "b", "空", "../x"}
	for _, id := range ids {
		for n := range 2 {
			w.post(id, fmt.Sprintf(`{"user":"hi","timestamp":"2026-01-02T03:04:0%dZ"}`, n)).want(http.StatusAccepted)
		}
	}
	w.consume()
	var all []string
	for p, rounds := get("?limit=2"), 0; ; p, rounds = get("?limit=2&cursor="+*p.Next), rounds+1 {
		for _, s := range p.Sessions {
			if s.MessageCount != 2 || s.UpdatedAt != "2026-01-02T03:04:01.000000+00:00" {
				t.Errorf("%+v", s)
			}
			all = append(all, s.SessionID)
		}
		if *p.Next == "" {
			break
		}
		if rounds > len(ids) {
			t.Fatal("the listing has no end")
		}
	}
	slices.Sort(all)
	slices.Sort(ids)
	if !slices.Equal(all, ids) {
		t.Errorf("%q, want %q", all, ids)
	}
	if p := get("?prefix=a%2F"); len(p.Sessions) != 2 {
		t.Errorf("%+v", p)
	}
	for query, member := range map[string]string{
		"cursor=x": "cursor", "cursor=Li4vLi4v": "cursor", "cursor=MDAvYQ==": "cursor", "cursor=MDAvYS8uLg": "cursor",
		"limit=0": "limit", "limit=1001": "limit", "prefix=%ff": "prefix",
	} {
		w.do("GET", "/v1/sessions?"+query, "").problem(http.StatusBadRequest, member)
	}
}

// Reads are bounded, whatever hangs.
func TestLookupTimeout(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) {
		c.Store, c.LookupTimeout = hanging{}, 20*time.Millisecond
	})
	for _, path := range []string{"/v1/sessions/s/transcript", "/v1/sessions/s/turns/t1", "/v1/sessions"} {
		w.do("GET", path, "").problem(http.StatusServiceUnavailable, "")
	}
}

// hanging is a store that waits for its context.
type hanging struct{}

func (hanging) View(ctx context.Context, _ string) (*transcript.View, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (hanging) Turn(ctx context.Context, _, _ string) (s transcript.Snapshot, ok bool, err error) {
	<-ctx.Done()
	return s, false, ctx.Err()
}

func (hanging) List(ctx context.Context, _, _ string, _ int) (transcript.Page, error) {
	<-ctx.Done()
	return transcript.Page{}, ctx.Err()
}

// A gateway without files, on a stream that has removed messages, passes nothing off as whole
// and does not say that there is nothing.
func TestTrimmedStream(t *testing.T) {
	var reader *consumer.StreamReader
	w := newWorld(t, func(c *Config, p *publisher.Config) {
		js, err := jetstream.New(p.Conn)
		if err != nil {
			t.Fatal(err)
		}
		reader = consumer.NewStreamReader(js, 0)
		if c.History, err = cache.NewHistory(cache.HistoryConfig{Stream: reader}); err != nil {
			t.Fatal(err)
		}
		c.Store, c.Transcripts, c.Stream = nil, reader, reader
	})
	for i := range 4 {
		turn := fmt.Sprintf(`{"id":"t%d","timestamp":"2026-11-23T15:00:0%dZ","user":"2","assistant":"2"}`, i, i)
		w.post("s", turn, "Prefer", "wait=20").want(http.StatusCreated)
	}
	w.do("GET", "/v1/sessions/s/history?leaf=nobody", "").problem(http.StatusNotFound, "")
	w.do("GET", "/v1/sessions/never/history?leaf=t1", "").problem(http.StatusNotFound, "")
	if h := w.history("s", ""); *h.Degraded || len(h.Turns) != 4 {
		t.Errorf("from a whole stream %+v", h)
	}
	w.do("GET", "/v1/sessions/s/transcript", "").want(http.StatusOK)
	w.do("GET", "/v1/sessions/never/transcript", "").problem(http.StatusNotFound, "")

	s, err := w.js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil {
		t.Fatal(err)
	}
	if h := w.history("s", ""); !*h.Degraded || len(h.Turns) != 2 || h.Source != "stream" {
		t.Errorf("from a trimmed stream %+v", h)
	}
	if h := w.history("never", ""); !*h.Degraded || h.Source != "none" {
		t.Errorf("of a session that may have been there %+v", h)
	}
	for _, path := range []string{"/v1/sessions/s/transcript", "/v1/sessions/s/transcript?limit=1", "/v1/sessions/never/transcript", "/v1/sessions/s/turns/none",
		"/v1/sessions/s/history?leaf=t1", "/v1/sessions/s/history?leaf=nobody", "/v1/sessions/never/history?leaf=t1", "/v1/sessions/s/history?cursor=t3~t1"} {
		if p := w.do("GET", path, "").problem(http.StatusServiceUnavailable, ""); p.Type != typePrefix+"incomplete" {
			t.Errorf("%s: %+v", path, p)
		}
	}
	w.do("GET", "/v1/sessions/s/turns/"+w.history("s", "").Turns[1].ID, "").want(http.StatusOK)
	if h := w.history("s", "?leaf=t2"); !*h.Degraded || len(h.Turns) != 1 || h.Turns[0].ID != "t2" {
		t.Errorf("a branch of a trimmed stream %+v", h)
	}
}

// A branch is read by its leaf, and a long path page by page.
func TestHistoryOfBranchesAndPages(t *testing.T) {
	w := newWorld(t, nil)
	var want []string
	for i := range 7 {
		id := fmt.Sprintf("t%d", i)
		more := ""
		if i == 5 {
			more = `,"supersedes":"t2"`
		}
		turn := fmt.Sprintf(`{"id":%q,"timestamp":"2026-11-23T15:00:0%dZ","user":"u","assistant":"a"%s}`, id, i, more)
		w.post("s", turn, "Prefer", "wait=20").want(http.StatusCreated)
		if i < 2 || i > 4 {
			want = append(want, id)
		}
	}
	ids := func(query string) (ids []string, next string) {
		var h struct {
			Turns []struct{ ID string }
			Next  string
		}
		if err := json.Unmarshal([]byte(w.do("GET", "/v1/sessions/s/history"+query, "").body), &h); err != nil {
			t.Fatal(err)
		}
		for _, turn := range h.Turns {
			ids = append(ids, turn.ID)
		}
		return ids, h.Next
	}
	if got, next := ids(""); !slices.Equal(got, want) || next != "" {
		t.Errorf("the history is %v, next %q, want %v", got, next, want)
	}
	if got, _ := ids("?leaf=t4"); !slices.Equal(got, []string{"t0", "t1", "t2", "t3", "t4"}) {
		t.Errorf("the older branch is %v", got)
	}
	// A leaf that is not answered is not listed: the path goes on from it.
	for i, status := range []string{"pending", "failed"} {
		turn := fmt.Sprintf(`{"id":"u%d","timestamp":"2026-11-23T15:01:0%dZ","user":"u","status":%q,"supersedes":"t4"}`, i, i, status)
		w.post("s", turn, "Prefer", "wait=20").want(http.StatusCreated)
		if got, _ := ids(fmt.Sprintf("?leaf=u%d", i)); !slices.Equal(got, []string{"t0", "t1", "t2", "t3"}) {
			t.Errorf("up to a %s turn it is %v", status, got)
		}
	}
	if got, _ := ids(""); !slices.Equal(got, want) {
		t.Errorf("with turns that are not answered the history is %v, want %v", got, want)
	}
	var pages []string
	for query, n := "?limit=3", 0; n < 5; n++ {
		got, next := ids(query)
		if pages = append(got, pages...); next == "" {
			break
		}
		query = "?limit=3&cursor=" + next
	}
	if !slices.Equal(pages, want) {
		t.Errorf("page by page the history is %v, want %v", pages, want)
	}
	// A page ended at a turn that is redacted now.
	w.post("s", `{"id":"t1","timestamp":"2026-11-23T15:00:01Z","user":"","status":"redacted","rev":1000000}`, "Prefer", "wait=20").want(http.StatusCreated)
	if got, _ := ids("?cursor=t6~t1"); !slices.Equal(got, []string{"t0"}) {
		t.Errorf("the page behind a redacted turn is %v", got)
	}
	w.do("GET", "/v1/sessions/s/history?leaf=nobody", "").problem(http.StatusNotFound, "")
	w.do("GET", "/v1/sessions/s/history?leaf=", "").problem(http.StatusBadRequest, "leaf")
	w.do("GET", "/v1/sessions/s/history?leaf=t4&cursor=t6~t5", "").problem(http.StatusBadRequest, "cursor")
	for _, cursor := range []string{"t6~t4", "t6~none", "none~t1", "t5~t6"} { // not on the path, or of another session
		w.do("GET", "/v1/sessions/s/history?cursor="+cursor, "").problem(http.StatusBadRequest, "cursor")
	}
	w.do("GET", "/v1/sessions/s/history?leaf=a%20b", "").problem(http.StatusBadRequest, "leaf")
	w.do("GET", "/v1/sessions/s/history?cursor=t1", "").problem(http.StatusBadRequest, "cursor")
	w.do("GET", "/v1/sessions/s/history?limit=1001", "").problem(http.StatusBadRequest, "limit")
}
