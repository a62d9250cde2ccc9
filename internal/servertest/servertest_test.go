package servertest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/servertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const soon = 10 * time.Second

func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
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

// publish creates a stream and stores one message.
func publish(t *testing.T, js jetstream.JetStream, replicas int) {
	t.Helper()
	if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: replicas}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s", []byte("x")); err != nil {
		t.Fatal(err)
	}
}

// wantMessages waits until the stream answers and checks how many messages it has.
func wantMessages(t *testing.T, js jetstream.JetStream, want uint64) {
	t.Helper()
	var got uint64
	servertest.Eventually(t, 30*time.Second, "the stream", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s, err := js.Stream(ctx, "S")
		if err == nil {
			got = s.CachedInfo().State.Msgs
		}
		return err == nil
	})
	if got != want {
		t.Errorf("%d messages, want %d", got, want)
	}
}

func TestNATSRestart(t *testing.T) {
	srv := servertest.NATS(t, servertest.MaxPayload(4096), servertest.UserPass("u", "p/@"))
	js := connect(t, srv.URL())
	if got := js.Conn().MaxPayload(); got != 4096 {
		t.Errorf("max_payload is %d", got)
	}
	publish(t, js, 1)
	url := srv.URL()
	srv.Stop()
	srv.Stop()
	if srv.Server() != nil {
		t.Error("a stopped server is there")
	}
	srv.Restart()
	if srv.URL() != url {
		t.Errorf("moved from %s to %s", url, srv.URL())
	}
	wantMessages(t, js, 1)
}

func TestNATSProcess(t *testing.T) {
	n := servertest.NATSProcess(t)
	js := connect(t, n.URL())
	publish(t, js, 1)
	for _, end := range []func(){n.Kill9, n.Stop, func() {}, func() { n.Hang(); n.Kill9() }} {
		end()
		n.Restart()
		wantMessages(t, js, 1)
	}
}

func TestNATSCluster(t *testing.T) {
	nodes := servertest.NATSCluster(t, 3)
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.URL())
	}
	js := connect(t, strings.Join(urls, ","))
	publish(t, js, 3)
	for _, n := range nodes {
		n.Kill9()
		wantMessages(t, js, 1)
		n.Restart()
	}
}

func client(t *testing.T, addr string) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRedis(t *testing.T) {
	srv := servertest.Redis(t)
	c := client(t, srv.Addr())
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}

	srv.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.Get(ctx, "k").Err(); err == nil {
		t.Error("a hung server answers")
	}
	srv.Resume()
	if got := c.Get(t.Context(), "k").Val(); got != "v" {
		t.Errorf("resumed: got %q", got)
	}

	srv.Hang()
	srv.Kill()
	if err := c.Get(t.Context(), "k").Err(); err == nil {
		t.Error("a killed server answers")
	}
	srv.Restart()
	if err := c.Get(t.Context(), "k").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("restarted: got %v", err)
	}
}

func TestRedisCluster(t *testing.T) {
	cluster := servertest.RedisCluster(t, 3)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addrs()})
	defer c.Close()
	for i := range 100 {
		if err := c.Set(t.Context(), strconv.Itoa(i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range cluster.Nodes {
		if client(t, n.Addr()).DBSize(t.Context()).Val() == 0 {
			t.Errorf("%s has no key", n.Addr())
		}
	}
}

func TestRedisSentinel(t *testing.T) {
	s := servertest.RedisSentinel(t)
	c := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: s.MasterName(), SentinelAddrs: s.SentinelAddrs()})
	defer c.Close()
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, soon, "the replica to have the key", func() bool {
		return client(t, s.Replica.Addr()).Get(t.Context(), "k").Val() == "v"
	})
	s.Master.Kill()
	servertest.Eventually(t, 30*time.Second, "the failover", func() bool { return c.Set(t.Context(), "k", "w", 0).Err() == nil })
}

// Helper processes: the test binary runs itself.
const (
	orphanEnv = "SERVERTEST_ORPHAN"
	reportEnv = "SERVERTEST_REPORT"
)

// A test binary that is killed leaves no server behind.
func TestNoOrphans(t *testing.T) {
	if os.Getenv(orphanEnv) != "" {
		pids := strconv.Itoa(servertest.Redis(t).Pid()) + " " + strconv.Itoa(servertest.NATSProcess(t).Pid())
		if err := os.WriteFile(os.Getenv(reportEnv), []byte(pids), 0o600); err != nil {
			t.Fatal(err)
		}
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	report := filepath.Join(t.TempDir(), "pids")
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoOrphans$")
	cmd.Env = append(os.Environ(), orphanEnv+"=1", reportEnv+"="+report)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("the helper ended well: %s", out)
	}
	b, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		servertest.Eventually(t, soon, "process "+f+" to end", func() bool { return gone(pid) })
	}
}

// gone is true for a zombie too: in a container nobody may reap it.
func gone(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}
