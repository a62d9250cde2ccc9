package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

type getter interface {
	Get(ctx context.Context, key string) *redis.StringCmd
	HGetAll(ctx context.Context, key string) *redis.MapStringStringCmd
	PTTL(ctx context.Context, key string) *redis.DurationCmd
}

// holds checks both keys of a session, byte by byte, and their TTL.
func holds(t testing.TB, c getter, all []transcript.Snapshot, ttl time.Duration) {
	t.Helper()
	session := all[0].SessionID
	want := recentOf(all, 10)
	var pairs []map[string]string
	var lines []string
	for _, s := range want.Turns {
		turn, err := s.Turn()
		check(t, err)
		pairs = append(pairs, map[string]string{"user": turn.User, "assistant": turn.Assistant})
		lines = append(lines, string(s.Payload()))
	}
	got, err := c.Get(t.Context(), "chat:conversation:"+session).Result()
	check(t, err)
	var exchange []map[string]string
	check(t, json.Unmarshal([]byte(got), &exchange))
	if fmt.Sprint(exchange) != fmt.Sprint(pairs) || !strings.HasPrefix(got, `[{"user":`) {
		t.Errorf("the conversation is %s, not %v", got, pairs)
	}
	hash, err := c.HGetAll(t.Context(), "afterword:recent:{chat:conversation:"+session+"}").Result()
	check(t, err)
	v := want.Version
	version := fmt.Sprintf("%d %d %s %d", v.ErasedThrough, v.LastTimestamp, v.LastID, v.Revision)
	if hash["version"] != version || hash["turns"] != strings.Join(lines, "\n") || len(hash) != 3 ||
		!signed(testKey, session, version, []byte(hash["turns"]), hash["mac"]) {
		t.Errorf("the recent turns are %v", hash)
	}
	for _, key := range []string{ConversationKey(session), RecentKey(session)} {
		left, err := c.PTTL(t.Context(), key).Result()
		check(t, err)
		if left <= ttl-time.Minute || left > ttl {
			t.Errorf("the TTL of %s is %s, not %s", key, left, ttl)
		}
	}
}

func testRoundTrip(t *testing.T, r *Redis, c getter) {
	ctx := t.Context()
	check(t, r.Check(ctx))
	for _, session := range []string{"abc", "with space/ü\":*>", strings.Repeat("x", 255)} {
		if _, hit, err := r.Recent(ctx, session); hit || err != nil {
			t.Fatalf("an empty Redis has %v, %v", hit, err)
		}
		all := turns(t, session, 1, 14)
		calls := turn(session, 9) // an answer, in the shape that other programs read
		calls.Assistant, calls.ToolCalls = "", []transcript.ToolCall{{Name: "look"}}
		all[8] = snap(t, calls)
		check(t, r.Refresh(ctx, session, recentOf(all, 10)))
		holds(t, c, all, DefaultTTL)
		rec, hit, err := r.Recent(ctx, session)
		if !hit || err != nil {
			t.Fatal(hit, err)
		}
		sameTurns(t, rec.Turns, all[4:])
		if want := recentOf(all, 10).Version; rec.Version != want {
			t.Errorf("version %v, want %v", rec.Version, want)
		}
	}
	var many []Entry
	for i := range 300 {
		session := fmt.Sprintf("many-%d", i)
		many = append(many, Entry{session, recentOf(turns(t, session, 1, 1+i%13), 10)})
	}
	for i, err := range r.RefreshMany(ctx, many) {
		check(t, err)
		holds(t, c, turns(t, many[i].SessionID, 1, 1+i%13), DefaultTTL)
	}
}

func TestStandalone(t *testing.T) {
	s := servertest.Redis(t)
	testRoundTrip(t, newRedis(t, patient(s.URL())), bare(t, s.Addr()))
}

func TestMiniredis(t *testing.T) {
	m := miniredis.RunT(t)
	r := newRedis(t, patient("redis://"+m.Addr()))
	c := bare(t, m.Addr())
	testRoundTrip(t, r, c)
	testVersions(t, r)
}

func TestPassword(t *testing.T) {
	s := servertest.Redis(t)
	check(t, bare(t, s.Addr()).ConfigSet(t.Context(), "requirepass", "p@ss/wörd,:#?").Err())
	r := newRedis(t, patient("redis://:p%40ss%2Fw%C3%B6rd%2C%3A%23%3F@"+s.Addr()+"/3"))
	check(t, r.Check(t.Context()))
	check(t, r.Refresh(t.Context(), "s", recentOf(turns(t, "s", 1, 3), 10)))
	r = newRedis(t, Config{URL: "redis://:secret@" + s.Addr()})
	if err := r.Check(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a wrong password: %v", err)
	}
}

func TestNoAnsweredTurnsAreCachedAsSuch(t *testing.T) {
	s := servertest.Redis(t)
	r, ctx := newRedis(t, patient(s.URL())), t.Context()
	pending := turn("s", 1)
	pending.Assistant, pending.Status = "", transcript.Pending
	check(t, r.Refresh(ctx, "s", recentOf([]transcript.Snapshot{snap(t, pending)}, 10)))
	rec, hit, err := r.Recent(ctx, "s")
	if !hit || err != nil || len(rec.Turns) != 0 || rec.Version.LastID != "t0001" {
		t.Errorf("got %v, %v, %v", rec, hit, err)
	}
	if v := bare(t, s.Addr()).Get(ctx, "chat:conversation:s").Val(); v != "[]" {
		t.Errorf("the conversation is %q", v)
	}
	// Erased to nothing: older writes stay out.
	check(t, r.Refresh(ctx, "s", transcript.Recent{Version: transcript.Version{ErasedThrough: 7}}))
	check(t, r.Refresh(ctx, "s", recentOf(turns(t, "s", 1, 9), 10)))
	if rec, _, _ := r.Recent(ctx, "s"); len(rec.Turns) != 0 {
		t.Errorf("an erased session has %v", ids(rec.Turns))
	}
}

func TestBracesAreNotCached(t *testing.T) {
	s := servertest.Redis(t)
	r, ctx := newRedis(t, patient(s.URL())), t.Context()
	for _, session := range []string{"a{b}c", "{", "}"} {
		check(t, r.Refresh(ctx, session, recentOf(turns(t, session, 1, 2), 10)))
		if _, hit, err := r.Recent(ctx, session); hit || err != nil {
			t.Errorf("%q: %v, %v", session, hit, err)
		}
		check(t, r.Forget(ctx, session))
	}
	if n := bare(t, s.Addr()).DBSize(ctx).Val(); n != 0 {
		t.Errorf("Redis has %d keys", n)
	}
	if page, err := os.ReadFile("../docs/operations.md"); err != nil || !strings.Contains(string(page), "**Ids with `{` or `}`** are not cached") {
		t.Errorf("docs/operations.md does not say so (%v)", err)
	}
}

func TestLargeEntriesAreNotCached(t *testing.T) {
	s := servertest.Redis(t)
	cfg := patient(s.URL())
	cfg.MaxEntry = 4000
	r, ctx := newRedis(t, cfg), t.Context()
	check(t, r.Refresh(ctx, "s", recentOf(turns(t, "s", 1, 2), 10)))
	big := turn("s", 3)
	big.Assistant = strings.Repeat("long ", 1000)
	check(t, r.Refresh(ctx, "s", recentOf(append(turns(t, "s", 1, 2), snap(t, big)), 10)))
	if _, hit, err := r.Recent(ctx, "s"); hit || err != nil {
		t.Errorf("what was true before a large turn is still there: %v, %v", hit, err)
	}
	if n := r.Stats().N(OpWrite, TooLarge); n != 1 {
		t.Errorf("counted %d", n)
	}
}

// version draws from few values, so that equal members are frequent, and from
// the ends of the range.
func drawVersion(t *rapid.T) transcript.Version {
	ends := []int64{0, 1, 9, 10, 7258118399999998, 7258118399999999}
	return transcript.Version{
		ErasedThrough: rapid.SampledFrom([]int64{0, 0, 0, 9, 10, 1<<63 - 2, 1<<63 - 1}).Draw(t, "erased"),
		LastTimestamp: transcript.Instant(rapid.SampledFrom(ends).Draw(t, "timestamp")),
		LastID:        rapid.SampledFrom([]string{"", "B", "a", "b", "a-", "a.", "aB", "_", "9", "10", ":"}).Draw(t, "id"),
		Revision:      rapid.SampledFrom([]int64{0, 1, 2, 9, 10, 9007199254740992, 9007199254740993, 1<<63 - 1}).Draw(t, "revision"),
	}
}

// testVersions writes versions in any order, some twice: the newest stays.
func testVersions(t *testing.T, r *Redis) {
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		session := fmt.Sprintf("versions-%d", n)
		versions := rapid.SliceOfN(rapid.Custom(drawVersion), 1, 12).Draw(rt, "versions")
		var newest transcript.Version
		var entries []Entry
		for i, v := range versions {
			if v.Compare(newest) > 0 {
				newest = v
			}
			s := turn(session, i)
			s.Assistant = fmt.Sprint(v)
			entries = append(entries, Entry{session, transcript.Recent{Turns: []transcript.Snapshot{snap(t, s)}, Version: v}})
		}
		entries = append(entries, rapid.SliceOfN(rapid.SampledFrom(entries), 0, 4).Draw(rt, "again")...)
		for _, err := range r.RefreshMany(context.Background(), entries) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		rec, hit, err := r.Recent(context.Background(), session)
		if !hit || err != nil {
			rt.Fatal(hit, err)
		}
		got, err := rec.Turns[0].Turn()
		if err != nil {
			rt.Fatal(err)
		}
		if rec.Version.Compare(newest) != 0 || got.Assistant != fmt.Sprint(rec.Version) {
			rt.Fatalf("Redis has %v with the turn of %s, the newest is %v", rec.Version, got.Assistant, newest)
		}
	})
}

// TestVersionsAreOrdered writes every pair of an ascending list, the
// newer one first.
func TestVersionsAreOrdered(t *testing.T) {
	r, ctx := newRedis(t, patient(servertest.Redis(t).URL())), t.Context()
	list := []transcript.Version{
		{}, {LastTimestamp: 7258118399999999, LastID: "z", Revision: 1}, {LastTimestamp: 10, LastID: "a", Revision: 9}, {Revision: 10},
		{Revision: 9007199254740992}, {Revision: 9007199254740993}, {Revision: 1<<63 - 1},
		{ErasedThrough: 9}, {ErasedThrough: 10}, {ErasedThrough: 10, LastTimestamp: 1, Revision: 1},
	}
	for j := range list {
		for i := range j {
			if list[i].Compare(list[j]) >= 0 {
				t.Fatalf("%v is not before %v", list[i], list[j])
			}
			session := fmt.Sprintf("%d-%d", i, j)
			for _, err := range r.RefreshMany(ctx, []Entry{
				{session, transcript.Recent{Version: list[j]}}, {session, transcript.Recent{Version: list[i]}},
			}) {
				check(t, err)
			}
			if rec, hit, err := r.Recent(ctx, session); !hit || err != nil || rec.Version != list[j] {
				t.Errorf("%v replaced %v", list[i], list[j])
			}
		}
	}
}

func TestNewestVersionStays(t *testing.T) {
	testVersions(t, newRedis(t, patient(servertest.Redis(t).URL())))
}

// A turn whose last snapshot has an earlier timestamp replaces the one before, be it by its revision or
// by the rule for equal ones.
func TestEarlierTimestampReplaces(t *testing.T) {
	s := servertest.Redis(t)
	r, ctx := newRedis(t, patient(s.URL())), t.Context()
	for session, rev := range map[string]int{"corrected": 2, "again": 1} {
		before, after := turn(session, 0), turn(session, 0)
		after.Timestamp, after.Rev, after.Assistant = before.Timestamp.Add(-time.Hour), rev, "after"
		check(t, r.Refresh(ctx, session, recentOf([]transcript.Snapshot{snap(t, before)}, 10)))
		check(t, r.Refresh(ctx, session, recentOf([]transcript.Snapshot{snap(t, after)}, 10)))
		rec, hit, err := r.Recent(ctx, session)
		if !hit || err != nil {
			t.Fatal(hit, err)
		}
		if got, err := rec.Turns[0].Turn(); err != nil || got.Assistant != "after" {
			t.Errorf("%s: Redis still has the turn before, or %v", session, err)
		}
	}
}

// TestLateWriteChangesNothing: a write that timed out lands after Redis was
// resumed, when a newer one is there.
func TestLateWriteChangesNothing(t *testing.T) {
	s := servertest.Redis(t)
	r, ctx := newRedis(t, Config{URL: s.URL(), BreakerFailures: 100}), t.Context()
	all := turns(t, "s", 1, 12)
	check(t, r.Refresh(ctx, "warm", recentOf(turns(t, "warm", 1, 1), 10)))
	s.Hang()
	if err := r.Refresh(ctx, "s", recentOf(all[:5], 10)); err == nil {
		t.Fatal("a hung Redis took a write")
	}
	s.Resume()
	eventually(t, "the newer write", func() bool { return r.Refresh(ctx, "s", recentOf(all, 10)) == nil })
	holds(t, bare(t, s.Addr()), all, DefaultTTL)
	check(t, r.Refresh(ctx, "s", recentOf(all[:5], 10)))
	holds(t, bare(t, s.Addr()), all, DefaultTTL)
	if n := r.Stats().N(OpWrite, Newer); n != 1 {
		t.Errorf("%d writes were counted as older", n)
	}
}

func TestEqualVersionHealsEitherKey(t *testing.T) {
	s := servertest.Redis(t)
	r, c, ctx := newRedis(t, patient(s.URL())), bare(t, s.Addr()), t.Context()
	all := turns(t, "s", 1, 12)
	for _, harm := range []func() error{
		func() error { return c.Del(ctx, ConversationKey("s")).Err() },
		func() error { return c.Del(ctx, RecentKey("s")).Err() },
		func() error { return c.Set(ctx, ConversationKey("s"), "x", 0).Err() },
		func() error { return c.Persist(ctx, RecentKey("s")).Err() },
		func() error { return c.HDel(ctx, RecentKey("s"), "version").Err() },
		func() error { return c.HSet(ctx, RecentKey("s"), "version", "99999999999999999999 x").Err() },
		func() error { return c.Set(ctx, RecentKey("s"), "a string", 0).Err() },
		func() error { return c.FlushAll(ctx).Err() },
		func() error { return c.ScriptFlush(ctx).Err() },
	} {
		check(t, r.Refresh(ctx, "s", recentOf(all, 10)))
		check(t, harm())
		check(t, r.Refresh(ctx, "s", recentOf(all, 10)))
		holds(t, c, all, DefaultTTL)
	}
}

func TestRestartedServerDoesNotKnowTheScript(t *testing.T) {
	s := servertest.Redis(t)
	r, ctx := newRedis(t, Config{URL: s.URL()}), t.Context()
	all := turns(t, "s", 1, 12)
	check(t, r.Refresh(ctx, "s", recentOf(all, 10)))
	s.Restart()
	eventually(t, "a write after a restart", func() bool { return r.Refresh(ctx, "s", recentOf(all, 10)) == nil })
	holds(t, bare(t, s.Addr()), all, DefaultTTL)
}

func TestCorruptValueIsNotTrusted(t *testing.T) {
	s := servertest.Redis(t)
	r, c, ctx := newRedis(t, patient(s.URL())), bare(t, s.Addr()), t.Context()
	all := turns(t, "s", 1, 3)
	other := turns(t, "other", 1, 1)[0]
	pending := turn("s", 9)
	pending.Assistant, pending.Status = "", transcript.Pending
	unanswered := snap(t, pending)
	for name, turns := range map[string]string{
		"garbage":         "garbage",
		"truncated":       string(all[0].Payload()[:40]),
		"another session": string(other.Payload()),
		"out of order":    string(all[1].Payload()) + "\n" + string(all[0].Payload()),
		"twice":           string(all[1].Payload()) + "\n" + string(all[1].Payload()),
		"unanswered":      string(unanswered.Payload()),
		"empty line":      "\n",
	} {
		const version = "0 5 a 1"
		check(t, c.HSet(ctx, RecentKey("s"), "version", version, "turns", turns, "mac", sign(testKey, "s", version, []byte(turns))).Err())
		if _, hit, err := r.Recent(ctx, "s"); hit || !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, %v", name, hit, err)
		}
	}
	if !r.Up() || r.Stats().N(OpRead, Corrupt) != 7 {
		t.Errorf("%+v", r.Stats())
	}
}

func TestHungRedisIsNoMissAndBreakerRecovers(t *testing.T) {
	s := servertest.Redis(t)
	r, ctx := newRedis(t, Config{URL: s.URL()}), t.Context()
	check(t, r.Refresh(ctx, "s", recentOf(turns(t, "s", 1, 3), 10)))
	recovered := make(chan struct{}, 10)
	r.OnRecover(func() { recovered <- struct{}{} })
	s.Hang()
	for range DefaultBreakerFailures {
		within(t, 2*DefaultOpTimeout-100*time.Millisecond, "a read of a hung Redis", func() {
			if _, hit, err := r.Recent(ctx, "s"); hit || err == nil {
				t.Errorf("a hung Redis answered %v, %v", hit, err)
			}
		})
	}
	if r.Up() || r.Stats().N(OpRead, Timeout) != DefaultBreakerFailures {
		t.Errorf("the breaker is closed: %+v", r.Stats())
	}
	// Also while probes are under way no operation waits.
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); {
		within(t, DefaultOpTimeout/2, "a read with the breaker open", func() {
			if _, hit, err := r.Recent(ctx, "s"); hit || !errors.Is(err, ErrUnavailable) {
				t.Fatalf("got %v, %v", hit, err)
			}
		})
		servertest.Eventually(t, time.Second, "a tick", nextTick(10*time.Millisecond))
	}
	s.Resume()
	within(t, 5*time.Second, "recovery", func() { <-recovered })
	if rec, hit, err := r.Recent(ctx, "s"); !hit || err != nil || len(rec.Turns) != 3 {
		t.Errorf("after recovery: %v, %v", hit, err)
	}
}

// Whoever asks a Redis that has stopped answering on all connections does not wait for
// one of them, before any bound says that it does not answer.
func TestReadsDoNotQueueForStalledRedis(t *testing.T) {
	s := servertest.Redis(t)
	const long = time.Minute
	r, ctx := newRedis(t, Config{URL: s.URL(), OpTimeout: long, ReadTimeout: long, PoolTimeout: long}), t.Context()
	check(t, r.Refresh(ctx, "s", recentOf(turns(t, "s", 1, 3), 10)))
	read := func() error {
		rec, hit, err := r.Recent(ctx, "s")
		if err == nil && (!hit || len(rec.Turns) != 3) {
			err = fmt.Errorf("%d turns, %v", len(rec.Turns), hit)
		}
		return err
	}
	s.Hang()
	ended := make(chan error, DefaultPoolSize)
	for range DefaultPoolSize {
		go func() { ended <- read() }()
	}
	servertest.Eventually(t, 20*time.Second, "a stall", r.stall.stuck)
	within(t, 5*time.Second, "a read while all connections hang", func() {
		if err := read(); !errors.Is(err, ErrUnavailable) || !r.Up() {
			t.Errorf("%v, asked at all: %v", err, r.Up())
		}
	})
	if n := r.Stats().N(OpRead, Unavailable); n != 1 {
		t.Errorf("%d reads were not made", n)
	}
	s.Resume()
	for range DefaultPoolSize {
		if err := <-ended; err != nil {
			t.Errorf("a read that was under way: %v", err)
		}
	}
	check(t, read())
}

// nextTick is true after d: a pace, not a wait for anything.
func nextTick(d time.Duration) func() bool {
	at := time.Now().Add(d)
	return func() bool { return time.Now().After(at) }
}

func TestDeadRedis(t *testing.T) {
	s := servertest.Redis(t)
	r, ctx := newRedis(t, Config{URL: s.URL()}), t.Context()
	s.Kill()
	for range DefaultBreakerFailures {
		within(t, DefaultOpTimeout, "a read of a dead Redis", func() {
			if _, hit, err := r.Recent(ctx, "s"); hit || err == nil {
				t.Errorf("a dead Redis answered %v, %v", hit, err)
			}
		})
	}
	if r.Up() {
		t.Error("the breaker is closed")
	}
	s.Restart()
	eventually(t, "recovery", r.Up)
}

// TestOpTimeoutHoldsEvenIfTheClientDoesNot uses client timeouts beyond the
// operation's: nothing answers, and the operation ends all the same.
func TestOpTimeoutHoldsEvenIfTheClientDoesNot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	r := newRedis(t, Config{
		URL: "redis://" + l.Addr().String(), OpTimeout: 200 * time.Millisecond,
		ReadTimeout: time.Minute, DialTimeout: time.Minute, WriteTimeout: time.Minute, BreakerFailures: 1000,
	})
	within(t, patience, "a ping", func() {
		if err := r.Check(t.Context()); !timedOut(err) {
			t.Error(err)
		}
	})
	hang := make(chan struct{})
	defer close(hang)
	within(t, patience, "a call that never returns", func() {
		if _, err := do(t.Context(), r, r.reads, func(context.Context) (int, error) { <-hang; return 0, nil }); !timedOut(err) {
			t.Error(err)
		}
	})
}

func TestCallerWhoGoesAwayDoesNotOpenTheBreaker(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	cfg := patient("redis://" + l.Addr().String())
	cfg.BreakerFailures = 1
	r := newRedis(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, _, err := r.Recent(ctx, "s"); !errors.Is(err, context.Canceled) || !r.Up() {
		t.Error(err, r.Up())
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{{TTL: -1}, {Limit: -1}, {OpTimeout: -time.Second}, {PoolSize: -2}, {URL: "x"}} {
		if r, err := New(c); err == nil {
			r.Close()
			t.Errorf("%+v is accepted", c)
		}
	}
}
