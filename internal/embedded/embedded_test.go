package embedded_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/internal/embedded"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

func startNATS(t *testing.T, cfg embedded.NATSConfig) *embedded.NATS {
	t.Helper()
	srv, err := embedded.StartNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNATS(t, srv) })
	return srv
}

func jetStream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := stream.Connect(t.Context(), stream.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func stopNATS(t *testing.T, srv *embedded.NATS) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestNATSKeepsTurns(t *testing.T) {
	cfg := embedded.NATSConfig{Dir: t.TempDir(), Addr: "127.0.0.1:0"}
	srv := startNATS(t, cfg)
	js := jetStream(t, srv.ClientURL())
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{MaxBytes: srv.MaxBytes() / 2}); err != nil {
		t.Fatal(err)
	}
	if got := js.Conn().MaxPayload(); got != stream.DefaultMaxPayload {
		t.Errorf("max_payload is %d", got)
	}
	if _, err := js.Publish(t.Context(), stream.TurnSubject("s"), []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.StartNATS(cfg); err == nil || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("a second server on the folder: got %v", err)
	}
	js.Conn().Close()
	stopNATS(t, srv)
	if srv.Running() {
		t.Error("runs after Shutdown")
	}
	stopNATS(t, srv)

	again := startNATS(t, cfg)
	js = jetStream(t, again.ClientURL())
	s, err := js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := s.GetLastMsgForSubject(t.Context(), stream.TurnSubject("s"))
	if err != nil || string(msg.Data) != "kept" {
		t.Errorf("got %v, %v", msg, err)
	}
	if !again.Running() {
		t.Error("does not run")
	}
}

func TestEmbeddedAddressTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	start := time.Now()
	_, err = embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir(), Addr: addr})
	servertest.OneLine(t, err, addr, "--embedded-nats", "in use")
	_, err = embedded.StartRedis(embedded.RedisConfig{Addr: addr})
	servertest.OneLine(t, err, addr, "--embedded-redis", "in use")
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %s", d)
	}
}

func TestEmbeddedLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "10.0.0.1:0", "[::]:0", "example.com:0", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000"} {
		_, err := embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir(), Addr: addr})
		servertest.OneLine(t, err, "--embedded-nats", addr)
		_, err = embedded.StartRedis(embedded.RedisConfig{Addr: addr})
		servertest.OneLine(t, err, "--embedded-redis", addr)
	}
	startNATS(t, embedded.NATSConfig{Dir: t.TempDir(), Addr: "localhost:0"})
}

func TestNATSBadFolder(t *testing.T) {
	_, err := embedded.StartNATS(embedded.NATSConfig{Dir: "/dev/null/x", Addr: "127.0.0.1:0"})
	servertest.OneLine(t, err, "embedded NATS", "/dev/null")
	_, err = embedded.StartNATS(embedded.NATSConfig{Addr: "127.0.0.1:0"})
	servertest.OneLine(t, err, "no folder")
}

func startRedis(t *testing.T, cfg embedded.RedisConfig) *redis.Client {
	t.Helper()
	cfg.Addr = "127.0.0.1:0"
	srv, err := embedded.StartRedis(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	opts, err := redis.ParseURL(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	if opts.Addr != srv.Addr() {
		t.Errorf("URL %s, Addr %s", srv.URL(), srv.Addr())
	}
	c := redis.NewClient(opts)
	t.Cleanup(func() { c.Close() })
	return c
}

// What the cache's script uses works as on a real Redis.
func TestRedisScript(t *testing.T) {
	script := redis.NewScript(`
		local have = redis.call('HMGET', KEYS[1], 'a', 'b')
		if have[1] and tonumber(have[1]) > tonumber(ARGV[1]) then return 0 end
		redis.call('HSET', KEYS[1], 'a', ARGV[1], 'b', ARGV[2])
		redis.call('EXPIRE', KEYS[1], ARGV[3])
		redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
		return 1`)
	real := redis.NewClient(&redis.Options{Addr: servertest.Redis(t).Addr()})
	t.Cleanup(func() { real.Close() })
	for name, c := range map[string]*redis.Client{"embedded": startRedis(t, embedded.RedisConfig{}), "real": real} {
		keys := []string{"r:{k}", "k"}
		if err := script.Load(t.Context(), c).Err(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, step := range []struct{ version, want int }{{5, 1}, {4, 0}, {5, 1}, {6, 1}} {
			got, err := script.EvalSha(t.Context(), c, keys, step.version, fmt.Sprint("v", step.version), 3600).Int()
			if err != nil || got != step.want {
				t.Errorf("%s: version %d: got %d, %v", name, step.version, got, err)
			}
		}
		if v, err := c.Get(t.Context(), "k").Result(); v != "v6" {
			t.Errorf("%s: got %q, %v", name, v, err)
		}
		for _, k := range keys {
			if ttl := c.TTL(t.Context(), k).Val(); ttl < 3590*time.Second || ttl > time.Hour {
				t.Errorf("%s: TTL of %s is %s", name, k, ttl)
			}
		}
		err := redis.NewScript("return 'never loaded'").EvalSha(t.Context(), c, nil).Err()
		if !redis.HasErrorPrefix(err, "NOSCRIPT") {
			t.Errorf("%s: got %v, want NOSCRIPT", name, err)
		}
	}
}

func TestRedisExpires(t *testing.T) {
	c := startRedis(t, embedded.RedisConfig{Tick: 50 * time.Millisecond})
	start := time.Now()
	if err := c.Set(t.Context(), "short", 1, 4*time.Second).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "long", 1, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, 30*time.Second, "the key to expire", func() bool { return c.Exists(t.Context(), "short").Val() == 0 })
	if d := time.Since(start); d < time.Second { // up to a tick early, which may itself be late
		t.Errorf("expired after %s", d)
	}
	if c.Exists(t.Context(), "long").Val() != 1 {
		t.Error("the other key is gone")
	}
}

func TestRedisEvictsWholeSessions(t *testing.T) {
	c := startRedis(t, embedded.RedisConfig{Tick: 50 * time.Millisecond, MaxKeys: 100})
	pair := func(i int) (string, string) { return fmt.Sprintf("k:%d", i), fmt.Sprintf("recent:{k:%d}", i) }
	set := func(from, to int, ttl time.Duration) {
		_, err := c.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			for i := from; i < to; i++ {
				a, b := pair(i)
				p.Set(t.Context(), a, 1, ttl)
				p.Set(t.Context(), b, 1, ttl)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	set(0, 40, time.Hour)
	set(40, 90, 2*time.Hour)
	servertest.Eventually(t, 30*time.Second, "the eviction", func() bool { return c.DBSize(t.Context()).Val() <= 100 })
	left := 0
	for i := range 90 {
		a, b := pair(i)
		switch n := c.Exists(t.Context(), a, b).Val(); {
		case n == 1:
			t.Errorf("half of session %d is left", i)
		case n == 0 && i >= 45:
			t.Errorf("session %d went before older ones", i)
		default:
			left += int(n)
		}
	}
	if left < 90 {
		t.Errorf("%d keys are left, want 90 or more", left)
	}
}

func TestEmbeddedStreamLargerThanDisk(t *testing.T) {
	srv := startNATS(t, embedded.NATSConfig{Dir: t.TempDir(), Addr: "127.0.0.1:0", MaxBytes: 1 << 20})
	if got := srv.MaxBytes(); got != 1<<20 {
		t.Errorf("MaxBytes is %d", got)
	}
	js := jetStream(t, srv.ClientURL())
	err := stream.Ensure(t.Context(), js, stream.StreamConfig{MaxBytes: 1 << 30})
	servertest.OneLine(t, err, "storage")
}
