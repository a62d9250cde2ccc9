package cache

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// RefreshMany is [Redis.Refresh] for many sessions, in pipelines. It returns
// one error, or nil, for each entry.
func (r *Redis) RefreshMany(ctx context.Context, entries []Entry) []error {
	errs := make([]error, len(entries))
	var batch []encoded
	var index []int // in entries, of each of batch
	size := 0
	flush := func() {
		if len(batch) == 0 {
			return
		}
		for i, err := range r.write(ctx, batch) {
			errs[index[i]] = err
		}
		batch, index, size = batch[:0:0], index[:0], 0 // a late pipeline still reads the old batch
	}
	for i := range entries {
		if !Cacheable(entries[i].SessionID) {
			r.counters.add(OpWrite, Skipped)
			continue
		}
		e, err := encodeEntry(entries[i], r.cfg.Limit)
		if err != nil {
			errs[i] = err
			continue
		}
		if e.size() > r.cfg.MaxEntry {
			r.counters.add(OpWrite, TooLarge)
			errs[i] = r.Forget(ctx, e.session)
			continue
		}
		if len(batch) == r.cfg.Pipeline || size > 0 && size+e.size() > r.cfg.PipelineBytes {
			flush()
		}
		batch, index, size = append(batch, e), append(index, i), size+e.size()
	}
	flush()
	return errs
}

// write writes a batch in one round trip, or in two when a node does not know
// the script.
func (r *Redis) write(ctx context.Context, batch []encoded) []error {
	results, err := do(ctx, r, func(ctx context.Context) ([]written, error) {
		return r.pipeline(ctx, batch)
	})
	errs := make([]error, len(batch))
	for i := range batch {
		one := err
		if results != nil {
			one = results[i].err
		}
		if one == nil && !results[i].stored {
			r.counters.add(OpWrite, Newer)
			continue
		}
		r.count(OpWrite, one)
		errs[i] = wrap("write history to Redis", one)
	}
	return errs
}

type written struct {
	stored bool
	err    error
}

// pipeline returns an error only when all of the batch failed: while a node of
// a Cluster is down, the others are not.
func (r *Redis) pipeline(ctx context.Context, batch []encoded) ([]written, error) {
	results := make([]written, len(batch))
	all := make([]int, len(batch))
	for i := range all {
		all[i] = i
	}
	run := func(which []int, queue func(pipe redis.Pipeliner, keys []string, args ...any) *redis.Cmd) {
		pipe := r.client.Pipeline()
		cmds := make([]*redis.Cmd, len(which))
		for n, i := range which {
			e := &batch[i]
			cmds[n] = queue(pipe, []string{ConversationKey(e.session), RecentKey(e.session)},
				e.version, e.conversation, e.turns, r.cfg.TTL.Milliseconds())
		}
		pipe.Exec(ctx) // each command has its error
		for n, i := range which {
			stored, err := cmds[n].Int()
			results[i] = written{stored == 1, err}
		}
	}
	run(all, func(pipe redis.Pipeliner, keys []string, args ...any) *redis.Cmd {
		return script.EvalSha(ctx, pipe, keys, args...)
	})
	var unknown []int
	for i := range results {
		if redis.HasErrorPrefix(results[i].err, "NOSCRIPT") {
			unknown = append(unknown, i)
		}
	}
	if len(unknown) > 0 {
		run(unknown, func(pipe redis.Pipeliner, keys []string, args ...any) *redis.Cmd {
			return script.Eval(ctx, pipe, keys, args...)
		})
	}
	for i := range results {
		if results[i].err == nil {
			return results, nil
		}
	}
	return results, fmt.Errorf("none of %d sessions: %w", len(results), results[0].err)
}
