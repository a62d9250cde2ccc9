package cache

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

// TestForgedEntriesAreNotServed: what anybody else has written to Redis, altered, copied from
// another session or put back is a miss, is logged once, counted, and replaced by the next
// refresh, whatever version it claims to have; and it moves no clock.
func TestForgedEntriesAreNotServed(t *testing.T) {
	s := servertest.Redis(t)
	c, ctx := bare(t, s.Addr()), t.Context()
	var log logged
	cfg := patient(s.URL())
	cfg.Logger = log.logger()
	r, st := newRedis(t, cfg), newStore()
	fresh := newRefresher(t, RefresherConfig{Redis: r, Reader: st})
	var moved []transcript.Instant
	h := newHistory(t, HistoryConfig{Redis: r, File: st, Observe: func(_ string, at transcript.Instant) { moved = append(moved, at) }})

	all := turns(t, "s", 1, 3)
	st.put(all...)
	st.put(turns(t, "other", 1, 3)...)
	fresh.Changed("s", "other")
	flush(t, fresh)
	key := RecentKey("s")
	genuine := c.HGetAll(ctx, key).Val()
	foreign := c.HGetAll(ctx, RecentKey("other")).Val()
	lie := turn("s", 9)
	lie.Assistant, lie.Timestamp = "a lie", epoch.AddDate(150, 0, 0)
	forged := snap(t, lie)
	infinite := "9223372036854775807 9223372036854775807 zzz 9223372036854775807"
	alien := NewKey()
	giant := strings.Repeat("9", DefaultMaxEntry+1)
	cases := []struct {
		name string
		hash map[string]string
	}{
		{"unsigned", map[string]string{"version": "0 5 t 1", "turns": string(forged.Payload())}},
		{"with an infinite version", map[string]string{"version": infinite, "turns": string(forged.Payload()), "mac": genuine["mac"]}},
		{"infinite and unsigned", map[string]string{"version": infinite, "turns": string(forged.Payload())}},
		{"altered", map[string]string{"version": genuine["version"], "turns": strings.Replace(genuine["turns"], "answer", "ANSWER", 1), "mac": genuine["mac"]}},
		{"of a version that was raised", map[string]string{"version": infinite, "turns": genuine["turns"], "mac": genuine["mac"]}},
		{"of another session", foreign},
		{"signed with another key", map[string]string{"version": infinite, "turns": string(forged.Payload()), "mac": sign(alien, "s", infinite, forged.Payload())}},
		{"without turns", map[string]string{"version": infinite, "mac": genuine["mac"]}},
		{"nothing but a signature", map[string]string{"mac": genuine["mac"]}},
		{"with giant turns", map[string]string{"version": infinite, "turns": giant, "mac": genuine["mac"]}},
		{"with a giant version", map[string]string{"version": giant + " 9 z 9", "turns": genuine["turns"], "mac": genuine["mac"]}},
		{"with a giant signature", map[string]string{"version": genuine["version"], "turns": genuine["turns"], "mac": giant}},
		{"of another type", nil},
	}
	for i, f := range cases {
		t.Run(f.name, func(t *testing.T) {
			put := func() {
				check(t, c.Del(ctx, key).Err())
				if f.hash == nil {
					check(t, c.RPush(ctx, key, "a lie").Err())
				}
				for name, value := range f.hash {
					check(t, c.HSet(ctx, key, name, value).Err())
				}
			}
			put()
			sameTurns(t, load(t, h, "s", 0, FromFile, false).Turns, all)
			eventually(t, "replacement by the one who read", func() bool { _, hit, _ := r.Recent(ctx, "s"); return hit })
			holds(t, c, all, DefaultTTL)

			put()
			fresh.Changed("s")
			flush(t, fresh)
			holds(t, c, all, DefaultTTL)
		})
		if n := r.Stats().N(OpRead, Forged); n <= uint64(i) {
			t.Errorf("%d forged entries are counted", n)
		}
	}
	if l := log.lines(); len(l) != 1 || !strings.Contains(l[0], "not signed") || strings.Contains(l[0], "a lie") {
		t.Errorf("logged were %q", l)
	}

	// An older one of the same session, with its signature, put back.
	st.put(turns(t, "s", 4, 5)...)
	all = turns(t, "s", 1, 5)
	fresh.Changed("s")
	flush(t, fresh)
	sameTurns(t, load(t, h, "s", 0, FromRedis, false).Turns, all)
	check(t, c.HSet(ctx, key, "version", genuine["version"], "turns", genuine["turns"], "mac", genuine["mac"]).Err())
	sameTurns(t, load(t, h, "s", 0, FromFile, false).Turns, all)
	eventually(t, "replacement", func() bool { _, hit, _ := r.Recent(ctx, "s"); return hit })
	holds(t, c, all, DefaultTTL)
	if r.Stats().N(OpRead, Older) == 0 {
		t.Error("it is not counted")
	}
	for _, at := range moved {
		if at > all[len(all)-1].Timestamp {
			t.Errorf("a clock was moved to %s", at)
		}
	}
	n := len(moved)
	load(t, h, "s", 0, FromRedis, false)
	if len(moved) != n {
		t.Error("a history from Redis moved a clock")
	}
}

// TestWithoutAKeyRedisIsNotUsed, and with the right one it is.
func TestWithoutAKeyRedisIsNotUsed(t *testing.T) {
	s := servertest.Redis(t)
	r, err := New(Config{URL: s.URL()})
	check(t, err)
	defer r.Close()
	all := turns(t, "s", 1, 3)
	st := newStore()
	st.put(all...)
	f := newRefresher(t, RefresherConfig{Redis: r, Reader: st})
	f.Changed("s")
	if err := r.Refresh(t.Context(), "s", recentOf(all, 10)); !errors.Is(err, ErrNoKey) || !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if _, hit, err := r.Recent(t.Context(), "s"); hit || !errors.Is(err, ErrNoKey) {
		t.Error(hit, err)
	}
	if !f.Behind("s") {
		t.Error("Redis is not behind with what waits for the key")
	}
	r.SetKey(testKey)
	flush(t, f)
	holds(t, bare(t, s.Addr()), all, DefaultTTL)
}

func TestReadKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	for text, ok := range map[string]bool{
		strings.Repeat("k", MinKey) + "\n": true, strings.Repeat("k", MaxKey): true,
		"": false, strings.Repeat("k", MinKey-1) + "   ": false, strings.Repeat("k", MaxKey+1): false,
	} {
		check(t, os.WriteFile(file, []byte(text), 0o600))
		key, err := ReadKey(file)
		if ok != (err == nil) || ok && string(key) != strings.TrimSpace(text) {
			t.Errorf("a key of %d bytes: %v", len(text), err)
		}
	}
	if _, err := ReadKey(file + "-absent"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestForgedSizeIsNoOutage: a value that would take longer to come than Redis may take to answer is forged, and
// no reason to do without Redis.
func TestForgedSizeIsNoOutage(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for b := make([]byte, 4096); ; {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					answer := "-ERR unknown command\r\n"
					switch asked := string(b[:n]); {
					case strings.Contains(asked, RecentKey("poisoned")): // a slow network: nothing of it comes
						answer = "*3\r\n$1\r\nv\r\n$100000000\r\n"
					case strings.Contains(asked, RecentKey("s")):
						answer = "*3\r\n$-1\r\n$-1\r\n$-1\r\n"
					}
					io.WriteString(c, answer)
				}
			}()
		}
	}()
	r := newRedis(t, patient("redis://"+l.Addr().String()))
	for range 2 * DefaultBreakerFailures {
		if _, hit, err := r.Recent(t.Context(), "poisoned"); hit || !errors.Is(err, ErrForged) {
			t.Fatal(hit, err)
		}
	}
	if _, hit, err := r.Recent(t.Context(), "s"); hit || err != nil {
		t.Error(hit, err)
	}
	if !r.Up() {
		t.Error("Redis is not read any more")
	}
}
