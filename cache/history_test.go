package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

func newHistory(t testing.TB, cfg HistoryConfig) *History {
	t.Helper()
	h, err := NewHistory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		check(t, h.Close(ctx))
	})
	return h
}

func load(t testing.TB, h *History, session string, limit int, source Source, degraded bool) Result {
	t.Helper()
	got, err := h.Load(t.Context(), session, limit)
	check(t, err)
	if got.Source != source || got.Degraded != degraded || got.SessionID != session || got.Turns == nil {
		t.Fatalf("got %s, degraded %v, with %v; want %s, degraded %v", got.Source, got.Degraded, ids(got.Turns), source, degraded)
	}
	return got
}

// pending is a publisher's memory.
type pending struct {
	mu      sync.Mutex
	snaps   []transcript.Snapshot
	settled []string
}

func (p *pending) Pending(session string) []transcript.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.snaps), func(s transcript.Snapshot) bool { return s.SessionID != session })
}

func (p *pending) Settle(session, id string, rev int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = append(p.settled, fmt.Sprintf("%s/%d", id, rev))
	p.snaps = slices.DeleteFunc(p.snaps, func(s transcript.Snapshot) bool {
		return s.SessionID == session && s.ID == id && s.Rev <= rev
	})
}

func TestHistoryOrder(t *testing.T) {
	s := servertest.Redis(t)
	r, file, stream := newRedis(t, patient(s.URL())), newStore(), newStore()
	seen := make(map[string]transcript.Instant)
	h := newHistory(t, HistoryConfig{Redis: r, File: file, Stream: stream, Observe: func(s string, at transcript.Instant) { seen[s] = at }})
	if got := load(t, h, "s", 0, FromNone, false); len(got.Turns) != 0 || got.Revision != 0 {
		t.Errorf("an unknown session: %+v", got)
	}
	all := turns(t, "s", 1, 14)
	stream.put(all...)
	sameTurns(t, load(t, h, "s", 0, FromStream, false).Turns, all[4:])
	eventually(t, "repopulation from the stream", func() bool { _, hit, _ := r.Recent(t.Context(), "s"); return hit })
	check(t, r.Forget(t.Context(), "s"))

	file.put(all...)
	got := load(t, h, "s", 3, FromFile, false) // three asked for, ten cached
	sameTurns(t, got.Turns, all[11:])
	if got.Revision != 14 {
		t.Errorf("revision %d", got.Revision)
	}
	eventually(t, "repopulation from the file", func() bool { _, hit, _ := r.Recent(t.Context(), "s"); return hit })
	holds(t, bare(t, s.Addr()), all, DefaultTTL)

	file.fail(errDisk)
	stream.fail(errDisk)
	sameTurns(t, load(t, h, "s", 10, FromRedis, false).Turns, all[4:])
	sameTurns(t, load(t, h, "s", 4, FromRedis, false).Turns, all[10:])
	load(t, h, "s", 11, FromNone, true)
	file.fail(nil)
	sameTurns(t, load(t, h, "s", 11, FromFile, false).Turns, all[3:])
	sameTurns(t, load(t, h, "s", 100, FromFile, false).Turns, all)
	if seen["s"] != all[13].Timestamp || len(seen) != 1 {
		t.Errorf("observed %v", seen)
	}
	n := uint64(0)
	for _, c := range h.Stats() {
		n += c.N
	}
	if n != 8 {
		t.Errorf("counted %d loads: %v", n, h.Stats())
	}
}

func TestHistoryWithoutOtherSources(t *testing.T) {
	file := newStore()
	file.put(turns(t, "s", 1, 2)...)
	load(t, newHistory(t, HistoryConfig{File: file}), "s", 0, FromFile, false)
	load(t, newHistory(t, HistoryConfig{File: file}), "x", 0, FromNone, false)
	load(t, newHistory(t, HistoryConfig{}), "s", 0, FromNone, true) // nobody who could know
	r := newRedis(t, patient(servertest.Redis(t).URL()))
	load(t, newHistory(t, HistoryConfig{Redis: r}), "s", 0, FromNone, true)
	check(t, r.Refresh(t.Context(), "s", recentOf(turns(t, "s", 1, 2), 10)))
	load(t, newHistory(t, HistoryConfig{Redis: r}), "s", 0, FromRedis, false)
	file.put(turns(t, "b{}", 1, 2)...)
	load(t, newHistory(t, HistoryConfig{Redis: r, File: file}), "b{}", 0, FromFile, false)
}

func TestHistoryRefusesBadInput(t *testing.T) {
	h := newHistory(t, HistoryConfig{File: newStore()})
	var rule *transcript.RuleError
	if _, err := h.Load(t.Context(), "a\x00b", 0); !errors.As(err, &rule) {
		t.Error(err)
	}
	if _, err := h.Load(t.Context(), "s", -1); !errors.As(err, &rule) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Load(ctx, "s", 0); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestOlderSystemTimedOutReadIsNotCachedAsTruth: the older system took a read
// that timed out for an empty transcript, and cached that for a day.
func TestOlderSystemTimedOutReadIsNotCachedAsTruth(t *testing.T) {
	s := servertest.Redis(t)
	r, file, stream := newRedis(t, patient(s.URL())), newStore(), newStore()
	all := turns(t, "s", 1, 12)
	file.put(all...)
	stream.put(all[9:]...) // trimmed
	hang := make(chan struct{})
	file.hang = hang
	h := newHistory(t, HistoryConfig{
		Redis: r, File: file, Stream: stream, FileTimeout: 100 * time.Millisecond,
	})
	within(t, patience/2, "a load with a hung disk", func() {
		sameTurns(t, load(t, h, "s", 0, FromStream, true).Turns, all[9:])
	})
	stream.fail(errDisk)
	load(t, h, "s", 0, FromNone, true)
	stream.fail(transcript.ErrNoSession)
	load(t, h, "s", 0, FromNone, true)
	check(t, h.Close(t.Context()))
	if n := bare(t, s.Addr()).DBSize(t.Context()).Val(); n != 0 {
		t.Fatalf("%d keys were cached from reads that failed", n)
	}
	file.mu.Lock()
	file.hang = nil
	file.mu.Unlock()
	close(hang)

	h = newHistory(t, HistoryConfig{Redis: r, File: file, Stream: stream})
	sameTurns(t, load(t, h, "s", 0, FromFile, false).Turns, all[2:])
	eventually(t, "repopulation", func() bool { _, hit, _ := r.Recent(t.Context(), "s"); return hit })
	holds(t, bare(t, s.Addr()), all, DefaultTTL)
}

func TestHungRedisDegradesHistory(t *testing.T) {
	s := servertest.Redis(t)
	r, file := newRedis(t, Config{URL: s.URL()}), newStore()
	all := turns(t, "s", 1, 12)
	check(t, r.Refresh(t.Context(), "s", recentOf(all[:5], 10)))
	file.put(all...)
	h := newHistory(t, HistoryConfig{Redis: r, File: file})
	s.Hang()
	var users sync.WaitGroup
	for range 50 { // more than there are connections
		users.Go(func() {
			within(t, 2*DefaultOpTimeout-100*time.Millisecond, "a load with Redis hung", func() { // one operation's bound, not two
				if got, err := h.Load(t.Context(), "s", 0); err != nil || got.Source != FromFile || !got.Degraded || len(got.Turns) != 10 {
					t.Error(got, err)
				}
			})
		})
	}
	users.Wait()
	within(t, 100*200*time.Millisecond, "100 loads with the breaker open", func() { // each less than any wait for Redis
		for range 100 {
			sameTurns(t, load(t, h, "s", 0, FromFile, true).Turns, all[2:])
		}
	})
	s.Resume()
	eventually(t, "recovery", r.Up)
	// Nothing was written meanwhile: what is there was true before. This process knows more.
	rec, hit, err := newRedis(t, patient(s.URL())).Recent(t.Context(), "s")
	if !hit || err != nil {
		t.Fatal(hit, err)
	}
	sameTurns(t, rec.Turns, all[:5])
	sameTurns(t, load(t, h, "s", 0, FromFile, false).Turns, all[2:])
}

func TestHungReadsDoNotPileUp(t *testing.T) {
	file := newStore()
	hang := make(chan struct{})
	file.hang = hang
	h := newHistory(t, HistoryConfig{File: file, FileTimeout: 50 * time.Millisecond, MaxReads: 4})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if got, err := h.Load(t.Context(), "s", 0); err != nil || got.Source != FromNone || !got.Degraded {
				t.Error(got, err)
			}
		})
	}
	wg.Wait()
	file.mu.Lock()
	if file.reads != 4 {
		t.Errorf("%d reads hang", file.reads)
	}
	file.mu.Unlock()
	if n := h.Late(FromFile); n != 100 || h.Late(FromStream) != 0 {
		t.Errorf("%d late reads of files and %d of the stream counted", n, h.Late(FromStream))
	}
	close(hang)
}

func TestCorruptCacheIsReplaced(t *testing.T) {
	s := servertest.Redis(t)
	r, file := newRedis(t, patient(s.URL())), newStore()
	all := turns(t, "s", 1, 12)
	file.put(all...)
	h := newHistory(t, HistoryConfig{Redis: r, File: file})
	// With a version that no write could beat.
	check(t, bare(t, s.Addr()).HSet(t.Context(), RecentKey("s"), "version", "9 9 z 9", "turns", "garbage").Err())
	sameTurns(t, load(t, h, "s", 0, FromFile, false).Turns, all[2:])
	eventually(t, "replacement", func() bool { _, hit, _ := r.Recent(t.Context(), "s"); return hit })
	holds(t, bare(t, s.Addr()), all, DefaultTTL)
}

func TestPartOfAStreamIsNotCached(t *testing.T) {
	s := servertest.Redis(t)
	r, stream := newRedis(t, patient(s.URL())), newStore()
	stream.put(turns(t, "s", 1, 3)...)
	stream.trim()
	for name, file := range map[string]Reader{"without files": nil, "without files yet": noFiles{}} {
		h := newHistory(t, HistoryConfig{Redis: r, Stream: stream, File: file})
		sameTurns(t, load(t, h, "s", 0, FromStream, true).Turns, turns(t, "s", 1, 3))
		load(t, h, "gone", 0, FromNone, true)
		check(t, h.Close(t.Context()))
		if _, hit, err := r.Recent(t.Context(), "s"); hit || err != nil {
			t.Errorf("%s: three turns of a trimmed stream: %v, %v", name, hit, err)
		}
	}
	h := newHistory(t, HistoryConfig{Redis: r, Stream: stream, File: newStore()})
	load(t, h, "gone", 0, FromNone, false)
	load(t, h, "s", 0, FromStream, false) // the files do not have it, so the stream has all of it
	eventually(t, "repopulation", func() bool { _, hit, _ := r.Recent(t.Context(), "s"); return hit })
}

// Files that lack turns are whole for nobody: what they have is degraded, of them and of the stream, and so
// it is from Redis; only a stream that has all of it is better.
func TestFilesThatLackTurns(t *testing.T) {
	s := servertest.Redis(t)
	r, file, stream := newRedis(t, patient(s.URL())), newStore(), newStore()
	three := turns(t, "s", 1, 3)
	file.put(three...)
	file.trim()
	stream.put(turns(t, "s", 2, 3)...)
	stream.put(turns(t, "new", 1, 1)...)
	whole := newStore()
	whole.put(turns(t, "s", 1, 4)...)
	trimmed := newHistory(t, HistoryConfig{Redis: r, File: file, Stream: stream})
	stream.trim()
	sameTurns(t, load(t, trimmed, "s", 0, FromFile, true).Turns, three)
	load(t, trimmed, "new", 0, FromStream, true)
	load(t, trimmed, "gone", 0, FromNone, true)
	load(t, newHistory(t, HistoryConfig{File: file}), "s", 0, FromFile, true)
	load(t, newHistory(t, HistoryConfig{File: file}), "gone", 0, FromNone, true)
	load(t, newHistory(t, HistoryConfig{File: file, Stream: whole}), "s", 0, FromStream, false)
	load(t, newHistory(t, HistoryConfig{File: file, Stream: whole}), "gone", 0, FromNone, false)

	path := func(stream *store, leaf string) (Result, error) {
		return newHistory(t, HistoryConfig{File: file, Stream: stream}).Path(t.Context(), "s", transcript.PathQuery{Leaf: leaf, Limit: 10})
	}
	if got, err := path(stream, three[1].ID); err != nil || got.Source != FromFile || !got.Degraded {
		t.Errorf("a path: %+v, %v", got, err)
	}
	if got, err := path(whole, three[1].ID); err != nil || got.Source != FromStream || got.Degraded {
		t.Errorf("a path that the stream has all of: %+v, %v", got, err)
	}

	rec, err := file.Path(t.Context(), "s", transcript.PathQuery{Limit: 10})
	check(t, err)
	check(t, r.Refresh(t.Context(), "s", rec))
	sameTurns(t, load(t, trimmed, "s", 0, FromRedis, true).Turns, three)
	rec.Partial = false // they were copied
	check(t, r.Refresh(t.Context(), "s", rec))
	sameTurns(t, load(t, trimmed, "s", 0, FromRedis, false).Turns, three)
	check(t, r.Refresh(t.Context(), "none", transcript.Recent{Partial: true}))
	load(t, trimmed, "none", 0, FromRedis, true)
}

func TestPendingTurnsAreOverlaid(t *testing.T) {
	s := servertest.Redis(t)
	r, file := newRedis(t, patient(s.URL())), newStore()
	all := turns(t, "s", 1, 12)
	put := func(upTo int) {
		file.put(all[:upTo]...)
		check(t, r.Refresh(t.Context(), "s", recentOf(file.all("s"), 10)))
	}
	put(10)
	p := &pending{snaps: []transcript.Snapshot{all[9], all[10], all[11]}}
	h := newHistory(t, HistoryConfig{Redis: r, File: file, Pending: p})

	sameTurns(t, load(t, h, "s", 0, FromRedis, false).Turns, all[2:])
	if got := fmt.Sprint(p.settled); got != "[t0010/1]" {
		t.Errorf("settled %s", got)
	}
	put(12)
	sameTurns(t, load(t, h, "s", 20, FromFile, false).Turns, all)
	if len(p.snaps) != 2 {
		t.Error("settled by a file, though the next load asks Redis first")
	}
	sameTurns(t, load(t, h, "s", 0, FromRedis, false).Turns, all[2:])
	if len(p.snaps) != 0 {
		t.Errorf("settled %v", p.settled)
	}

	// A session that is nowhere yet.
	p.snaps = turns(t, "new", 1, 2)
	sameTurns(t, load(t, h, "new", 0, FromNone, false).Turns, turns(t, "new", 1, 2))
	// A hung disk and no Redis: what is known is shown, as degraded.
	file.fail(errDisk)
	sameTurns(t, load(t, h, "new", 1, FromNone, true).Turns, turns(t, "new", 2, 2))
}

func TestPendingTurnsAreSettledByFileWithoutRedis(t *testing.T) {
	file, stream := newStore(), newStore()
	p := &pending{snaps: turns(t, "s", 1, 2)}
	h := newHistory(t, HistoryConfig{File: file, Stream: stream, Pending: p})
	stream.put(turns(t, "s", 1, 2)...)
	sameTurns(t, load(t, h, "s", 0, FromStream, false).Turns, turns(t, "s", 1, 2))
	file.put(turns(t, "s", 1, 1)...)
	sameTurns(t, load(t, h, "s", 0, FromFile, false).Turns, turns(t, "s", 1, 2))
	if got := fmt.Sprint(p.settled); got != "[t0001/1]" {
		t.Errorf("settled %s", got)
	}
}

func TestOverlay(t *testing.T) {
	mk := func(n, rev int, change func(*transcript.Turn)) transcript.Snapshot {
		x := turn("s", n)
		x.Rev = rev
		if change != nil {
			change(&x)
		}
		return snap(t, x)
	}
	status := func(s transcript.Status) func(*transcript.Turn) {
		return func(x *transcript.Turn) { x.Status = s }
	}
	base := turns(t, "s", 1, 3)
	for _, c := range []struct {
		name    string
		pending []transcript.Snapshot
		limit   int
		want    string
		shown   string
	}{
		{"nothing", nil, 10, "[t0001/1 t0002/1 t0003/1]", "[]"},
		{"nothing, cut", nil, 2, "[t0002/1 t0003/1]", "[]"},
		{"a later one", []transcript.Snapshot{mk(4, 1, nil)}, 10, "[t0001/1 t0002/1 t0003/1 t0004/1]", "[]"},
		{"a later one, cut", []transcript.Snapshot{mk(4, 1, nil)}, 3, "[t0002/1 t0003/1 t0004/1]", "[]"},
		{"one in between", []transcript.Snapshot{mk(2, 1, func(x *transcript.Turn) { x.ID = "zz" })}, 10, "[t0001/1 t0002/1 zz/1 t0003/1]", "[]"},
		{"the same", []transcript.Snapshot{mk(3, 1, nil)}, 10, "[t0001/1 t0002/1 t0003/1]", "[t0003/1]"},
		{"a newer revision", []transcript.Snapshot{mk(2, 2, nil)}, 10, "[t0001/1 t0002/2 t0003/1]", "[]"},
		{"a revision that failed", []transcript.Snapshot{mk(2, 2, status(transcript.Failed))}, 10, "[t0001/1 t0003/1]", "[]"},
		{"a redaction", []transcript.Snapshot{mk(2, transcript.RedactRev, func(x *transcript.Turn) { x.Status, x.User, x.Assistant, x.Meta = transcript.Redacted, "", "", nil })}, 10, "[t0001/1 t0003/1]", "[]"},
		{"not answered yet", []transcript.Snapshot{mk(4, 1, func(x *transcript.Turn) { x.Status, x.Assistant = transcript.Pending, "" })}, 10, "[t0001/1 t0002/1 t0003/1]", "[]"},
		{"begun and done, in any order", []transcript.Snapshot{mk(4, 2, nil), mk(4, 1, status(transcript.Pending))}, 10, "[t0001/1 t0002/1 t0003/1 t0004/2]", "[]"},
		{"pending of one that is there", []transcript.Snapshot{mk(3, 1, status(transcript.Pending))}, 10, "[t0001/1 t0002/1 t0003/1]", "[t0003/1]"},
		{"older and newer revision of one", []transcript.Snapshot{mk(3, 2, nil), mk(3, 1, nil)}, 10, "[t0001/1 t0002/1 t0003/2]", "[t0003/1]"},
		{"supersedes", []transcript.Snapshot{mk(4, 1, func(x *transcript.Turn) { x.Supersedes = "t0003" })}, 10, "[t0001/1 t0002/1 t0004/1]", "[]"},
		{"supersedes, not answered yet", []transcript.Snapshot{mk(4, 1, func(x *transcript.Turn) { x.Supersedes, x.Status = "t0003", transcript.Pending })}, 10, "[t0001/1 t0002/1 t0003/1]", "[]"},
	} {
		got, shown, _, known := overlay(transcript.Recent{Turns: base}, c.pending, c.limit)
		if !known {
			t.Errorf("%s: not known", c.name)
		}
		if fmt.Sprint(ids(got)) != c.want || fmt.Sprint(ids(shown)) != c.shown {
			t.Errorf("%s: %v, shown %v; want %s, %s", c.name, ids(got), ids(shown), c.want, c.shown)
		}
	}
	if fmt.Sprint(ids(base)) != "[t0001/1 t0002/1 t0003/1]" {
		t.Error("the base was changed")
	}
}

// TestOverlayKnowsWhatItLacks: base is behind with a turn that its path goes by without listing it.
func TestOverlayKnowsWhatItLacks(t *testing.T) {
	mk := func(n int, change func(*transcript.Turn)) transcript.Snapshot {
		x := turn("s", n)
		change(&x)
		return snap(t, x)
	}
	supersedes := func(id string) func(*transcript.Turn) { return func(x *transcript.Turn) { x.Supersedes = id } }
	cases := map[string]struct {
		written, pending []transcript.Snapshot
		limit            int
	}{
		"the superseded turn is missing":   {[]transcript.Snapshot{snap(t, turn("s", 0)), mk(2, supersedes("t0001"))}, turns(t, "s", 1, 1), 10},
		"one before the superseded turn":   {append(turns(t, "s", 2, 2), mk(3, supersedes("t0002"))), turns(t, "s", 1, 1), 10},
		"the first of the list has failed": {turns(t, "s", 0, 3), []transcript.Snapshot{mk(1, func(x *transcript.Turn) { x.Rev, x.Status = 2, transcript.Failed })}, 3},
	}
	for name, c := range cases {
		if _, _, _, known := overlay(recentOf(c.written, c.limit), c.pending, c.limit); known {
			t.Errorf("%s: nothing seems to be lacking", name)
		}
	}
}

// TestOverlayIsTheMerge: whatever part of a transcript the base is behind with, base and pending
// together list the end of the whole, or the overlay says that it takes more than they have.
func TestOverlayIsTheMerge(t *testing.T) {
	var pool, branching []transcript.Snapshot
	for n := range 8 {
		for rev := 1; rev <= 3; rev++ {
			for _, s := range []transcript.Status{transcript.Complete, transcript.Failed, transcript.Pending} {
				x := turn("s", n)
				x.Rev, x.Status = rev, s
				pool = append(pool, snap(t, x))
				for _, other := range []string{"", "t0001", "t0003", "t0006", "missing"} {
					named := x
					named.Parent = &other
					branching = append(branching, snap(t, named))
					named.Parent, named.Supersedes = nil, other
					branching = append(branching, snap(t, named))
				}
			}
		}
	}
	sure := 0
	check := func(rt *rapid.T, pool []transcript.Snapshot, limit, held int) {
		subset := rapid.SliceOfN(rapid.SampledFrom(pool), 0, 20)
		written, waiting := newStore(), newStore()
		stored, late := subset.Draw(rt, "written"), subset.Draw(rt, "pending")
		written.put(stored...)
		waiting.put(stored...)
		waiting.put(late...)
		base := recentOf(written.all("s"), held)
		got, shown, more, known := overlay(base, late, limit)
		if whole := transcript.LastAnswered(waiting.all("s"), 100); known && len(whole) > limit && !more {
			rt.Fatalf("of %v it lists %v, and nothing before", ids(whole), ids(got))
		}
		if want := transcript.LastAnswered(waiting.all("s"), limit); known && fmt.Sprint(ids(got)) != fmt.Sprint(ids(want)) {
			rt.Fatalf("got %v, want %v", ids(got), ids(want))
		}
		if known {
			sure++
		}
		for _, s := range shown {
			if !slices.ContainsFunc(base.Turns, func(b transcript.Snapshot) bool { return b.ID == s.ID && !s.Beats(&b) }) {
				rt.Fatalf("%s/%d is not shown", s.ID, s.Rev)
			}
		}
	}
	for _, c := range []struct {
		pool        []transcript.Snapshot
		limit, held int
	}{{pool, 100, 100}, {pool, 3, 3}, {slices.Concat(pool, branching), 100, 100}, {slices.Concat(pool, branching), 2, 3}} {
		sure = 0
		rapid.Check(t, func(rt *rapid.T) { check(rt, c.pool, c.limit, c.held) })
		if sure == 0 {
			t.Errorf("limit %d of %d: no overlay suffices", c.limit, c.held)
		}
	}
}
