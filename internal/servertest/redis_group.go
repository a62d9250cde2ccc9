package servertest

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redisSlots   = 16384
	clusterReady = 30 * time.Second
	sentinelName = "servertest"
)

// RedisClusterServers are redis-server processes in cluster mode, all masters.
type RedisClusterServers struct {
	// Nodes can be hung, killed and restarted one by one. A restarted one comes back without its slots' keys.
	Nodes []*RedisServer
}

// RedisCluster starts size masters that share the slots evenly, and returns when each
// sees a whole cluster.
func RedisCluster(t testing.TB, size int) *RedisClusterServers {
	t.Helper()
	c := &RedisClusterServers{}
	var bus []int
	for i := range size {
		node := startRedis(t, func(ports []int) []string {
			bus = append(bus[:i], ports[1]) // again when a port was taken
			return append(withoutPersistence(), "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(ports[1]),
				"--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000")
		})
		c.Nodes = append(c.Nodes, node)
	}
	for i, node := range c.Nodes {
		must(t, node, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*redisSlots/size), strconv.Itoa((i+1)*redisSlots/size-1))
		must(t, node, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for i, node := range c.Nodes[1:] {
		must(t, c.Nodes[0], "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(node.port), strconv.Itoa(bus[i+1]))
	}
	for _, node := range c.Nodes {
		Eventually(t, clusterReady, "the Redis cluster at "+node.Addr(), func() bool {
			info := node.info("CLUSTER", "INFO")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r", size)) &&
				strings.Contains(info, fmt.Sprintf("cluster_slots_ok:%d\r", redisSlots))
		})
	}
	return c
}

// Addrs are the host:port of all nodes.
func (c *RedisClusterServers) Addrs() []string {
	var addrs []string
	for _, n := range c.Nodes {
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

// RedisSentinelServers are a master, a replica of it and a sentinel that moves
// the mastership when the master is gone for a second.
type RedisSentinelServers struct {
	Master, Replica *RedisServer
	sentinel        *RedisServer
}

// RedisSentinel starts the three and returns when the sentinel knows the replica.
func RedisSentinel(t testing.TB) *RedisSentinelServers {
	t.Helper()
	s := &RedisSentinelServers{Master: Redis(t)}
	s.Replica = Redis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(s.Master.port), "--repl-diskless-sync-delay", "0")
	Eventually(t, clusterReady, "the replica", func() bool {
		return strings.Contains(s.Replica.info("INFO", "replication"), "master_link_status:up")
	})
	path := redisBinary(t)
	for attempt := 1; ; attempt++ {
		r := &RedisServer{t: t, port: freePorts(t, 1)[0]}
		dir := t.TempDir()
		conf := filepath.Join(dir, "sentinel.conf") // the sentinel writes to it
		writeFile(t, conf, fmt.Sprintf(`port %d
bind 127.0.0.1
dir %s
sentinel monitor %[3]s 127.0.0.1 %[4]d 1
sentinel down-after-milliseconds %[3]s 1000
sentinel failover-timeout %[3]s 5000
`, r.port, dir, sentinelName, s.Master.port))
		r.proc = newProcess(t, "sentinel", path, conf, "--sentinel")
		err := r.proc.start(r.answers)
		if err == nil {
			s.sentinel = r
			break
		}
		if attempt == startAttempts {
			t.Fatalf("start Redis sentinel: %v", err)
		}
	}
	Eventually(t, clusterReady, "the sentinel to see the replica", func() bool {
		return strings.Contains(s.sentinel.info("SENTINEL", "MASTER", sentinelName), "num-slaves 1 ")
	})
	return s
}

// MasterName is what the sentinel calls the master.
func (s *RedisSentinelServers) MasterName() string { return sentinelName }

// SentinelAddrs are the host:port of the sentinel, as a list of one.
func (s *RedisSentinelServers) SentinelAddrs() []string { return []string{s.sentinel.Addr()} }

func must(t testing.TB, r *RedisServer, words ...string) {
	t.Helper()
	if _, err := r.command(words...); err != nil {
		t.Fatalf("redis %s: %v", strings.Join(words, " "), err)
	}
}

// info is what a command replies, printed; empty when it fails.
func (r *RedisServer) info(words ...any) string {
	c := redis.NewClient(&redis.Options{Addr: r.Addr(), MaxRetries: -1, Protocol: 2})
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
	defer cancel()
	reply, err := c.Do(ctx, words...).Result()
	if err != nil {
		return ""
	}
	return fmt.Sprint(reply)
}
