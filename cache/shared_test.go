package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// process is what one process has of the cache.
type process struct {
	redis  *Redis
	fresh  *Refresher // nil in a gateway
	shared *Shared
	nc     *nats.Conn
	walks  chan bool
}

// store has a consumer write turns of the session s, and refresh it.
func (p *process) store(t *testing.T, files *store, turns ...transcript.Snapshot) {
	t.Helper()
	files.put(turns...)
	p.fresh.Changed("s")
	flush(t, p.fresh)
}

// newProcess makes a process with connections of its own; st is nil for a gateway.
func newProcess(t *testing.T, natsURL, redisURL string, st *store, change ...func(*SharedConfig)) *process {
	t.Helper()
	nc, err := nats.Connect(natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1), nats.RetryOnFailedConnect(true))
	check(t, err)
	t.Cleanup(nc.Close)
	js, err := stream.JetStream(nc, stream.API{})
	check(t, err)
	cfg := quick(redisURL)
	r, err := New(cfg)
	check(t, err)
	r.key.Store(nil) // it comes from NATS
	t.Cleanup(func() { r.Close() })
	p := &process{redis: r, nc: nc, walks: make(chan bool, 100)}
	sc := SharedConfig{
		JS: js, Redis: r, Every: 50 * time.Millisecond, OrphanAfter: 300 * time.Millisecond, Wait: patience, DoubtAfter: patience,
		Walk: func(all bool) { p.walks <- all },
	}
	if st != nil {
		p.fresh = newRefresher(t, RefresherConfig{Redis: r, Reader: st, RetryAfter: 20 * time.Millisecond})
		sc.Refresher = p.fresh
	}
	for _, fn := range change {
		fn(&sc)
	}
	p.shared, err = NewShared(sc)
	check(t, err)
	t.Cleanup(func() { p.shared.Close(context.Background()) })
	p.shared.Wait(t.Context())
	return p
}

// kill ends a process as kill -9 does: it says nothing more.
func (p *process) kill() {
	p.shared.cancel()
	p.shared.work.Wait()
	p.nc.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p.fresh.Close(ctx)
}

// TestStaleSessionIsReadByNobody: while Redis refuses what a consumer writes, no gateway reads the
// session from it, one that has started later included, and after the consumer was killed; until
// another has refreshed it.
func TestStaleSessionIsReadByNobody(t *testing.T) {
	n, s := servertest.NATS(t), servertest.Redis(t)
	js := servertest.JetStream(t, n.URL())
	check(t, stream.Ensure(t.Context(), js, stream.StreamConfig{}))
	files := newStore() // the consumer's; a gateway has the stream
	consumer := newProcess(t, n.URL(), s.URL(), files)
	gateway := newProcess(t, n.URL(), s.URL(), nil)
	histories := func(p *process) *History {
		return newHistory(t, HistoryConfig{Redis: p.redis, Stream: files, Trust: p.shared.Trust})
	}
	h := histories(gateway)
	all := turns(t, "s", 1, 6)
	files.put(all[:3]...)
	files.put(turns(t, "other", 1, 2)...)
	consumer.fresh.Changed("s", "other")
	flush(t, consumer.fresh)
	sameTurns(t, load(t, h, "s", 0, FromRedis, false).Turns, all[:3])

	c := bare(t, s.Addr())
	check(t, c.Do(t.Context(), "replicaof", "127.0.0.1", "1").Err())
	files.put(all[3:]...)
	consumer.fresh.Changed("s")
	eventually(t, "the gateway to know", func() bool { return gateway.shared.Trust("s") == Refused })
	sameTurns(t, load(t, h, "s", 0, FromStream, false).Turns, all)
	load(t, h, "other", 0, FromRedis, false)
	late := newProcess(t, n.URL(), s.URL(), nil)
	sameTurns(t, load(t, histories(late), "s", 0, FromStream, false).Turns, all)

	// The consumer is gone, and Redis works again, with what it had.
	consumer.kill()
	check(t, c.Do(t.Context(), "replicaof", "no", "one").Err())
	later := newProcess(t, n.URL(), s.URL(), nil)
	for _, p := range []*process{gateway, late, later} {
		if p.shared.Trust("s") != Refused {
			t.Error("a session is trusted that nobody has refreshed")
		}
	}
	next := newProcess(t, n.URL(), s.URL(), files)
	eventually(t, "a walk to be asked for", func() bool { return len(next.walks) > 0 })
	if gateway.shared.Trust("s") != Refused {
		t.Error("a session is trusted before the walk")
	}
	began := time.Now()
	check(t, next.fresh.ChangedWait(t.Context(), "s", "other"))
	flush(t, next.fresh)
	next.fresh.Walked(began, false)
	for _, p := range []*process{gateway, late, later} {
		eventually(t, "trust", func() bool { return p.shared.Trust("s") == Trusted })
		sameTurns(t, load(t, histories(p), "s", 0, FromRedis, false).Turns, all)
	}
}

// TestEndOfTroubleIsTold: without a turn and without a walk.
func TestEndOfTroubleIsTold(t *testing.T) {
	n, s := servertest.NATS(t), servertest.Redis(t)
	js := servertest.JetStream(t, n.URL())
	check(t, stream.Ensure(t.Context(), js, stream.StreamConfig{}))
	files := newStore()
	consumer, gateway := newProcess(t, n.URL(), s.URL(), files), newProcess(t, n.URL(), s.URL(), nil)
	c := bare(t, s.Addr())
	fill := func(sessions int) {
		check(t, c.ConfigSet(t.Context(), "maxmemory", "1").Err())
		for i := range sessions {
			session := fmt.Sprint("s", i)
			files.put(turns(t, session, 1, 2)...)
			consumer.fresh.Changed(session)
		}
	}
	drain := func() {
		t.Helper()
		check(t, c.ConfigSet(t.Context(), "maxmemory", "0").Err())
		flush(t, consumer.fresh)
		eventually(t, "trust", func() bool { return gateway.shared.Trust("s0") == Trusted && gateway.shared.Trust("x") == Trusted })
	}
	fill(3)
	eventually(t, "the gateway to know", func() bool { return gateway.shared.Trust("s0") == Refused })
	if gateway.shared.Trust("x") != Trusted {
		t.Error("a session that did not change is not trusted")
	}
	drain()
	fill(maxBehind + 1)
	eventually(t, "the gateway to know that it is more than can be named", func() bool { return gateway.shared.Trust("x") == Refused })
	drain()

	// NATS says nothing: nobody knows.
	gateway = newProcess(t, n.URL(), s.URL(), nil, func(c *SharedConfig) { c.DoubtAfter = 500 * time.Millisecond })
	all := turns(t, "s0", 1, 2)
	n.Stop()
	eventually(t, "doubt", func() bool { return gateway.shared.Trust("s0") == Doubted })
	var trouble *TroubleError
	if err := gateway.shared.Check(t.Context()); !errors.As(err, &trouble) {
		t.Errorf("the check says %v", err)
	}
	h := newHistory(t, HistoryConfig{Redis: gateway.redis, File: files, Trust: gateway.shared.Trust})
	load(t, h, "s0", 0, FromFile, false)
	h = newHistory(t, HistoryConfig{Redis: gateway.redis, Trust: gateway.shared.Trust})
	sameTurns(t, load(t, h, "s0", 0, FromRedis, true).Turns, all)
	n.Restart()
	eventually(t, "trust", func() bool { return gateway.shared.Trust("s0") == Trusted })
}

// TestOneKeyForAll: processes that start at the same time sign with one key, and follow when it is replaced.
func TestOneKeyForAll(t *testing.T) {
	n, s := servertest.NATS(t), servertest.Redis(t)
	js := servertest.JetStream(t, n.URL())
	early := newProcess1(t, n.URL(), s.URL()) // before there are streams
	if early.redis.hasKey() {
		t.Fatal("there is a key without a stream")
	}
	check(t, stream.Ensure(t.Context(), js, stream.StreamConfig{}))
	keys := make(chan string, 8)
	for range cap(keys) {
		go func() {
			js, err := connected(n.URL())
			if err != nil {
				keys <- err.Error()
				return
			}
			defer js.Conn().Close()
			key, err := SharedKey(context.Background(), js)
			if err != nil {
				key = []byte(err.Error())
			}
			keys <- string(key)
		}()
	}
	first := <-keys
	for range cap(keys) - 1 {
		if key := <-keys; key != first || len(key) != KeySize {
			t.Errorf("keys %q and %q", first, key)
		}
	}
	eventually(t, "the key", func() bool { return early.redis.hasKey() && string(*early.redis.key.Load()) == first })
	next := NewKey()
	_, err := js.Publish(t.Context(), stream.CacheKey, next)
	check(t, err)
	eventually(t, "the next key", func() bool { return string(*early.redis.key.Load()) == string(next) })
	info, err := js.Stream(t.Context(), stream.Cache)
	check(t, err)
	if cfg := info.CachedInfo().Config; cfg.Replicas != 1 || cfg.MaxMsgsPerSubject != 1 || cfg.Storage != jetstream.FileStorage || cfg.AllowDirect {
		t.Errorf("the stream is %+v", cfg)
	}
}

func connected(url string) (jetstream.JetStream, error) {
	nc, err := nats.Connect(url)
	if err != nil {
		return nil, err
	}
	return stream.JetStream(nc, stream.API{})
}

// newProcess1 is newProcess that waits for nothing.
func newProcess1(t *testing.T, natsURL, redisURL string) *process {
	t.Helper()
	js, err := connected(natsURL)
	check(t, err)
	t.Cleanup(js.Conn().Close)
	r, err := New(quick(redisURL))
	check(t, err)
	r.key.Store(nil)
	t.Cleanup(func() { r.Close() })
	s, err := NewShared(SharedConfig{JS: js, Redis: r, Every: 50 * time.Millisecond, Wait: time.Millisecond})
	check(t, err)
	t.Cleanup(func() { s.Close(context.Background()) })
	s.Wait(t.Context())
	return &process{redis: r, shared: s}
}

// TestWhatCannotBeReadIsAll: a state of a newer version, or garbage, may be anything.
func TestWhatCannotBeReadIsAll(t *testing.T) {
	for text, all := range map[string]bool{`{}`: false, `{"sessions":["a"]}`: false, `{"all":true}`: true, ``: true, `[`: true, `{"sessions":3}`: true} {
		if o := parseState([]byte(text)); o.All != all || o.behind("x") != all {
			t.Errorf("%q is %+v", text, o)
		}
	}
}
