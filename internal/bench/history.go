package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/transcript"
)

const (
	historyLoads = 5000 // p99 rests on fifty of them
	historyWarm  = 200
	historyLong  = 100 // turns of the session
	bareKey      = "bench:bare"
	closeBound   = 10 * time.Second
)

// Names of what is measured.
const (
	historyRedis = "history from Redis"
	historyBare  = "bare GET of the same value"
	historyFile  = "history from a file, warm"
	noRedis      = "redis-server is not installed: history from Redis was not measured"
)

// history measures how long the last ten turns of a session take to load, from
// Redis beside a GET of the same bytes, call by call, and from a file.
func (g *growing) history(ctx context.Context) (err error) {
	store, err := transcript.Open(transcript.Config{Dir: g.fresh("history")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close(context.WithoutCancel(ctx))) }()
	turns, err := g.turns(historyLong)
	if err != nil {
		return err
	}
	if err := errors.Join(store.Append(ctx, turns...), store.FoldAll(ctx)); err != nil {
		return err
	}
	file, err := cache.NewHistory(cache.HistoryConfig{File: store})
	if err != nil {
		return err
	}
	if err := g.loads(ctx, historyFile, loadOf(file, cache.FromFile), nil); err != nil {
		return err
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil // the result says so
	}
	return g.historyRedis(ctx, store)
}

func (g *growing) historyRedis(ctx context.Context, store *transcript.Store) (err error) {
	server, err := g.startRedis(ctx)
	if err != nil {
		return err
	}
	defer server.kill()
	cache.LogClient(nil)
	own, err := cache.New(cache.Config{URL: server.url(), Key: cache.NewKey()})
	if err != nil {
		return err
	}
	defer own.Close()
	recent, err := store.Recent(ctx, growthSession, growthHistory)
	if err != nil {
		return err
	}
	if err := own.Refresh(ctx, growthSession, recent); err != nil {
		return err
	}
	past, err := cache.NewHistory(cache.HistoryConfig{Redis: own})
	if err != nil {
		return err
	}
	defer func() {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBound)
		defer cancel()
		err = errors.Join(err, past.Close(bound))
	}()
	// The same settings as the client of the cache.
	bare := redis.NewClient(&redis.Options{
		Addr: server.addr, DialTimeout: cache.DefaultDialTimeout, ReadTimeout: cache.DefaultReadTimeout, WriteTimeout: cache.DefaultWriteTimeout,
		ContextTimeoutEnabled: true, MaxRetries: -1, PoolSize: cache.DefaultPoolSize, PoolTimeout: cache.DefaultPoolTimeout, DisableIdentity: true,
	})
	defer bare.Close()
	value, err := bare.HGet(ctx, cache.RecentKey(growthSession), "turns").Result()
	if err != nil {
		return fmt.Errorf("read what is cached: %w", err)
	}
	if err := bare.Set(ctx, bareKey, value, 0).Err(); err != nil {
		return fmt.Errorf("set %s: %w", bareKey, err)
	}
	return g.loads(ctx, historyRedis, loadOf(past, cache.FromRedis), func(ctx context.Context) error {
		got, err := bare.Get(ctx, bareKey).Result()
		if err == nil && len(got) != len(value) {
			err = errors.New("another value came back")
		}
		return err
	})
}

// loadOf loads the history of the session and checks where it came from.
func loadOf(h *cache.History, from cache.Source) func(context.Context) error {
	return func(ctx context.Context) error {
		got, err := h.Load(ctx, growthSession, growthHistory)
		if err == nil && (got.Source != from || got.Degraded || len(got.Turns) != growthHistory) {
			err = fmt.Errorf("%d turns came from %s, degraded %v", len(got.Turns), got.Source, got.Degraded)
		}
		return err
	}
}

// loads times fn, and beside each call the baseline if there is one.
func (g *growing) loads(ctx context.Context, name string, fn, baseline func(context.Context) error) error {
	var took, beside []time.Duration
	for n := range historyWarm + historyLoads {
		if err := timed(ctx, &took, fn); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if baseline != nil {
			if err := timed(ctx, &beside, baseline); err != nil {
				return fmt.Errorf("%s: %w", historyBare, err)
			}
		}
		if n%256 == 0 {
			g.Progress(g.step(name, g.run), n, historyWarm+historyLoads)
		}
	}
	for what, all := range map[string][]time.Duration{name: took, historyBare: beside} {
		if len(all) == 0 {
			continue
		}
		l := Quantiles(all[historyWarm:])
		g.got.add(what+", p50", milliseconds, l.P50.Seconds()*1000)
		g.got.add(what+", p99", milliseconds, l.P99.Seconds()*1000)
	}
	return nil
}

func timed(ctx context.Context, took *[]time.Duration, fn func(context.Context) error) error {
	from := time.Now()
	err := fn(ctx)
	*took = append(*took, time.Since(from))
	return err
}

// historyMeasures are the figures of all runs.
func historyMeasures(got *collected) (list []Measure, note string) {
	fromFile := []Measure{got.measure(historyFile + ", p50"), got.measure(historyFile + ", p99").atMost(1)}
	own, bare := got.measure(historyRedis+", p99"), got.measure(historyBare+", p99")
	if len(own.Runs) == 0 {
		return fromFile, noRedis
	}
	return append([]Measure{
		got.measure(historyRedis + ", p50"), own, got.measure(historyBare + ", p50"), bare,
		ratio(historyRedis+" / "+historyBare+", p50", got.measure(historyRedis+", p50"), got.measure(historyBare+", p50")),
		ratio(historyRedis+" / "+historyBare+", p99", own, bare).atMost(1.15),
	}, fromFile...), ""
}
