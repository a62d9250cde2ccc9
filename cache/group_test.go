package cache

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/internal/servertest"
)

func TestCluster(t *testing.T) {
	s := servertest.RedisCluster(t, 3)
	r := newRedis(t, Config{URL: "redis+cluster://" + strings.Join(s.Addrs(), ",")})
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: s.Addrs()})
	defer c.Close()
	testRoundTrip(t, r, c)
	testVersions(t, r)
	for i, node := range s.Nodes {
		if n := bare(t, node.Addr()).DBSize(t.Context()).Val(); n < 100 {
			t.Errorf("node %d has only %d keys, so the sessions are not spread", i, n)
		}
	}

	// One node forgets the script, the others do not.
	ctx := t.Context()
	check(t, bare(t, s.Nodes[1].Addr()).ScriptFlush(ctx).Err())
	var many []Entry
	for i := range 60 {
		session := fmt.Sprintf("forgotten-%d", i)
		many = append(many, Entry{session, recentOf(turns(t, session, 1, 12), 10)})
	}
	for i, err := range r.RefreshMany(ctx, many) {
		check(t, err)
		holds(t, c, turns(t, many[i].SessionID, 1, 12), DefaultTTL)
	}

	// One node comes back with what it had once.
	old, next := mark{"p", r.markKeys(), 1}, mark{"p", r.markKeys(), 2}
	marks := func(m mark) bool {
		found, err := r.readMarks(ctx, []mark{m})
		return err == nil && found[0] == there
	}
	lost, err := r.writeMark(ctx, old, 0)
	check(t, err)
	check(t, bare(t, s.Nodes[1].Addr()).Save(ctx).Err())
	if second, err := r.writeMark(ctx, next, 1); lost || second || err != nil || !marks(next) {
		t.Error("marks in a Cluster", lost, second, err)
	}
	s.Nodes[1].Restart()
	eventually(t, "the Cluster", func() bool { _, err := r.readMarks(ctx, []mark{old}); return err == nil })
	if !marks(old) || marks(next) {
		t.Error("a node has lost its mark and is not missed")
	}
	eventually(t, "the loss to be noticed", func() bool {
		lost, _ := r.writeMark(ctx, mark{"p", r.markKeys(), 3}, 2)
		return lost
	})

	// While one node hangs, the sessions of the others are written.
	s.Nodes[2].Hang()
	defer s.Nodes[2].Resume()
	written := 0
	for _, err := range r.RefreshMany(ctx, many) {
		if err == nil {
			written++
		}
	}
	if written == 0 || written == len(many) {
		t.Errorf("%d of %d sessions were written with one of three nodes hung", written, len(many))
	}
}

func TestSentinelFailover(t *testing.T) {
	s := servertest.RedisSentinel(t)
	r := newRedis(t, Config{URL: "redis+sentinel://" + strings.Join(s.SentinelAddrs(), ",") + "/" + s.MasterName()})
	testRoundTrip(t, r, bare(t, s.Master.Addr()))
	old, replica := bare(t, s.Master.Addr()).HGetAll(t.Context(), RecentKey("abc")).Val(), bare(t, s.Replica.Addr())
	eventually(t, "replication, for which nobody waits", func() bool {
		return maps.Equal(replica.HGetAll(t.Context(), RecentKey("abc")).Val(), old)
	})
	s.Master.Kill()
	all := turns(t, "after", 1, 12)
	eventually(t, "a write to the new master", func() bool { return r.Refresh(t.Context(), "after", recentOf(all, 10)) == nil })
	holds(t, bare(t, s.Replica.Addr()), all, DefaultTTL)
	if _, hit, err := r.Recent(t.Context(), "abc"); !hit || err != nil {
		t.Errorf("what was replicated is %v, %v", hit, err)
	}
}
