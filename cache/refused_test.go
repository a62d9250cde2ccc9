package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/internal/servertest"
)

// logged keeps what was logged.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.b.String(), "\n"), "\n")
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// quick is patient, but asks a Redis in trouble again soon.
func quick(url string) Config {
	cfg := patient(url)
	cfg.BreakerWait = 50 * time.Millisecond
	return cfg
}

// TestRedisInTroubleIsNotRead: a session that Redis could not be told of comes from the
// file, without being degraded while Redis answers reads, until Redis has it; nobody has to write a turn for
// that. What Redis said is named all the time, and logged once at the beginning and once at the end.
func TestRedisInTroubleIsNotRead(t *testing.T) {
	s := servertest.Redis(t, "--enable-debug-command", "yes", "--enable-protected-configs", "yes", "--loading-process-events-interval-bytes", "1024", "--user", "afterword", "on", ">secret", "allcommands", "allkeys", "allchannels")
	c := bare(t, s.Addr())
	do := func(args ...any) { t.Helper(); check(t, c.Do(t.Context(), args...).Err()) }
	set := func(name, value string) func() { return func() { do("config", "set", name, value) } }
	password := func(text string) func() {
		return func() {
			do("acl", "setuser", "afterword", "resetpass", ">"+text)
			do("client", "kill", "user", "afterword")
		}
	}
	const refusesWrites, refusesReads, noAnswer, credentials = "Redis refuses writes", "Redis refuses reads", "Redis does not answer", "Redis refused the credentials"
	for _, f := range []struct {
		name, what, cause string
		fault, mend       func()
		begin, end        string // of the log, where it says something else
		missing           string // what the log names
	}{
		{name: "replica of nowhere", what: refusesWrites, cause: "READONLY", fault: func() { do("replicaof", "127.0.0.1", "1") }, mend: func() { do("replicaof", "no", "one") }},
		{name: "full", what: refusesWrites, cause: "OOM", fault: set("maxmemory", "1"), mend: set("maxmemory", "0")},
		{name: "no replicas", what: refusesWrites, cause: "NOREPLICAS", fault: set("min-replicas-to-write", "2"), mend: set("min-replicas-to-write", "0")},
		{name: "ACL without scripts", what: refusesWrites, cause: "NOPERM", fault: func() { do("acl", "setuser", "afterword", "-eval", "-evalsha") }, mend: func() { do("acl", "setuser", "afterword", "+@all") }, missing: "EVALSHA, EVAL"},
		{name: "ACL without a command of scripts", what: refusesWrites, fault: func() { do("acl", "setuser", "afterword", "-hset") }, mend: func() { do("acl", "setuser", "afterword", "+@all") }, missing: "HSET"},
		{name: "ACL without reads", what: refusesReads, cause: "NOPERM", fault: func() { do("acl", "setuser", "afterword", "-hmget") }, mend: func() { do("acl", "setuser", "afterword", "+@all") }},
		{name: "snapshots fail", what: refusesWrites, cause: "MISCONF", fault: func() {
			dir := c.ConfigGet(t.Context(), "dir").Val()["dir"]
			check(t, os.Mkdir(filepath.Join(dir, "a.rdb"), 0o700)) // a snapshot cannot replace it
			do("config", "set", "dbfilename", "a.rdb", "save", "1 1")
			do("set", "x", "y")
			eventually(t, "a snapshot that fails", func() bool {
				return strings.Contains(c.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
			})
		}, mend: func() { do("config", "set", "save", "", "dbfilename", "b.rdb", "stop-writes-on-bgsave-error", "no") }},
		{name: "password changed", what: credentials, cause: "WRONGPASS", fault: password("other"), mend: password("secret"), begin: credentials, end: "Redis takes"},
		{name: "loading", what: noAnswer, cause: "LOADING", fault: func() {
			do("config", "set", "key-load-delay", "20000", "rdbcompression", "no")
			var keys []any
			for i := range 400 {
				keys = append(keys, fmt.Sprintf("fill%04d", i), fmt.Sprintf("%0600d", i*i*i*7919))
			}
			check(t, c.MSet(t.Context(), keys...).Err())
			go bare(t, s.Addr()).Do(context.Background(), "debug", "reload")
			eventually(t, "it to load", func() bool {
				return strings.HasPrefix(fmt.Sprint(bare(t, s.Addr()).Get(t.Context(), "x").Err()), "LOADING")
			})
		}, mend: set("key-load-delay", "0")},
		{name: "killed", what: noAnswer, cause: "", fault: s.Kill, mend: s.Restart},
	} {
		t.Run(f.name, func(t *testing.T) {
			do("flushall")
			var log logged
			cfg := quick("redis://afterword:secret@" + s.Addr())
			cfg.Logger = log.logger()
			r, st := newRedis(t, cfg), newStore()
			cfg.Logger = nil
			reader := newRedis(t, cfg) // of a process that never writes
			fresh := newRefresher(t, RefresherConfig{Redis: r, Reader: st, RetryAfter: 20 * time.Millisecond})
			h := newHistory(t, HistoryConfig{Redis: reader, File: st, Trust: fresh.trust})
			all := turns(t, "s", 1, 6)
			st.put(all[:3]...)
			st.put(turns(t, "other", 1, 2)...)
			fresh.Changed("s", "other")
			flush(t, fresh)
			load(t, h, "s", 0, FromRedis, false)
			check(t, r.Check(t.Context()))

			f.fault()
			defer f.mend()
			st.put(all[3:]...)
			fresh.Changed("s")
			eventually(t, "the trouble", func() bool {
				return r.Check(t.Context()) != nil && (f.what == refusesReads || fresh.Behind("s") && !r.Writable())
			})
			degraded := f.what != refusesWrites // whoever reads may have met it
			if res, err := h.Load(t.Context(), "s", 0); err != nil || res.Source != FromFile || !degraded && res.Degraded {
				t.Errorf("the history comes from %s, degraded %v, %v", res.Source, res.Degraded, err)
			} else {
				sameTurns(t, res.Turns, all)
			}
			if fresh.Behind("other") {
				t.Error("a session that did not change is not read from Redis any more")
			}
			for range 5 {
				err := r.Check(t.Context())
				var trouble *TroubleError
				if !errors.As(err, &trouble) || !strings.HasPrefix(trouble.What, f.what) || !strings.HasPrefix(trouble.Why, f.cause) || trouble.Do == "" {
					t.Fatalf("the check says %v, not %s", err, f.cause)
				}
				if f.what == refusesReads {
					continue
				}
				if r.Writable() {
					t.Error("the breaker of writes is closed")
				}
				if err := r.Refresh(t.Context(), "s", recentOf(all, 10)); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), f.cause) {
					t.Errorf("a write with the breaker open: %v", err)
				}
			}

			f.mend()
			flush(t, fresh)
			eventually(t, "recovery", func() bool { return r.Check(t.Context()) == nil && reader.Check(t.Context()) == nil })
			sameTurns(t, load(t, h, "s", 0, FromRedis, false).Turns, all)
			begin, end := f.what, "Redis takes writes again"
			switch {
			case f.begin != "":
				begin, end = f.begin, f.end
			case f.what == noAnswer:
				end = "Redis answers again"
			case f.what == refusesReads:
				end = "Redis takes reads again"
			}
			eventually(t, "the last line", func() bool { return len(log.lines()) >= 2 })
			if l := log.lines(); len(l) != 2 || !strings.Contains(l[0], begin) || !strings.Contains(l[0], f.cause) || !strings.Contains(l[0], f.missing) || !strings.Contains(l[1], end) {
				t.Errorf("logged were %q", l)
			}
		})
	}
}

// TestNodeOfAClusterByAPlainURL: it answers for its own slots alone, which is said, and its sessions come
// from files as all others do.
func TestNodeOfAClusterByAPlainURL(t *testing.T) {
	s := servertest.RedisCluster(t, 2)
	var log logged
	cfg := quick(s.Nodes[0].URL())
	cfg.Logger = log.logger()
	r, st := newRedis(t, cfg), newStore()
	f := newRefresher(t, RefresherConfig{Redis: r, Reader: st, RetryAfter: 20 * time.Millisecond})
	h := newHistory(t, HistoryConfig{Redis: r, File: st, Trust: f.trust})
	sessions := []string{"a", "b", "c", "d", "e", "f"}
	for _, session := range sessions {
		st.put(turns(t, session, 1, 3)...)
		f.Changed(session)
	}
	eventually(t, "the trouble", func() bool { return r.Check(t.Context()) != nil })
	for range 3 {
		for _, session := range sessions {
			st.put(turns(t, session, 4, 6)...)
			f.Changed(session)
			res, err := h.Load(t.Context(), session, 0)
			check(t, err)
			sameTurns(t, res.Turns, turns(t, session, 1, 6))
		}
		if err := r.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "MOVED") || !strings.Contains(err.Error(), "redis+cluster") {
			t.Errorf("the check says %v", err)
		}
	}
	eventually(t, "the line", func() bool { return log.lines()[0] != "" })
	if l := log.lines(); len(l) != 1 || !strings.Contains(l[0], "MOVED") {
		t.Errorf("logged were %q", l)
	}
}

// TestNodeOfAClusterIsNamed: an URL without +cluster is one of the causes.
func TestNodeOfAClusterIsNamed(t *testing.T) {
	s := servertest.Redis(t, "--cluster-enabled", "yes")
	r, st := newRedis(t, quick(s.URL())), newStore()
	f := newRefresher(t, RefresherConfig{Redis: r, Reader: st, RetryAfter: 20 * time.Millisecond})
	st.put(turns(t, "s", 1, 3)...)
	f.Changed("s")
	eventually(t, "the refusal", func() bool { return f.Behind("s") })
	for _, cause := range []string{"CLUSTERDOWN", "redis+cluster"} {
		if err := r.Check(t.Context()); err == nil || !strings.Contains(err.Error(), cause) {
			t.Errorf("the check says %v, not %s", err, cause)
		}
	}
	check(t, bare(t, s.Addr()).ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	flush(t, f)
	holds(t, bare(t, s.Addr()), turns(t, "s", 1, 3), DefaultTTL)
}

// TestReplicaIsDoubted: what a replica holds may be what the primary held long ago, and a process
// that only reads finds out by itself.
func TestReplicaIsDoubted(t *testing.T) {
	s := servertest.Redis(t)
	r, st, empty := newRedis(t, quick(s.URL())), newStore(), newStore()
	all := turns(t, "s", 1, 3)
	check(t, r.Refresh(t.Context(), "s", recentOf(all, 10)))
	st.put(turns(t, "s", 1, 5)...)
	check(t, bare(t, s.Addr()).Do(t.Context(), "replicaof", "127.0.0.1", "1").Err())
	if err := r.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "READONLY") {
		t.Fatal(err)
	}
	load(t, newHistory(t, HistoryConfig{Redis: r, File: st}), "s", 0, FromFile, false)
	r2 := newRedis(t, quick(s.URL())) // which has not seen the file
	r2.Check(t.Context())
	sameTurns(t, load(t, newHistory(t, HistoryConfig{Redis: r2, File: empty}), "s", 0, FromRedis, true).Turns, all)
}

func TestReasonsAreOneBoundedLineWithoutArguments(t *testing.T) {
	for in, want := range map[string]string{
		"ERR unknown command 'evalsha', with args beginning with: 'abc' 'chat:conversation:secret'": "ERR unknown command 'evalsha'",
		"ERR bad\r\n\x1b[31mred":                           "ERR bad   [31mred",
		"OOM not allowed script: 0123, on @user_script:2.": "OOM not allowed",
		"ERR " + strings.Repeat("x", 1000):                 "ERR " + strings.Repeat("x", maxReason-4) + "…",
	} {
		if got := reason(answer(in)); got != want {
			t.Errorf("%q is shown as %q", in, got)
		}
	}
}

// minimumACL is what docs/operations.md and deploy/redis give a user.
var minimumACL = []any{"~chat:conversation:*", "~afterword:recent:*", "+hmget", "+eval", "+evalsha", "+hget", "+hset", "+pexpire", "+set", "+del"}

func setUser(t *testing.T, c *redis.Client, rules ...any) {
	t.Helper()
	args := append([]any{"acl", "setuser", "afterword", "reset", "on", ">secret"}, rules...)
	check(t, c.Do(t.Context(), args...).Err())
}

// TestMinimumACL: a user with what is documented can do all, nothing else is even tried, and what
// is missing is named.
func TestMinimumACL(t *testing.T) {
	for _, file := range []string{"../docs/operations.md", "../deploy/redis/redis.conf"} {
		text, err := os.ReadFile(file)
		check(t, err)
		rules := strings.Trim(fmt.Sprint(minimumACL), "[]")
		if !strings.Contains(strings.ToLower(string(text)), "user afterword on >password "+rules) {
			t.Errorf("%s does not have the rules %s", file, rules)
		}
	}
	s := servertest.Redis(t)
	c := bare(t, s.Addr())
	url := "redis://afterword:secret@" + s.Addr()
	setUser(t, c, minimumACL...)
	check(t, c.ConfigResetStat(t.Context()).Err())
	r := newRedis(t, quick(url))
	check(t, r.Check(t.Context()))
	all := turns(t, "s", 1, 12)
	check(t, r.Refresh(t.Context(), "s", recentOf(all, 10)))
	holds(t, c, all, DefaultTTL)
	rec, hit, err := r.Recent(t.Context(), "s")
	if !hit || err != nil {
		t.Fatal(hit, err)
	}
	sameTurns(t, rec.Turns, all[2:])
	// What is not genuine is looked at and replaced, also of another type.
	check(t, c.HSet(t.Context(), RecentKey("s"), "version", "0 9999999999999999 z 9").Err())
	check(t, r.Refresh(t.Context(), "s", recentOf(all, 10)))
	check(t, c.Set(t.Context(), RecentKey("s"), "x", 0).Err())
	check(t, r.Refresh(t.Context(), "s", recentOf(all, 10)))
	holds(t, c, all, DefaultTTL)
	check(t, r.Forget(t.Context(), "s"))
	if denied := c.Do(t.Context(), "acl", "log").Val(); len(denied.([]any)) != 0 {
		t.Errorf("was denied: %v", denied)
	}
	// A command that this server does not know, as CLIENT SETINFO before 7.2, is an ERR.
	if stats := c.Info(t.Context(), "errorstats").Val(); strings.Contains(stats, "errorstat_ERR:") || strings.Contains(stats, "errorstat_NOPERM:") {
		t.Errorf("was refused: %s", stats)
	}

	for i, rule := range minimumACL {
		var rest []any
		for j, other := range minimumACL {
			if j != i {
				rest = append(rest, other)
			}
		}
		setUser(t, c, rest...)
		missing := strings.ToUpper(strings.TrimPrefix(rule.(string), "+"))
		if key, ok := strings.CutPrefix(rule.(string), "~"); ok {
			missing = "the keys " + key
		}
		// A connection of its own: a breaker that is open asks again only after a while.
		err := newRedis(t, quick(url)).Check(t.Context())
		var trouble *TroubleError
		if !errors.As(err, &trouble) || !trouble.Refused() || trouble.Why != "NOPERM the user may not use "+missing {
			t.Errorf("without %s the check says %v", rule, err)
		}
	}
	setUser(t, c, "~*", "+ping")
	if err := newRedis(t, quick(url)).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "may not use HMGET") {
		t.Error(err)
	}
	setUser(t, c, "~*", "+hmget")
	if err := newRedis(t, quick(url)).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "may not use EVALSHA, EVAL, HGET, SET, PEXPIRE, DEL") {
		t.Error(err)
	}
	setUser(t, c, "~*", "+hmget", "+eval", "+evalsha")
	if err := newRedis(t, quick(url)).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "may not use HGET, SET, DEL, PEXPIRE") {
		t.Error(err)
	}
	for missing, rules := range map[string][]any{ // several at once
		"EVALSHA, EVAL, HSET, DEL": append(slices.Clone(minimumACL), "-eval", "-evalsha", "-hset", "-del"),
		"HSET, DEL, PEXPIRE":       append(slices.Clone(minimumACL), "-hset", "-pexpire", "-del"),
		"the keys afterword:recent:*, EVALSHA, EVAL, HGET, SET, PEXPIRE, DEL": {"~chat:conversation:*", "+hmget"},
	} {
		setUser(t, c, rules...)
		err := newRedis(t, quick(url)).Check(t.Context())
		var trouble *TroubleError
		if !errors.As(err, &trouble) {
			t.Errorf("%s: %v", missing, err)
			continue
		}
		got := strings.Split(strings.TrimPrefix(trouble.Why, "NOPERM the user may not use "), ", ")
		want := strings.Split(missing, ", ")
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v", missing, err)
		}
	}
	setUser(t, c, minimumACL...) // another database needs SELECT
	if err := newRedis(t, quick(url+"/3")).Check(t.Context()); err == nil || !strings.Contains(err.Error(), "may not use SELECT") {
		t.Error(err)
	}
	eventually(t, "what checks left to expire", func() bool { return c.DBSize(t.Context()).Val() == 0 })
}

// TestRunFindsTroubleOfAnIdleRedis: nobody has to write for it.
func TestRunFindsTroubleOfAnIdleRedis(t *testing.T) {
	s := servertest.Redis(t)
	check(t, bare(t, s.Addr()).ConfigSet(t.Context(), "maxmemory", "1").Err())
	r := newRedis(t, quick(s.URL()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	eventually(t, "the refusal", func() bool { return !r.Writable() })
	check(t, bare(t, s.Addr()).ConfigSet(t.Context(), "maxmemory", "0").Err())
	eventually(t, "recovery", r.Writable)
	cancel()
	<-done
}

// TestChangedPasswordIsOneTrouble: connections that are there still work, and are used by none.
func TestChangedPasswordIsOneTrouble(t *testing.T) {
	s := servertest.Redis(t, "--user", "afterword", "on", ">secret", "allcommands", "allkeys")
	var log logged
	cfg := quick("redis://afterword:secret@" + s.Addr())
	cfg.Logger, cfg.CheckEvery = log.logger(), 20*time.Millisecond
	r := newRedis(t, cfg)
	check(t, r.Check(t.Context()))
	c := bare(t, s.Addr())
	check(t, c.Do(t.Context(), "acl", "setuser", "afterword", "resetpass", ">other").Err())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	pings := func() uint64 { return r.Stats().N(OpPing, Failed) }
	eventually(t, "the refusal", func() bool { return !r.Up() && !r.Writable() })
	before := pings()
	eventually(t, "some checks that fail", func() bool { return pings() >= before+4 })
	if err := r.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Error(err)
	}
	check(t, c.Do(t.Context(), "acl", "setuser", "afterword", ">secret").Err())
	eventually(t, "recovery", func() bool { return r.Up() && r.Writable() && len(log.lines()) >= 2 })
	if l := log.lines(); len(l) != 2 || !strings.Contains(l[0], "Redis refused the credentials") || !strings.Contains(l[1], "Redis takes reads and writes again") {
		t.Errorf("logged were %q", l)
	}
	cancel()
	<-done
}
