package cache

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// marked waits until a process has its mark in Redis, and the gateway has found it.
func marked(t *testing.T, gateway *process, consumers ...*process) {
	t.Helper()
	for _, c := range consumers {
		eventually(t, "a mark that the gateway has found", func() bool {
			gateway.shared.mu.RLock()
			defer gateway.shared.mu.RUnlock()
			o := gateway.shared.others[c.shared.id]
			return o != nil && o.want > 0
		})
	}
}

// streams starts a NATS with the streams of afterword.
func streams(t *testing.T) *servertest.NATSServer {
	t.Helper()
	n := servertest.NATS(t)
	check(t, stream.Ensure(t.Context(), servertest.JetStream(t, n.URL()), stream.StreamConfig{}))
	return n
}

func (p *process) history(t *testing.T, st *store) *History {
	return newHistory(t, HistoryConfig{Redis: p.redis, Stream: st, Trust: p.shared.Trust})
}

// distrusts is what the check of a process says.
func (p *process) distrusts() string {
	if err := p.shared.Check(context.Background()); err != nil {
		return err.Error()
	}
	return ""
}

// TestOnlyARedisWithTheMarksIsRead: a gateway whose Redis does not get what consumers write reads from
// elsewhere, without being degraded, and says why; also when that Redis takes writes.
func TestOnlyARedisWithTheMarksIsRead(t *testing.T) {
	n, s, other := streams(t), servertest.Redis(t), servertest.Redis(t)
	files := newStore()
	group := func(name string) func(*SharedConfig) { return func(c *SharedConfig) { c.Group = name } }
	consumer := newProcess(t, n.URL(), s.URL(), files, group("a"))
	gateway := newProcess(t, n.URL(), s.URL(), nil)
	elsewhere := newProcess(t, n.URL(), other.URL(), nil)
	marked(t, gateway, consumer)
	old, all := turns(t, "s", 1, 3), turns(t, "s", 1, 6)
	files.put(old...)
	check(t, elsewhere.redis.Refresh(t.Context(), "s", recentOf(old, 10)))
	consumer.store(t, files, all[3:]...)

	sameTurns(t, load(t, gateway.history(t, files), "s", 0, FromRedis, false).Turns, all)
	h := elsewhere.history(t, files)
	eventually(t, "the other Redis to be left alone", func() bool { return elsewhere.shared.Trust("s") == Refused })
	sameTurns(t, load(t, h, "s", 0, FromStream, false).Turns, all)
	if said := elsewhere.distrusts(); !strings.Contains(said, other.Addr()+" does not have") || !strings.Contains(said, s.Addr()) {
		t.Errorf("the check says %q", said)
	}
	if said := gateway.distrusts(); said != "" {
		t.Error(said)
	}
	alien := newProcess(t, n.URL(), s.URL(), nil, func(c *SharedConfig) { c.Redis.SetKey(NewKey()) })
	eventually(t, "another key to be named", func() bool { return strings.Contains(alien.distrusts(), "signed with another key") })
	check(t, alien.shared.Close(t.Context()))

	// A group of its own on each server, as with a full copy on each machine: both are read.
	second := newProcess(t, n.URL(), other.URL(), files, group("b"))
	second.store(t, files)
	marked(t, elsewhere, second)
	eventually(t, "trust", func() bool { return elsewhere.shared.Trust("s") == Trusted })
	sameTurns(t, load(t, h, "s", 0, FromRedis, false).Turns, all)
	load(t, gateway.history(t, files), "s", 0, FromRedis, false)

	// Consumers of one group on two servers: neither is.
	check(t, second.shared.Close(t.Context()))
	newProcess(t, n.URL(), other.URL(), files, group("a"))
	for _, p := range []*process{gateway, elsewhere, consumer} {
		eventually(t, "distrust", func() bool { return p.shared.Trust("s") == Refused && p.distrusts() != "" })
	}
	load(t, gateway.history(t, files), "s", 0, FromStream, false)
}

// TestReplicaThatIsBehindIsNotRead: its link to the primary is broken and it takes writes, so that nothing
// else tells that it serves what was true once.
func TestReplicaThatIsBehindIsNotRead(t *testing.T) {
	n, s := streams(t), servertest.Redis(t)
	replica := servertest.Redis(t, "--replicaof", strings.ReplaceAll(s.Addr(), ":", " "), "--replica-read-only", "no", "--repl-diskless-sync-delay", "0")
	files := newStore()
	consumer, gateway := newProcess(t, n.URL(), s.URL(), files), newProcess(t, n.URL(), replica.URL(), nil)
	all := turns(t, "s", 1, 6)
	consumer.store(t, files, all[:3]...)
	marked(t, gateway, consumer)
	h := gateway.history(t, files)
	eventually(t, "replication", func() bool { res, err := h.Load(t.Context(), "s", 0); return err == nil && res.Source == FromRedis })
	check(t, bare(t, replica.Addr()).Do(t.Context(), "replicaof", "127.0.0.1", "1").Err())
	consumer.store(t, files, all[3:]...)
	eventually(t, "distrust", func() bool { return gateway.shared.Trust("s") == Refused })
	sameTurns(t, load(t, h, "s", 0, FromStream, false).Turns, all)
}

// TestRestoredRedisIsNotRead: it comes back with what it had some time ago. The first history is right
// already, and those from Redis are after a walk over all sessions.
func TestRestoredRedisIsNotRead(t *testing.T) {
	n, s := streams(t), servertest.Redis(t)
	files := newStore()
	consumer, gateway := newProcess(t, n.URL(), s.URL(), files), newProcess(t, n.URL(), s.URL(), nil)
	all := turns(t, "s", 1, 6)
	consumer.store(t, files, all[:3]...)
	marked(t, gateway, consumer)
	check(t, bare(t, s.Addr()).Save(t.Context()).Err()) // the snapshot that it starts from
	before := consumer.shared.marked.Load()
	consumer.store(t, files, all[3:]...)
	eventually(t, "later marks", func() bool {
		gateway.shared.mu.RLock()
		defer gateway.shared.mu.RUnlock()
		return gateway.shared.others[consumer.shared.id].want > before+1
	})
	h := gateway.history(t, files)
	sameTurns(t, load(t, h, "s", 0, FromRedis, false).Turns, all)
	gateway.redis.seen.Purge() // it would notice by itself what it has seen

	s.Restart()
	for range 100 {
		res, err := h.Load(t.Context(), "s", 0)
		check(t, err)
		sameTurns(t, res.Turns, all)
	}
	eventually(t, "a walk over all sessions", func() bool { return <-consumer.walks })
	if gateway.shared.Trust("s") != Refused {
		t.Error("Redis is trusted before the walk")
	}
	if said := consumer.distrusts(); !strings.Contains(said, "lost what was written") {
		t.Errorf("the check says %q", said)
	}
	consumer.fresh.Walked(time.Now(), false)
	if consumer.shared.Trust("s") == Trusted {
		t.Error("a walk over what has changed is enough")
	}
	began := time.Now()
	check(t, consumer.fresh.ChangedWait(t.Context(), "s"))
	flush(t, consumer.fresh)
	consumer.fresh.Walked(began, true)
	eventually(t, "trust", func() bool { return gateway.shared.Trust("s") == Trusted })
	sameTurns(t, load(t, h, "s", 0, FromRedis, false).Turns, all)
}

// TestWhatCameAfterTheLastMarkIsWrittenAgain: Redis has the last mark, and lost what was refreshed after it.
func TestWhatCameAfterTheLastMarkIsWrittenAgain(t *testing.T) {
	n, s := streams(t), servertest.Redis(t)
	files := newStore()
	seldom := func(c *SharedConfig) { c.OrphanAfter = patience }
	consumer, gateway := newProcess(t, n.URL(), s.URL(), files, seldom), newProcess(t, n.URL(), s.URL(), nil, seldom)
	all := turns(t, "s", 1, 6)
	consumer.store(t, files, all[:3]...)
	marked(t, gateway, consumer)
	time.Sleep(2 * consumer.shared.cfg.Every) // for connections that are new at the start
	check(t, bare(t, s.Addr()).Save(t.Context()).Err())
	consumer.store(t, files, all[3:]...)
	s.Restart()
	h := gateway.history(t, files)
	eventually(t, "the refresh", func() bool {
		res, err := h.Load(t.Context(), "s", 0)
		return err == nil && res.Source == FromRedis && len(res.Turns) == len(all)
	})
	if consumer.shared.hasLost() {
		t.Error("the mark was lost too")
	}
}

// TestKilledConsumerIsMissed: it may have acknowledged turns and not refreshed them, so nothing is read from Redis
// until another one has; one that stops leaves nothing.
func TestKilledConsumerIsMissed(t *testing.T) {
	n, s := streams(t), servertest.Redis(t)
	files := newStore()
	stops, killed := newProcess(t, n.URL(), s.URL(), files), newProcess(t, n.URL(), s.URL(), files)
	gateway := newProcess(t, n.URL(), s.URL(), nil)
	all := turns(t, "s", 1, 6)
	killed.store(t, files, all[:3]...)
	marked(t, gateway, stops, killed)
	h := gateway.history(t, files)
	check(t, stops.shared.Close(t.Context()))
	eventually(t, "trust", func() bool { return gateway.shared.Trust("s") == Trusted })
	load(t, h, "s", 0, FromRedis, false)
	files.put(all[3:]...) // and acknowledged
	killed.kill()
	eventually(t, "distrust", func() bool { return gateway.shared.Trust("s") == Refused })
	sameTurns(t, load(t, h, "s", 0, FromStream, false).Turns, all)
	if said := gateway.distrusts(); !strings.Contains(said, "gone without a word") {
		t.Errorf("the check says %q", said)
	}
	late := newProcess(t, n.URL(), s.URL(), nil)
	sameTurns(t, load(t, late.history(t, files), "s", 0, FromStream, false).Turns, all)

	next := newProcess(t, n.URL(), s.URL(), files)
	eventually(t, "a walk", func() bool { return !<-next.walks })
	began := time.Now()
	check(t, next.fresh.ChangedWait(t.Context(), "s"))
	flush(t, next.fresh)
	next.fresh.Walked(began, false)
	for _, p := range []*process{gateway, late} {
		eventually(t, "trust", func() bool { return p.shared.Trust("s") == Trusted })
		sameTurns(t, load(t, p.history(t, files), "s", 0, FromRedis, false).Turns, all)
	}
	eventually(t, "nothing to be left of both", func() bool {
		gateway.shared.mu.RLock()
		defer gateway.shared.mu.RUnlock()
		return len(gateway.shared.others) == 1
	})
}

// TestMarks: who writes to Redis by itself changes no mark for the better.
func TestMarks(t *testing.T) {
	s := servertest.Redis(t)
	c, ctx, r := bare(t, s.Addr()), t.Context(), newRedis(t, patient(s.URL()))
	m := mark{"p", 1, 1}
	key := RecentKey(m.sessions()[0])
	write := func(n, before int64, wantLost bool) {
		t.Helper()
		if lost, err := r.writeMark(ctx, mark{"p", 1, n}, before); err != nil || lost != wantLost {
			t.Errorf("mark %d after %d: lost %v, %v", n, before, lost, err)
		}
	}
	has := func(n int64, want bool) {
		t.Helper()
		if found, err := r.readMarks(ctx, []mark{{"p", 1, n}}); err != nil || (found[0] == there) != want {
			t.Errorf("mark %d: %v, %v", n, found, err)
		}
	}
	has(1, false)
	write(1, 0, false)
	write(2, 1, false)
	write(2, 1, false) // its answer was lost
	has(1, true)
	has(2, true)
	has(3, false)
	if ttl := c.PTTL(ctx, key).Val(); ttl < DefaultTTL {
		t.Errorf("a mark lives for %s, less than entries", ttl)
	}
	write(9, 8, true)
	has(9, false)
	second := c.HGetAll(ctx, key).Val()
	for name, forge := range map[string]func(){
		"raised": func() { c.HSet(ctx, key, "version", markVersion(100)) },
		"string": func() { c.Set(ctx, key, "x", 0) },
		"of a session": func() {
			check(t, r.Refresh(ctx, "s", recentOf(turns(t, "s", 1, 1), 10)))
			c.Copy(ctx, RecentKey("s"), key, 0, true)
		},
		"of another process": func() {
			_, err := r.writeMark(ctx, mark{"q", 1, 100}, 0)
			check(t, err)
			c.Copy(ctx, RecentKey(mark{"q", 1, 1}.sessions()[0]), key, 0, true)
		},
	} {
		c.Del(ctx, key)
		c.HSet(ctx, key, second)
		has(2, true)
		forge()
		has(2, false)
		if t.Failed() {
			t.Fatal(name)
		}
		write(3, 0, false)
		has(3, true)
	}
	if _, hit, err := r.Recent(ctx, m.sessions()[0]); hit && err == nil {
		t.Log("a mark reads as a history without turns, of a session that cannot exist")
	}
	if transcript.CheckSessionID(m.sessions()[0]) == nil {
		t.Error("a session could have the key of a mark")
	}
}
