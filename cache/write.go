package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/internal/plural"
)

// RefreshMany is [Redis.Refresh] for many sessions, in pipelines. It returns
// one error, or nil, for each entry.
func (r *Redis) RefreshMany(ctx context.Context, entries []Entry) []error {
	errs := make([]error, len(entries))
	key := r.key.Load()
	if key == nil {
		for i := range errs {
			r.count(OpWrite, ErrNoKey)
			errs[i] = ErrNoKey
		}
		return errs
	}
	var batch []encoded
	var index []int // in entries, of each of batch
	size := 0
	flush := func() {
		if len(batch) == 0 {
			return
		}
		for i, err := range r.write(ctx, batch, *key) {
			errs[index[i]] = err
		}
		batch, index, size = batch[:0:0], index[:0], 0 // a late pipeline still reads the old batch
	}
	for i := range entries {
		if !Cacheable(entries[i].SessionID) {
			r.counters.add(OpWrite, Skipped)
			continue
		}
		e, err := encodeEntry(entries[i], r.cfg.Limit, *key)
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
// the script, and in two more where a newer version is there: what is not genuine
// is replaced, whatever version it claims to have.
func (r *Redis) write(ctx context.Context, batch []encoded, key []byte) []error {
	results, err := do(ctx, r, r.writes, func(ctx context.Context) ([]written, error) {
		results, err := r.pipeline(ctx, batch, nil)
		if err != nil {
			return results, err
		}
		if fakes := r.fakes(ctx, batch, results, key); len(fakes) > 0 {
			again := make([]encoded, 0, len(fakes))
			macs := make([]string, 0, len(fakes))
			var index []int
			for i, mac := range fakes {
				again, macs, index = append(again, batch[i]), append(macs, mac), append(index, i)
			}
			redone, _ := r.pipeline(ctx, again, macs) // each has its error
			for n, i := range index {
				results[i] = redone[n]
			}
		}
		return results, nil
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
		if one == nil {
			r.seen.Add(batch[i].session, batch[i].known)
		}
		r.count(OpWrite, one)
		errs[i] = wrap("write history to Redis", one)
	}
	return errs
}

// fakes looks at what claims to be newer than a batch: it returns the signatures
// of those that are not genuine, by their index.
func (r *Redis) fakes(ctx context.Context, batch []encoded, results []written, key []byte) map[int]string {
	var which []int
	for i := range results {
		if results[i].err == nil && !results[i].stored {
			which = append(which, i)
		}
	}
	if len(which) == 0 {
		return nil
	}
	pipe := r.client.Pipeline()
	cmds := make([]*redis.SliceCmd, len(which))
	for n, i := range which {
		cmds[n] = pipe.HMGet(ctx, RecentKey(batch[i].session), fieldVersion, fieldTurns, fieldMAC)
	}
	exec(ctx, pipe)
	fakes := make(map[int]string)
	for n, i := range which {
		fields, err := cmds[n].Result()
		if err != nil {
			results[i].err = err
			continue
		}
		if _, _, err := r.verified(batch[i].session, fields, key); errors.Is(err, ErrForged) || errors.Is(err, ErrCorrupt) {
			r.count(OpRead, err)
			fakes[i], _ = fields[2].(string)
		}
	}
	return fakes
}

// exec runs a pipeline. Then each command has its error, that of a connection which could not be made included.
func exec(ctx context.Context, pipe redis.Pipeliner) {
	cmds, err := pipe.Exec(ctx)
	if err == nil || slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return
	}
	for _, c := range cmds {
		c.SetErr(err)
	}
}

type written struct {
	stored bool
	err    error
}

// pipeline returns an error only when all of the batch failed: while a node of
// a Cluster is down, the others are not. replaced are the signatures of entries
// that are replaced whatever their version; nil for none.
func (r *Redis) pipeline(ctx context.Context, batch []encoded, replaced []string) ([]written, error) {
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
			args := []any{e.version, e.conversation, e.turns, r.cfg.TTL.Milliseconds(), e.mac, r.cfg.MaxEntry}
			if replaced != nil {
				args = append(args, replaced[i])
			}
			cmds[n] = queue(pipe, []string{ConversationKey(e.session), RecentKey(e.session)}, args...)
		}
		exec(ctx, pipe)
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
	return results, fmt.Errorf("none of %s: %w", plural.Of(len(results), "session"), results[0].err)
}
