package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/internal/metrics"
)

// ownRedis is what a command without an embedded server connects to by default.
const ownRedis = cache.DefaultURL

// config reads the key, if one is given.
func (o *redisOptions) config() (cache.Config, error) {
	var key []byte
	if o.keyFile != "" {
		var err error
		if key, err = cache.ReadKey(o.keyFile); err != nil {
			return cache.Config{}, fileError("--cache-key-file", err)
		}
	}
	return cache.Config{
		URL: o.url, DataDirs: o.dataDirs(), CA: o.ca, Cert: o.cert, CertKey: o.key, Key: key, OpTimeout: o.timeout, DialTimeout: o.dial, ReadTimeout: o.read, WriteTimeout: o.write,
		PoolSize: o.poolSize, PoolTimeout: o.pool, StallAfter: o.stall, BreakerWait: o.breaker, CheckEvery: o.check,
	}, nil
}

// connectRedis makes the cache. A Redis that is not there is waited for; one that
// refuses the credentials is not.
func (b *builder) connectRedis() error {
	if b.redis != nil || b.o.redis.none() {
		return nil
	}
	cache.LogClient(b.log)
	r, err := b.o.redis.open(b.log)
	if err != nil {
		return err
	}
	b.redis = r
	b.onStop(partRedis, 100, func(context.Context) error { return r.Close() })
	b.registry.MustRegister(metrics.Redis(r.Stats))
	b.parts.Redis = r.Stats
	b.ready[partRedis] = r.Check
	var trouble *cache.TroubleError
	switch err := r.Check(b.ctx); {
	case redis.IsAuthError(err):
		return err
	case errors.As(err, &trouble) && !trouble.Refused(): // what it refuses is logged there
		b.log.Warn("Redis is unreachable, going on without it until it answers", "url", r.String(), "error", trouble.Why)
	}
	b.background(partRedis+" check", 95, r.Run)
	return nil
}

// open makes what speaks Redis; nothing is connected yet.
func (o *redisOptions) open(log *slog.Logger) (*cache.Redis, error) {
	cfg, err := o.config()
	if err != nil {
		return nil, err
	}
	if err := cache.CheckURL(cfg.URL); err != nil {
		return nil, fmt.Errorf("--redis-url: %w", err)
	}
	cfg.Logger = log
	r, err := cache.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("--redis-ca, --redis-cert, --redis-key: %w", err)
	}
	return r, nil
}

// share tells other processes what they have to know of Redis, and is told. refresher is
// nil in a process that refreshes nothing.
func (b *builder) share(refresher *cache.Refresher) error {
	if b.redis == nil || b.shared != nil {
		return nil
	}
	cfg := cache.SharedConfig{JS: b.js, Redis: b.redis, Refresher: refresher, Group: b.o.group, Fresh: b.embeddedRedis, DoubtAfter: b.o.redis.doubt, Logger: b.log}
	if refresher != nil {
		cfg.Walk = func(all bool) { b.consumer.Walk(all) }
	}
	s, err := cache.NewShared(cfg)
	if err != nil {
		return err
	}
	b.shared = s
	b.onStop(partShared, 97, s.Close)
	if redisReady := b.ready[partRedis]; redisReady != nil {
		b.ready[partRedis] = func(ctx context.Context) error {
			if err := redisReady(ctx); err != nil {
				return err
			}
			return s.Check(ctx)
		}
	}
	return nil
}
