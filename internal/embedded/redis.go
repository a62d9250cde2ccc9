package embedded

import (
	"cmp"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/afterword-io/afterword/internal/secret"
)

const (
	// DefaultRedis is the address of the embedded Redis-compatible server.
	DefaultRedis = "127.0.0.1:6379"
	// DefaultMaxKeys is how many keys the embedded server keeps: two for each
	// of 50,000 sessions, some 20 KiB together when turns are 1 KiB.
	DefaultMaxKeys = 100_000
	// DefaultTick is how often the embedded server expires and evicts keys.
	DefaultTick = 2 * time.Second

	redisFlag    = "--embedded-redis"
	redisURLFlag = "--redis-url"
	redisDBs     = 16
	evictSpare   = 20 // evicting goes 1/20 below the cap, so that it does not happen at every tick
	tickShare    = 20 // a tick holds the server's lock (0.1 s at 100,000 keys), so it takes at most 1/20 of the time
)

// RedisConfig says where the embedded Redis-compatible server listens.
type RedisConfig struct {
	// Addr is a loopback host:port. Empty means [DefaultRedis]; port 0 takes a free one.
	Addr string
	// Password is required of every client; an empty one is made up, and only [Redis.URL] tells it.
	Password string
	// MaxKeys is how many keys are kept; those nearest to their expiry go first,
	// the keys of one Cluster slot tag together. Zero means [DefaultMaxKeys].
	MaxKeys int
	// Tick is how often keys expire and are evicted, so how late that may be; longer
	// (some 3 s at 100,000 keys) when there are many. Zero means [DefaultTick].
	Tick time.Duration
}

// Redis is a Redis-compatible server in this process, in memory only:
// enough for the cache of one machine.
type Redis struct {
	cfg  RedisConfig
	mini *miniredis.Miniredis
	addr string
	stop chan struct{}
	done chan struct{}
	once sync.Once
}

// StartRedis starts a server. It fails at once for an address in use (naming
// --embedded-redis) or one that is not loopback.
func StartRedis(cfg RedisConfig) (*Redis, error) {
	if cfg.Addr == "" {
		cfg.Addr = DefaultRedis
	}
	if cfg.Password == "" {
		cfg.Password = secret.Text()
	}
	if cfg.MaxKeys <= 0 {
		cfg.MaxKeys = DefaultMaxKeys
	}
	if cfg.Tick <= 0 {
		cfg.Tick = DefaultTick
	}
	host, port, err := loopback(cfg.Addr, redisFlag)
	if err != nil {
		return nil, err
	}
	e := &Redis{cfg: cfg, mini: miniredis.NewMiniRedis(), stop: make(chan struct{}), done: make(chan struct{})}
	e.mini.RequireAuth(cfg.Password)
	e.mini.RequireUserAuth("", cfg.Password) // redis-cli of Redis 7 sends the empty user of redis://:<password>@
	if err := e.mini.StartAddr(net.JoinHostPort(host, strconv.Itoa(port))); err != nil {
		return nil, listenError(cfg.Addr, redisFlag, redisURLFlag, err)
	}
	e.addr = e.mini.Addr()
	go e.run()
	return e, nil
}

// Addr is the host:port that it listens on.
func (e *Redis) Addr() string { return e.addr }

// URL is the Redis URL to connect to, with the password.
func (e *Redis) URL() string {
	return (&url.URL{Scheme: "redis", User: url.UserPassword("", e.cfg.Password), Host: e.addr}).String()
}

// Close stops the server and forgets everything. Further calls do nothing.
func (e *Redis) Close() {
	e.once.Do(func() {
		close(e.stop)
		<-e.done
		e.mini.Close()
	})
}

// run drives the server's clock. It has a mode that looks at every key on
// every command, which is no good beyond a few keys.
func (e *Redis) run() {
	defer close(e.done)
	timer := time.NewTimer(e.cfg.Tick)
	defer timer.Stop()
	last := time.Now()
	for {
		select {
		case <-e.stop:
			return
		case <-timer.C:
		}
		now := time.Now()
		e.mini.FastForward(now.Sub(last))
		last = now
		e.evict()
		timer.Reset(max(e.cfg.Tick, tickShare*time.Since(now)))
	}
}

// evict removes the keys nearest to their expiry, hence the oldest, until
// fewer than the cap are left. Keys without expiry go last.
func (e *Redis) evict() {
	type entry struct {
		ttl      time.Duration
		tag, key string
		db       *miniredis.RedisDB
	}
	var dbs []*miniredis.RedisDB
	var keys [][]string
	n := 0
	for i := range redisDBs {
		db := e.mini.DB(i)
		k := db.Keys()
		dbs, keys, n = append(dbs, db), append(keys, k), n+len(k)
	}
	if n <= e.cfg.MaxKeys {
		return
	}
	all := make([]entry, 0, n)
	for i, db := range dbs {
		for _, k := range keys[i] {
			ttl := db.TTL(k)
			if ttl == 0 {
				ttl = 1<<63 - 1
			}
			all = append(all, entry{ttl, slotTag(k), k, db})
		}
	}
	// Keys written by one script have one TTL; the tag keeps them side by side
	// among the many others that were written since the last tick.
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.ttl, b.ttl), strings.Compare(a.tag, b.tag), strings.Compare(a.key, b.key))
	})
	over := n - (e.cfg.MaxKeys - e.cfg.MaxKeys/evictSpare)
	for i := range all {
		if i >= over && (i == 0 || all[i].tag != all[i-1].tag) {
			return
		}
		all[i].db.Del(all[i].key)
	}
}

// slotTag is the part of a key that Redis Cluster hashes: what stands between
// the first braces, if anything, otherwise all of it.
func slotTag(key string) string {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if j := strings.IndexByte(key[i+1:], '}'); j > 0 {
			return key[i+1 : i+1+j]
		}
	}
	return key
}
