package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/transcript"
)

// The older suite's checks, and what they ask for.
const (
	checkUsers = 50
	checkRedis = 100
	checkMixed = 25

	lagAtMost       = 50   // ms
	chatsAtMost     = 2000 // ms
	redisAtMost     = 2000 // ms
	mixedAtMost     = 5000 // ms
	crossHostAtMost = 100  // ms

	checkLag     = "check 1: scheduler's lag at most, 50 concurrent chats"
	checkLagNone = "the same with nothing written, to compare with"
	checkChats   = "check 2: 50 concurrent chats, p95"
	checkOps     = "check 3: 100 concurrent Redis operations, the slowest"
	checkBoth    = "check 4: 25 file and 25 Redis operations at once, until all are done"
	checkHosts   = "check 5: six hosts, from Publish to Redis, p95"
)

// checks does what the older suite did, with afterword.
func (l *lab) checks(ctx context.Context, cfg ResponseConfig, r *ResponseResult) error {
	got := newCollected()
	var noHosts error
	for run := range l.Runs {
		l.Progress(l.step("checks", run), 0, 3)
		c := cell{Healthy, checkUsers, WriterNone, cfg.Think, 0, cfg.Duration}
		none, err := l.play(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", checkLagNone, err)
		}
		c.writer = WriterAfterword
		o, err := l.play(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", checkChats, err)
		}
		if o.errors > 0 || o.lost > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("checks 1 and 2: %d errors, %d turns lost", o.errors, o.lost))
		}
		got.add(checkLag, milliseconds, o.lag.Max.Seconds()*1000)
		got.add(checkLagNone, milliseconds, none.lag.Max.Seconds()*1000)
		got.add(checkChats, milliseconds, o.P95.Seconds()*1000)
		l.Progress(l.step("checks", run), 1, 3)
		slowest, together, err := l.operations(ctx)
		if err != nil {
			return err
		}
		got.add(checkOps, milliseconds, slowest.Seconds()*1000)
		got.add(checkBoth, milliseconds, together.Seconds()*1000)
		if noHosts != nil {
			continue
		}
		l.Progress(l.step("checks", run), 2, 3)
		across, err := l.crossHosts(ctx, cfg.probeTurns)
		switch {
		case errors.Is(err, errSkipped) && ctx.Err() == nil:
			noHosts = err
		case err != nil:
			return fmt.Errorf("%s: %w", checkHosts, err)
		default:
			got.add(checkHosts, milliseconds, across.P95.Seconds()*1000)
		}
	}
	atMost := map[string]float64{checkLag: lagAtMost, checkChats: chatsAtMost, checkOps: redisAtMost, checkBoth: mixedAtMost, checkHosts: crossHostAtMost}
	for _, m := range got.all() {
		if most, ok := atMost[m.Name]; ok {
			m = m.atMost(most)
		}
		r.Measures = append(r.Measures, m)
	}
	if noHosts != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("%s: %v", checkHosts, noHosts))
	}
	return nil
}

// operations measures the slowest of many Redis operations at once, and how long
// files and Redis take together. An operation that fails is an error.
func (l *lab) operations(ctx context.Context) (slowest, together time.Duration, err error) {
	server, err := l.startRedis(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer server.kill()
	cache.LogClient(nil)
	redis, err := cache.New(cache.Config{URL: server.url(), Key: cache.NewKey()})
	if err != nil {
		return 0, 0, err
	}
	defer redis.Close()
	store, err := transcript.Open(transcript.Config{Dir: l.fresh("transcripts")})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, store.Close(ctx)) }()

	turns := make([]transcript.Snapshot, checkRedis)
	for i := range turns {
		t := transcript.Turn{
			ID: fmt.Sprint("turn-", i), SessionID: fmt.Sprint("session-", i), Timestamp: time.Now(),
			User: "well?", Assistant: (&chatAPI{}).model(),
		}
		d, err := t.Draft()
		if err != nil {
			return 0, 0, err
		}
		if turns[i], err = d.Snapshot(0); err != nil {
			return 0, 0, err
		}
	}
	cached := func(i int) error {
		s := turns[i]
		rec := transcript.Recent{Turns: []transcript.Snapshot{s}, Version: transcript.Version{LastTimestamp: s.Timestamp, LastID: s.ID, Revision: 1}}
		if err := redis.Refresh(ctx, s.SessionID, rec); err != nil {
			return err
		}
		_, hit, err := redis.Recent(ctx, s.SessionID)
		if err == nil && !hit {
			err = errors.New("what was written is not there")
		}
		return err
	}
	took, _, err := atOnce(checkRedis, cached)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", checkOps, err)
	}
	slowest = Quantiles(took).Max
	_, together, err = atOnce(2*checkMixed, func(i int) error {
		if i%2 == 0 {
			return cached(i)
		}
		if err := store.Append(ctx, turns[i]); err != nil {
			return err
		}
		_, err := store.Recent(ctx, turns[i].SessionID, historyTurns)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", checkBoth, err)
	}
	return slowest, together, nil
}

// atOnce calls fn n times at the same time, and returns how long each call took
// and all together.
func atOnce(n int, fn func(i int) error) (took []time.Duration, all time.Duration, err error) {
	took = make([]time.Duration, n)
	failed := make([]error, n)
	begin := make(chan struct{})
	var work sync.WaitGroup
	for i := range n {
		work.Go(func() {
			<-begin
			began := time.Now()
			failed[i] = fn(i)
			took[i] = time.Since(began)
		})
	}
	began := time.Now()
	close(begin)
	work.Wait()
	return took, time.Since(began), errors.Join(failed...)
}
