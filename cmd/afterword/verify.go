package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
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
	json    bool
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

Exit code 0: no difference. 1: some, each on a line of its own.`,
		Example: `  afterword verify --all
  afterword verify --session abc --redis-url none`,
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
	f.BoolVar(&o.json, "json", false, "print JSON: one object per difference, and the result as the last line")
	o.nats.add(f, ownNATS)
	o.redis.add(f, ownRedis)
	o.store.add(f)
	o.logs.add(f, "warn")
	return cmd
}

func (c *cli) verifyTranscripts(ctx context.Context, o verifyOptions) error {
	return withTranscripts(ctx, o.store, func(ctx context.Context, s *transcript.Store) error {
		return c.withStream(ctx, o.nats, o.logs, "verify", func(ctx context.Context, js jetstream.JetStream) error {
			scratch, done, err := scratchFolder(o.scratch, o.store.dir)
			if err != nil {
				return err
			}
			defer done()
			cfg := consumer.VerifyConfig{JS: js, Store: s, Scratch: scratch, Session: o.session, Settle: o.settle}
			if !o.redis.none() {
				r, err := openCache(ctx, o.redis)
				if err != nil {
					return err
				}
				defer r.Close()
				cfg.Cache = r
			}
			return c.compare(ctx, cfg, o.json)
		})
	})
}

func (c *cli) compare(ctx context.Context, cfg consumer.VerifyConfig, asJSON bool) error {
	m := c.meter("messages read")
	defer m.stop()
	var found []consumer.Difference // printed when there is no meter in the way
	var failure error
	show := func(d consumer.Difference) {
		if failure == nil {
			failure = c.printDifference(d, asJSON)
		}
	}
	cfg.Progress = func(p consumer.Progress) { m.set(p.Done, p.Total) }
	cfg.Difference = func(d consumer.Difference) {
		const most = 1000
		if m == nil || len(found) >= most {
			show(d)
			return
		}
		found = append(found, d)
	}
	res, err := consumer.Verify(ctx, cfg)
	m.stop()
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
	if asJSON {
		err = c.printJSON(res)
	} else {
		_, err = fmt.Fprintf(c.stdout, "%d sessions with %d turns compared, %d of them in the cache; %d turns are in files only\n", res.Sessions, res.Turns, res.Cached, res.FileOnly)
	}
	if err == nil && res.Differing > 0 {
		err = failed(fmt.Errorf("%d sessions differ, %d turns are missing and %d out of date: `afterword replay` repairs transcripts", res.Differing, res.Missing, res.Stale))
	}
	return err
}

func (c *cli) printDifference(d consumer.Difference, asJSON bool) error {
	if asJSON {
		return c.printJSON(d)
	}
	var what []string
	if d.Missing > 0 {
		what = append(what, fmt.Sprintf("%d turns are missing", d.Missing))
	}
	if d.Stale > 0 {
		what = append(what, fmt.Sprintf("%d turns are out of date", d.Stale))
	}
	if d.Cache != "" {
		what = append(what, "cache: "+d.Cache)
	}
	if d.Error != "" {
		what = append(what, d.Error)
	}
	_, err := fmt.Fprintf(c.stdout, "%s: %s\n", d.Session, strings.Join(what, "; "))
	return err
}

// openCache connects a one-shot command to Redis.
func openCache(ctx context.Context, o redisOptions) (*cache.Redis, error) {
	cache.LogClient(nil)
	r, err := cache.New(o.config())
	if err != nil {
		return nil, fmt.Errorf("--redis-url: %w", err)
	}
	err = r.Ping(ctx)
	switch {
	case redis.IsAuthError(err):
		err = redisRefused(r)
	case err != nil:
		err = fmt.Errorf("%w: start Redis, give its address with --redis-url, or leave it out with --redis-url none", err)
	default:
		return r, nil
	}
	return nil, errors.Join(err, r.Close())
}
