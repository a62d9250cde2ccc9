package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/internal/metrics"
)

// ownRedis is what a command without an embedded server connects to by default.
const ownRedis = cache.DefaultURL

func (o *redisOptions) config() cache.Config {
	return cache.Config{
		URL: o.url, OpTimeout: o.timeout, DialTimeout: o.dial, ReadTimeout: o.read, WriteTimeout: o.write,
		PoolSize: o.poolSize, PoolTimeout: o.pool, StallAfter: o.stall, BreakerWait: o.breaker,
	}
}

// connectRedis makes the cache. A Redis that is not there is waited for; one that
// refuses the credentials is not.
func (b *builder) connectRedis() error {
	if b.o.redis.none() {
		return nil
	}
	cache.LogClient(b.log)
	cfg := b.o.redis.config()
	cfg.Logger = b.log
	r, err := cache.New(cfg)
	if err != nil {
		return fmt.Errorf("--redis-url: %w", err)
	}
	b.redis = r
	b.onStop(partRedis, 100, func(context.Context) error { return r.Close() })
	b.registry.MustRegister(metrics.Redis(r.Stats))
	b.parts.Redis = r.Stats
	b.ready[partRedis] = r.Ping
	if err := r.Ping(b.ctx); redis.IsAuthError(err) {
		return redisRefused(r)
	} else if err != nil {
		b.log.Warn("Redis is unreachable, going on without it until it answers", "url", r.String(), "error", err)
	}
	return nil
}

func redisRefused(r *cache.Redis) error {
	return fmt.Errorf("Redis refused the credentials at %s: correct the user and password in --redis-url", r)
}
