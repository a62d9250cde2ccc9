package cache

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/internal/credentials"
	"github.com/afterword-io/afterword/transcript"
)

// maxSeen is how many sessions' versions are remembered, against entries that are put back: some 2 MB.
const maxSeen = 10_000

// Redis holds recent histories. Its methods may be used by several goroutines
// at once, and each returns within OpTimeout ([Redis.RefreshMany] within that for
// every pipeline it takes, and at once when the breaker opens on the way).
type Redis struct {
	cfg           Config
	target        target
	tls           *tls.Config // nil without TLS
	client        redis.UniversalClient
	embedded      *credentials.Dialer // nil when the URL says who connects
	reads, writes *breaker
	stall         stall
	counters      counters
	key           atomic.Pointer[[]byte] // of signatures; nil while it is not known
	forged        sync.Once              // the first such entry is logged
	seen          *lru.Cache[string, transcript.Version]
	connections   atomic.Uint64 // made so far
	onConnect     atomic.Pointer[func(context.Context, redis.Cmdable)]
}

// New makes a Redis. It connects to nothing yet, so a server that is down is
// no error; a malformed URL is.
func New(cfg Config) (*Redis, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	t, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	encrypted, err := cfg.tls(t)
	if err != nil {
		return nil, err
	}
	seen, err := lru.New[string, transcript.Version](maxSeen)
	if err != nil {
		return nil, err
	}
	embedded := embeddedOf(t, cfg)
	r := &Redis{cfg: cfg, target: t, tls: encrypted, embedded: embedded, stall: stall{after: cfg.StallAfter, size: cfg.PoolSize}, seen: seen}
	r.client = newClient(t, cfg, encrypted, embedded, r.connected)
	if len(cfg.Key) > 0 {
		r.key.Store(&cfg.Key)
	}
	log := newTroubleLog(cfg.Logger, r.trouble)
	r.reads = newBreaker(cfg, reads, log, down, r.background(r.probeRead))
	r.writes = newBreaker(cfg, writes, log, unwritten, r.background(r.probeWrite))
	return r, nil
}

// connected looks at a new connection before it is used: behind it may be a server that was restored.
func (r *Redis) connected(ctx context.Context, c *redis.Conn) {
	r.connections.Add(1)
	if fn := r.onConnect.Load(); fn != nil {
		(*fn)(ctx, c)
	}
}

// SetKey gives the key that entries are signed with. Until then nothing is read from
// Redis, nor written.
func (r *Redis) SetKey(key []byte) {
	key = bytes.Clone(key)
	r.key.Store(&key)
	r.writes.announce()
}

// hasKey reports whether entries can be told from forged ones.
func (r *Redis) hasKey() bool { return r.key.Load() != nil }

// String is the URL without its secrets. Of an embedded server it shows that there are some.
func (r *Redis) String() string {
	t := r.target
	if r.embedded != nil {
		t.user, t.password = r.embedded.Userinfo()
	}
	return t.String()
}

// Limit is how many turns are kept per session.
func (r *Redis) Limit() int { return r.cfg.Limit }

// Up reports whether Redis is read at all, that is, whether the breaker of reads is closed.
func (r *Redis) Up() bool { return r.reads.up() }

// Writable reports whether Redis is written to at all: the breaker of writes is closed,
// and the key is known.
func (r *Redis) Writable() bool { return r.hasKey() && r.writes.up() }

// replica reports whether the server said that it is a replica. What it holds may be
// what the primary held long ago.
func (r *Redis) replica() bool {
	if r.writes.up() {
		return false
	}
	c := code(r.writes.cause())
	return c == "READONLY" || c == "MASTERDOWN"
}

// OnRecover has fn called whenever Redis takes reads or writes again after it had not, and when
// the key becomes known. fn must not block.
func (r *Redis) OnRecover(fn func()) {
	r.reads.onRecover(fn)
	r.writes.onRecover(fn)
}

// onTrip has fn called when Redis takes no more writes. fn must not block.
func (r *Redis) onTrip(fn func()) { r.writes.onTrip(fn) }

// Close closes the connections. Operations that are under way fail.
func (r *Redis) Close() error {
	r.reads.close()
	r.writes.close()
	return r.client.Close()
}

// Stats returns what was counted so far.
func (r *Redis) Stats() Stats {
	pool := r.client.PoolStats()
	return Stats{
		Counts: r.counters.list(), Breaker: r.reads.cb.State().String(), WriteBreaker: r.writes.cb.State().String(),
		Connections: pool.TotalConns, IdleConnections: pool.IdleConns, PoolTimeouts: pool.Timeouts,
	}
}

// background is a probe of a breaker: it asks no breaker.
func (r *Redis) background(ask func(context.Context) error) func(context.Context, error) error {
	return func(ctx context.Context, why error) error {
		_, err := bounded(ctx, r.cfg.OpTimeout, func(ctx context.Context) (struct{}, error) {
			if redis.IsAuthError(why) {
				if err := r.login(ctx); err != nil {
					return struct{}{}, err
				}
			}
			return struct{}{}, ask(ctx)
		})
		r.count(OpPing, err)
		return err
	}
}

// Recent returns what Redis holds of a session. hit is false, without an error,
// only when Redis has answered that it holds nothing, or when the session is not
// [Cacheable]. [ErrForged], [ErrOlder] and [ErrCorrupt] say that it holds what is not to be used.
func (r *Redis) Recent(ctx context.Context, session string) (rec transcript.Recent, hit bool, err error) {
	rec, _, hit, err = r.recent(ctx, session)
	if hit {
		r.know(session, rec.Version)
	}
	return rec, hit, err
}

// recent is Recent, but it does not note what it finds. known says that something was known of the session, and
// this is not older.
func (r *Redis) recent(ctx context.Context, session string) (rec transcript.Recent, known, hit bool, err error) {
	if !Cacheable(session) {
		r.counters.add(OpRead, Skipped)
		return transcript.Recent{}, false, false, nil
	}
	key := r.key.Load()
	if key == nil {
		r.count(OpRead, ErrNoKey)
		return transcript.Recent{}, false, false, ErrNoKey
	}
	var fields []any
	if r.Up() { // an open breaker says so at once
		err = r.stall.check()
	}
	if err == nil {
		fields, err = do(ctx, r, r.reads, func(ctx context.Context) ([]any, error) {
			return r.client.HMGet(ctx, RecentKey(session), fieldVersion, fieldTurns, fieldMAC).Result()
		})
	}
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"), errors.Is(err, errOversized):
		err = ErrForged
		r.warnForged(session)
	case err == nil && fields[0] == nil && fields[1] == nil && fields[2] == nil:
		r.counters.add(OpRead, Miss)
		return transcript.Recent{}, false, false, nil
	case err == nil:
		rec, known, err = r.verified(session, fields, *key)
	}
	r.count(OpRead, err)
	if err != nil {
		return transcript.Recent{}, false, false, wrap("read history from Redis", err)
	}
	if over := len(rec.Turns) - r.cfg.Limit; over > 0 {
		rec.Turns = rec.Turns[over:]
	}
	rec.More = len(rec.Turns) == r.cfg.Limit
	return rec, known, true, nil
}

// verified is what Redis holds of a session, if it is genuine. known is as in recent.
func (r *Redis) verified(session string, fields []any, key []byte) (rec transcript.Recent, known bool, err error) {
	var text [3]string
	for i := range text {
		text[i], _ = fields[i].(string) // absent is as good as empty: neither is signed
	}
	rec, err = decodeEntry(session, text[0], text[1], text[2], key)
	if errors.Is(err, ErrForged) {
		r.warnForged(session)
	}
	if err != nil {
		return rec, false, err
	}
	seen, known := r.seen.Get(session)
	if known && rec.Version.Compare(seen) < 0 {
		return transcript.Recent{}, true, ErrOlder
	}
	return rec, known, nil
}

func (r *Redis) warnForged(session string) {
	r.forged.Do(func() {
		r.cfg.Logger.Warn("an entry in Redis is not used, because it is not signed with the key of this service; it will be written anew, and others are only counted",
			"session", session, "do", "see who else writes to Redis, or whether a process has another --cache-key-file")
	})
}

// know notes what is true of a session, so that nothing older is taken from Redis.
func (r *Redis) know(session string, v transcript.Version) {
	if Cacheable(session) {
		r.seen.Add(session, v)
	}
}

// Refresh writes what is true of a transcript, unless Redis holds what was true
// of it later.
func (r *Redis) Refresh(ctx context.Context, session string, rec transcript.Recent) error {
	return r.RefreshMany(ctx, []Entry{{session, rec}})[0]
}

// Forget removes all that Redis holds of a session.
func (r *Redis) Forget(ctx context.Context, session string) error {
	if !Cacheable(session) {
		r.counters.add(OpForget, Skipped)
		return nil
	}
	_, err := do(ctx, r, r.writes, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, r.client.Del(ctx, RecentKey(session), ConversationKey(session)).Err()
	})
	if err == nil {
		r.seen.Remove(session)
	}
	r.count(OpForget, err)
	return wrap("remove history from Redis", err)
}

// do runs one operation under a breaker and within OpTimeout.
func do[T any](ctx context.Context, r *Redis, b *breaker, fn func(context.Context) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	done, err := b.allow(r.definite)
	if err != nil {
		return none, err
	}
	r.stall.begin()
	v, err := bounded(ctx, r.cfg.OpTimeout, fn)
	r.stall.end(!down(err))
	if err != nil && (errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, redis.ErrClosed)) {
		done(errCancelled)
	} else {
		done(err)
	}
	return v, err
}

// definite reports whether every further try would get an error too. In a Cluster it may be
// that of one node, or of one slot that moves.
func (r *Redis) definite(err error) bool { return refused(err) && r.target.mode != cluster }

func (r *Redis) count(op Op, err error) {
	outcome := Failed
	switch {
	case err == nil:
		outcome = OK
	case errors.Is(err, ErrUnavailable):
		outcome = Unavailable
	case errors.Is(err, ErrForged):
		outcome = Forged
	case errors.Is(err, ErrOlder):
		outcome = Older
	case errors.Is(err, ErrCorrupt):
		outcome = Corrupt
	case timedOut(err):
		outcome = Timeout
	}
	r.counters.add(op, outcome)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
