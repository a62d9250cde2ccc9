package cache

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/transcript"
)

// Redis holds recent histories. Its methods may be used by several goroutines
// at once, and each returns within OpTimeout ([Redis.RefreshMany] within that for
// every pipeline it takes, and at once when the breaker opens on the way).
type Redis struct {
	cfg      Config
	target   target
	client   redis.UniversalClient
	breaker  *breaker
	stall    stall
	counters counters
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
	r := &Redis{cfg: cfg, target: t, client: newClient(t, cfg), stall: stall{after: cfg.StallAfter, size: cfg.PoolSize}}
	r.breaker = newBreaker(cfg, r.probe)
	return r, nil
}

// String is the URL without its secrets.
func (r *Redis) String() string { return r.target.String() }

// Limit is how many turns are kept per session.
func (r *Redis) Limit() int { return r.cfg.Limit }

// Up reports whether Redis is asked at all, that is, whether the breaker is closed.
func (r *Redis) Up() bool { return r.breaker.up() }

// OnRecover has fn called whenever Redis answers again after the breaker had
// opened. fn must not block.
func (r *Redis) OnRecover(fn func()) { r.breaker.onRecover(fn) }

// Close closes the connections. Operations that are under way fail.
func (r *Redis) Close() error {
	r.breaker.close()
	return r.client.Close()
}

// Stats returns what was counted so far.
func (r *Redis) Stats() Stats {
	pool := r.client.PoolStats()
	return Stats{
		Counts: r.counters.list(), Breaker: r.breaker.cb.State().String(),
		Connections: pool.TotalConns, IdleConnections: pool.IdleConns, PoolTimeouts: pool.Timeouts,
	}
}

// Ping asks Redis for an answer.
func (r *Redis) Ping(ctx context.Context) error {
	_, err := do(ctx, r, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, r.client.Ping(ctx).Err()
	})
	r.count(OpPing, err)
	return wrap("ping Redis", err)
}

// probe is a ping that asks no breaker.
func (r *Redis) probe(ctx context.Context) error {
	_, err := bounded(ctx, r.cfg.OpTimeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, r.client.Ping(ctx).Err()
	})
	r.count(OpPing, err)
	return err
}

// Recent returns what Redis holds of a session. hit is false, without an error,
// only when Redis has answered that it holds nothing, or when the session is not
// [Cacheable]. [ErrCorrupt] says that it holds what afterword did not write.
func (r *Redis) Recent(ctx context.Context, session string) (rec transcript.Recent, hit bool, err error) {
	if !Cacheable(session) {
		r.counters.add(OpRead, Skipped)
		return transcript.Recent{}, false, nil
	}
	var fields []any
	if r.Up() { // an open breaker says so at once
		err = r.stall.check()
	}
	if err == nil {
		fields, err = do(ctx, r, func(ctx context.Context) ([]any, error) {
			return r.client.HMGet(ctx, RecentKey(session), fieldVersion, fieldTurns).Result()
		})
	}
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		err = fmt.Errorf("%w: its key is of another type", ErrCorrupt)
	case err == nil && fields[0] == nil && fields[1] == nil:
		r.counters.add(OpRead, Miss)
		return transcript.Recent{}, false, nil
	case err == nil:
		version, ok1 := fields[0].(string)
		turns, ok2 := fields[1].(string)
		if !ok1 || !ok2 {
			err = fmt.Errorf("%w: a part of it is missing", ErrCorrupt)
		} else {
			rec, err = decodeEntry(session, version, turns)
		}
	}
	r.count(OpRead, err)
	if err != nil {
		return transcript.Recent{}, false, wrap("read history from Redis", err)
	}
	if over := len(rec.Turns) - r.cfg.Limit; over > 0 {
		rec.Turns = rec.Turns[over:]
	}
	rec.More = len(rec.Turns) == r.cfg.Limit
	return rec, true, nil
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
	_, err := do(ctx, r, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, r.client.Del(ctx, RecentKey(session), ConversationKey(session)).Err()
	})
	r.count(OpForget, err)
	return wrap("remove history from Redis", err)
}

// do runs one operation under the breaker and within OpTimeout.
func do[T any](ctx context.Context, r *Redis, fn func(context.Context) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	done, err := r.breaker.allow()
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

func (r *Redis) count(op Op, err error) {
	outcome := Failed
	switch {
	case err == nil:
		outcome = OK
	case errors.Is(err, ErrUnavailable):
		outcome = Unavailable
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
