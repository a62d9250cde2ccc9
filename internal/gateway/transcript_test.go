package gateway

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

type pageView struct {
	SessionID string     `json:"session_id"`
	Total     int        `json:"total"`
	Messages  []turnView `json:"messages"`
	Prev      *string    `json:"prev"`
	Next      *string    `json:"next"`
}

// TestPages reads a transcript forwards and backwards in pages, of the files and of the stream.
func TestPages(t *testing.T) {
	w := newWorld(t, nil)
	var all []string
	for i := range 7 {
		id := fmt.Sprintf("t%d", i)
		all = append(all, id)
		w.post("s", fmt.Sprintf(`{"id":%q,"timestamp":"2026-01-01T00:00:0%dZ","user":"u","assistant":"a"}`, id, i)).want(http.StatusAccepted)
	}
	w.consume()
	streamed, _ := serve(t, New(Config{Publisher: w.pub, Transcripts: consumer.NewStreamReader(w.js, 0)}))
	for _, addr := range []string{w.addr, streamed} {
		get := func(query string) (p pageView) {
			t.Helper()
			do(t, addr, "GET", "/v1/sessions/s/transcript"+query, "").want(http.StatusOK).into(&p)
			if p.SessionID != "s" || p.Total != 7 || p.Messages == nil || p.Prev == nil || p.Next == nil {
				t.Fatalf("%s: %+v", query, p)
			}
			return p
		}
		ids := func(p pageView) (ids []string) {
			for _, m := range p.Messages {
				ids = append(ids, m.ID)
			}
			return ids
		}
		var seen []string
		for query := "?limit=3"; ; {
			p := get(query)
			seen = append(seen, ids(p)...)
			if *p.Next == "" {
				break
			}
			query = "?limit=3&after=" + *p.Next
		}
		if !slices.Equal(seen, all) {
			t.Errorf("forwards: %v", seen)
		}
		seen = nil
		for query := "?limit=3&before="; ; {
			p := get(query)
			seen = append(ids(p), seen...)
			if *p.Prev == "" {
				break
			}
			query = "?limit=3&before=" + *p.Prev
		}
		if !slices.Equal(seen, all) {
			t.Errorf("backwards: %v", seen)
		}
		for query, want := range map[string]string{
			"?after=t1&before=t5":         "t2 t3 t4, prev t2, next t4",
			"?after=t1&before=t5&limit=2": "t2 t3, prev t2, next t3",
			"?after=t5&before=t2":         ", prev t6, next t5",
			"?after=t6&limit=2":           ", prev ~, next ",
			"?before=~&limit=2":           "t5 t6, prev t5, next ",
			"?before=t0":                  ", prev , next ~",
			"?after=~&limit=2":            "t0 t1, prev , next t1",
			"?before=t1":                  "t0, prev , next t0",
		} {
			p := get(query)
			if got := fmt.Sprintf("%s, prev %s, next %s", strings.Join(ids(p), " "), *p.Prev, *p.Next); got != want {
				t.Errorf("%s: %s, want %s", query, got, want)
			}
		}
		do(t, addr, "GET", "/v1/sessions/s/transcript?after=nobody", "").problem(http.StatusNotFound, "after")
		do(t, addr, "GET", "/v1/sessions/s/transcript?before=nobody", "").problem(http.StatusNotFound, "before")
		do(t, addr, "GET", "/v1/sessions/s/transcript?after=%2F", "").problem(http.StatusBadRequest, "after")
		do(t, addr, "GET", "/v1/sessions/s/transcript?limit=0", "").problem(http.StatusBadRequest, "limit")
		do(t, addr, "GET", "/v1/sessions/s/transcript?limit=1001", "").problem(http.StatusBadRequest, "limit")
		do(t, addr, "GET", "/v1/sessions/nobody/transcript?limit=1", "").problem(http.StatusNotFound, "")
		a := do(t, addr, "GET", "/v1/sessions/s/transcript?limit=3", "").want(http.StatusOK)
		do(t, addr, "GET", "/v1/sessions/s/transcript?limit=3", "", "If-None-Match", a.header.Get("ETag")).want(http.StatusNotModified)
		do(t, addr, "GET", "/v1/sessions/s/transcript?limit=2", "", "If-None-Match", a.header.Get("ETag")).want(http.StatusOK)
		whole := do(t, addr, "HEAD", "/v1/sessions/s/transcript", "").want(http.StatusOK)
		if body := do(t, addr, "GET", "/v1/sessions/s/transcript", "").want(http.StatusOK); whole.header.Get("Content-Length") != fmt.Sprint(len(body.body)) {
			t.Errorf("Content-Length %q of %d bytes", whole.header.Get("Content-Length"), len(body.body))
		}
	}
}

// large makes a session of a document of about 24 MB and a turn beside it.
func large(t *testing.T, s *transcript.Store, session string) (size int64) {
	t.Helper()
	text := strings.Repeat("what was said ", 3500)
	turn := func(i int) transcript.Snapshot {
		turn := transcript.Turn{ID: fmt.Sprintf("t%06d", i), SessionID: session, Timestamp: time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC), User: "u", Assistant: text}
		d, err := turn.Draft()
		if err != nil {
			t.Fatal(err)
		}
		snap, err := d.Snapshot(0)
		if err != nil {
			t.Fatal(err)
		}
		return snap
	}
	var turns []transcript.Snapshot
	for i := range 490 {
		turns = append(turns, turn(i))
	}
	if err := s.Merge(t.Context(), []transcript.Group{{SessionID: session, Turns: turns}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Append(t.Context(), turn(490)); err != nil {
		t.Fatal(err)
	}
	return 490 * int64(len(text))
}

// TestReadsAreStreamed: ten clients read a large session at once, and the process holds
// buffers, not ten copies; afterwards it holds nothing.
func TestReadsAreStreamed(t *testing.T) {
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.LookupTimeout = patience })
	size := large(t, w.store, "s")
	heap := func() int64 {
		m := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}} // does not stop the process, as ReadMemStats does
		metrics.Read(m)
		return int64(m[0].Value.Uint64())
	}
	runtime.GC()
	before, most := heap(), atomic.Int64{}
	reading := make(chan struct{})
	var watch, readers sync.WaitGroup
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	watch.Go(func() {
		for {
			select {
			case <-reading:
				return
			case <-tick.C:
				most.Store(max(most.Load(), heap()))
			}
		}
	})
	for range 10 {
		readers.Go(func() {
			res, err := http.Get("http://" + w.addr + "/v1/sessions/s/transcript")
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			n, err := io.Copy(io.Discard, res.Body)
			if err != nil || res.StatusCode != http.StatusOK || n < size || n != res.ContentLength {
				t.Errorf("status %d, %d bytes of %d, of a session of %d: %v", res.StatusCode, n, res.ContentLength, size, err)
			}
		})
	}
	readers.Wait()
	close(reading)
	watch.Wait()
	if grown := most.Load() - before; grown > 60<<20 {
		t.Errorf("ten readers of %d MB took %d MB", size>>20, grown>>20)
	}
	runtime.GC()
	if left := heap() - before; left > 16<<20 {
		t.Errorf("%d MB are left", left>>20)
	}
}

// TestDamagedTranscriptIsNotSent: not even its beginning.
func TestDamagedTranscriptIsNotSent(t *testing.T) {
	w := newWorld(t, nil)
	large(t, w.store, "s")
	path := filepath.Join(w.store.Dir(), transcript.DocumentPath(transcript.Sharded, "s"))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("?"), 20<<20); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"", "?limit=1", "?before=&limit=1"} {
		w.do("GET", "/v1/sessions/s/transcript"+query, "").problem(http.StatusServiceUnavailable, "")
	}
}

// TestReadsPastTheirMemory are 503, and the next one succeeds.
func TestReadsPastTheirMemory(t *testing.T) {
	memory := transcript.NewMemory(8<<20, 10*time.Millisecond)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store, err := transcript.Open(transcript.Config{Dir: dir, Memory: memory})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(t.Context())
	large(t, store, "s")
	files, err := cache.NewHistory(cache.HistoryConfig{File: store})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(c *Config, _ *publisher.Config) { c.Store, c.History = store, files })
	other := memory.Hold()
	if err := other.Grow(t.Context(), 8<<20); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/sessions/s/transcript", "/v1/sessions/s/transcript?limit=1", "/v1/sessions/s/turns/t000001",
		"/v1/sessions/s/history?limit=1000", "/v1/sessions/s/history?leaf=t000001"} {
		w.do("GET", path, "").problem(http.StatusServiceUnavailable, "")
	}
	other.Release()
	w.do("GET", "/v1/sessions/s/transcript", "").want(http.StatusOK)
	w.do("GET", "/v1/sessions/s/turns/t000001", "").want(http.StatusOK)
	ctx, held := transcript.Keep(t.Context())
	history, err := store.Recent(ctx, "s", 1000)
	sum := int64(0)
	for i := range history.Turns {
		sum += int64(history.Turns[i].Size())
	}
	if st := memory.Stats(); err != nil || sum == 0 || st.Held != min(sum, st.Size) {
		t.Errorf("a history of %d bytes, %v, is sent while %+v", sum, err, st)
	}
	held.Release()
	if st := memory.Stats(); st.Held != 0 || st.Refused != 5 {
		t.Errorf("%+v", st)
	}
}
