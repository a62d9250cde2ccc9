package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/metrics"
	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

// verifyOptions are the flags of `verify`.
type verifyOptions struct {
	which
	nats    natsOptions
	redis   redisOptions
	store   storeOptions
	logs    logOptions
	scratch string
	settle  time.Duration
	repair  bool
	json    bool
	metrics metricsFile
}

func (c *cli) verify() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify --all | --session ID",
		Short: "Compare the stream with transcripts and cache",
		Long: `Replay the stream into a scratch folder and compare it with the transcripts, and
those with what Redis holds. Turns that only the file has, because the stream has
dropped them since, are counted and are no difference. Turns that were published a
moment ago get time to arrive.

Turns whose parent is missing, or that follow themselves, end the path of a history:
the first 20 are named and all are counted. They were published so, which is no
difference, and a repair does not change them.

--repair mends what differs, beside running consumers too: it merges what is missing
or out of date from the stream, sets damaged files aside as <name>.corrupt-<time> and
rebuilds their transcripts from the stream and what can still be read, and refreshes
the cache. What nobody has any more is named.

Exit code 0: no difference, or none any more. 1: some, each on a line of its own, or
something is lost.`,
		Example: `  afterword verify --all
  afterword verify --session abc --redis-url none
  afterword verify --all --repair`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return c.verifyTranscripts(cmd.Context(), o)
		},
	}
	f := flags{cmd.Flags()}
	o.which.add(f)
	f.StringVar(&o.scratch, "scratch", "", "`FOLDER` for what is compared, as large as the transcripts; none means --data-dir")
	f.wait(&o.settle, consumer.DefaultSettle, "settle", "how long turns that were just published may take to arrive before they count as missing")
	f.BoolVar(&o.repair, "repair", false, "mend what differs, and say what was done and what is lost")
	o.metrics.add(f, "verification")
	f.BoolVar(&o.json, "json", false, "print JSON: one object per difference, and the result as the last line")
	o.store.add(f)
	o.nats.add(f, ownNATS)
	o.redis.add(f, ownRedis)
	o.store.addLimit(f)
	o.logs.add(f, "warn")
	return cmd
}

func (c *cli) verifyTranscripts(ctx context.Context, o verifyOptions) error {
	with := withTranscripts
	if o.repair {
		with = withWritableTranscripts
	}
	return with(ctx, o.store, func(ctx context.Context, s *transcript.Store) error {
		if err := c.sayUnread(ctx, s); err != nil {
			return err
		}
		return c.withStream(ctx, o.nats, o.logs, "verify", func(ctx context.Context, js jetstream.JetStream) error {
			scratch, done, err := scratchFolder(o.scratch, o.store.dir)
			if err != nil {
				return err
			}
			defer done()
			cfg := consumer.VerifyConfig{JS: js, Store: s, Scratch: scratch, Session: o.session, Settle: o.settle, Repair: o.repair}
			if !o.redis.none() {
				r, err := openCache(ctx, o.redis, js)
				if err != nil {
					return err
				}
				defer r.Close()
				cfg.Cache = r
				cfg.RefreshCache = func(ctx context.Context, session string) error {
					if err := r.Forget(ctx, session); err != nil {
						return err
					}
					rec, err := s.Recent(ctx, session, r.Limit())
					if errors.Is(err, transcript.ErrNoSession) {
						return nil
					}
					if err != nil {
						return err
					}
					return r.Refresh(ctx, session, rec)
				}
			}
			return c.compare(ctx, cfg, o)
		})
	})
}

func (c *cli) compare(ctx context.Context, cfg consumer.VerifyConfig, o verifyOptions) error {
	log, err := c.logger(o.logs)
	if err != nil {
		return err
	}
	run := metrics.Verify()
	written, err := o.metrics.keep(run, log)
	if err != nil {
		return err
	}
	m := c.meter("messages read")
	defer m.stop()
	var found []consumer.Difference // printed when there is no meter in the way
	var failure error
	show := func(d consumer.Difference) {
		if failure == nil {
			failure = c.printDifference(d, o.json)
		}
	}
	cfg.Progress = func(p consumer.Progress) { m.set(p.Done, p.Total); run.Progress(p) }
	cfg.Difference = func(d consumer.Difference) {
		const most = 1000
		run.Difference(d)
		if m == nil || len(found) >= most {
			show(d)
			return
		}
		found = append(found, d)
	}
	res, err := consumer.Verify(ctx, cfg)
	m.stop()
	run.Verified(res, err)
	if err == nil {
		failure = written()
	} else {
		_ = written() // err is worse
	}
	for _, d := range found {
		show(d)
	}
	switch {
	case errors.Is(err, transcript.ErrNoSession):
		return failed(err)
	case err != nil:
		return err
	case failure != nil:
		return failure
	}
	if o.json {
		err = c.printJSON(res)
	} else {
		for _, b := range res.Broken {
			if _, err := fmt.Fprintf(c.stdout, "%s: %s\n", b.SessionID, b); err != nil {
				return err
			}
		}
		if res.BrokenPaths > 0 {
			if _, err := fmt.Fprintf(c.stdout, "paths end early at %s, as they were published: no difference\n", plural.Of(res.BrokenPaths, "turn")); err != nil {
				return err
			}
		}
		if cfg.Repair {
			_, err = fmt.Fprintf(c.stdout, "%d of %s repaired\n", res.Repaired, plural.Of(res.Differing, "differing session"))
		}
		_, err2 := fmt.Fprintf(c.stdout, "%s with %s compared, %d of them in the cache; %s %s in files only\n",
			plural.Of(res.Sessions, "session"), plural.Of(res.Turns, "turn"), res.Cached, plural.Of(res.FileOnly, "turn"), plural.Are(res.FileOnly))
		err = errors.Join(err, err2)
	}
	left := res.Differing - res.Repaired
	switch {
	case err != nil || res.Right():
	case res.Lost > 0:
		err = failed(fmt.Errorf("something of %s is lost, and %d still %s: see above", plural.Of(res.Lost, "session"), left, plural.Verb(left, "differs", "differ")))
	case cfg.Repair:
		err = failed(fmt.Errorf("%s still %s: see above", plural.Of(left, "session"), plural.Verb(left, "differs", "differ")))
	default:
		err = failed(fmt.Errorf("%s %s, %s %s missing and %d out of date: `afterword verify --repair` mends %s",
			plural.Of(left, "session"), plural.Verb(left, "differs", "differ"), plural.Of(res.Missing, "turn"), plural.Are(res.Missing), res.Stale, plural.Verb(left, "it", "them")))
	}
	return err
}

func (c *cli) printDifference(d consumer.Difference, asJSON bool) error {
	if asJSON {
		return c.printJSON(d)
	}
	_, err := fmt.Fprintf(c.stdout, "%s: %s\n", d.Session, d)
	return err
}

// openCache connects a one-shot command to Redis.
func openCache(ctx context.Context, o redisOptions, js jetstream.JetStream) (*cache.Redis, error) {
	cache.LogClient(nil)
	r, err := o.open(nil)
	if err != nil {
		return nil, err
	}
	err = r.Check(ctx)
	switch {
	case redis.IsAuthError(err):
	case err != nil:
		what := err.Error()
		if trouble := (*cache.TroubleError)(nil); errors.As(err, &trouble) && !trouble.Refused() {
			what = trouble.What + ": " + trouble.Why + ": start Redis"
		}
		err = fmt.Errorf("%s, give its address with --redis-url, or leave it out with --redis-url none", what)
	case o.keyFile == "":
		var key []byte
		if key, err = cache.SharedKey(ctx, js); err == nil {
			r.SetKey(key)
			return r, nil
		}
	default:
		return r, nil
	}
	return nil, errors.Join(err, r.Close())
}
