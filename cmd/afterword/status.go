package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/internal/status"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/internal/terminal"
	"github.com/afterword-io/afterword/transcript"
)

// defaultInterval is how often `status --watch` looks.
const defaultInterval = 2 * time.Second

// clearScreen moves to the top left corner and empties the screen.
const clearScreen = "\x1b[H\x1b[2J"

// statusOptions are the flags of `status`.
type statusOptions struct {
	nats     natsOptions
	redis    redisOptions
	store    storeOptions
	services []string
	logs     logOptions

	timeout, lagWarning, lagCritical, interval time.Duration

	watch, json bool
}

func (c *cli) status() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what is wrong, and what to do about it",
		Long: `Look at NATS, the streams and their limits, the consumer groups and how far they are behind,
the dead letters, Redis, and the transcripts of this machine if it has some. What is wrong
comes first, with the command that helps. Nothing is changed.

Exit code 0: all is well. 1: there are warnings. 2: turns stand still, or could be lost.`,
		Example: `  afterword status
  afterword status --watch
  afterword status --json | jq -r '.checks[] | select(.level != "ok") | .found'
  afterword status --listen 127.0.0.1:8080 --listen 127.0.0.1:8081`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.lagWarning > o.lagCritical {
				return usage(cmd, fmt.Errorf("--lag-warning %s is longer than --lag-critical %s", shortDuration(o.lagWarning), shortDuration(o.lagCritical)))
			}
			if err := checkAddresses("--listen", o.services); err != nil {
				return usage(cmd, err)
			}
			return c.withStatus(cmd.Context(), o, func(ctx context.Context, g *status.Gatherer) error {
				if o.watch {
					return c.watchStatus(ctx, g, o)
				}
				r := g.Gather(ctx)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				return errors.Join(c.printStatus(c.stdout, r, o.json), statusError(r))
			})
		},
	}
	f := flags{cmd.Flags()}
	f.BoolVar(&o.json, "json", false, "print JSON: one object")
	f.BoolVar(&o.watch, "watch", false, "look again and again, until Ctrl-C")
	f.wait(&o.interval, defaultInterval, "interval", "how often --watch looks")
	f.wait(&o.timeout, status.DefaultTimeout, "status-timeout", "bound of one look at everything")
	f.wait(&o.lagWarning, status.DefaultLagWarning, "lag-warning", "age of the oldest turn that is not written from which on that is a warning")
	f.wait(&o.lagCritical, status.DefaultLagCritical, "lag-critical", "age from which on it is critical")
	f.StringSliceVar(&o.services, "listen", nil, "`ADDRESS` of a service of which /readyz is asked too; may be given again")
	o.store.add(f)
	o.nats.add(f, ownNATS)
	o.redis.add(f, ownRedis)
	o.logs.add(f, "error")
	return cmd
}

// withStatus calls fn with what looks at everything.
func (c *cli) withStatus(ctx context.Context, o statusOptions, fn func(context.Context, *status.Gatherer) error) error {
	log, err := c.logger(o.logs)
	if err != nil {
		return err
	}
	cfg := status.Config{
		NATSURL:  stream.RedactURL(cmp.Or(o.nats.url, ownNATS)),
		Services: o.services,
		Timeout:  o.timeout, LagWarning: o.lagWarning, LagCritical: o.lagCritical,
	}
	if len(o.services) == 0 {
		cfg.Local = c.localServices()
	}
	var js jetstream.JetStream
	var connecting sync.Mutex
	var failed error // of the connection, in this look
	var failedAt time.Time
	cfg.Connect = func(ctx context.Context) (jetstream.JetStream, error) {
		connecting.Lock()
		defer connecting.Unlock()
		switch {
		case js != nil:
			return js, nil
		case failed != nil && time.Since(failedAt) < o.interval/2:
			return nil, failed
		}
		_, made, err := connectOnce(ctx, o.nats, "status", log)
		if err != nil {
			failed, failedAt = err, time.Now()
			return nil, err
		}
		js = made // the next look has it too
		return js, nil
	}
	defer func() {
		if js != nil {
			js.Conn().Close()
		}
	}()
	if !o.redis.none() {
		cache.LogClient(slog.New(slog.DiscardHandler)) // what goes wrong is a check
		r, err := o.redis.open(nil)
		if err != nil {
			return err
		}
		defer r.Close()
		cfg.Redis = sharedRedis{r, func(ctx context.Context) error {
			js, err := cfg.Connect(ctx)
			if err != nil {
				return nil // which is a check of its own
			}
			return cache.CheckShared(ctx, cache.SharedConfig{JS: js, Redis: r, DoubtAfter: o.redis.doubt})
		}}
	}
	cfg.Open = func() (*transcript.Store, error) {
		if !isTranscripts(o.store.transcripts()) {
			return nil, nil
		}
		return transcript.Open(transcript.Config{Dir: o.store.transcripts(), ReadOnly: true, FileTimeout: o.store.fileTimeout})
	}
	g, err := status.New(cfg)
	if err != nil {
		return err
	}
	return errors.Join(fn(ctx, g), g.Close(context.WithoutCancel(ctx)))
}

// localServices are the addresses at which a service of this machine is, unless it was told otherwise by flag.
func (c *cli) localServices() []string {
	listen, _ := c.env("AFTERWORD_LISTEN")
	if listen == "" {
		return []string{defaultListen, defaultConsole}
	}
	if at, err := netip.ParseAddrPort(listen); err == nil && !at.Addr().IsUnspecified() {
		return []string{listen}
	}
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil
	}
	return []string{net.JoinHostPort("127.0.0.1", port)}
}

// sharedRedis is a Redis that others write to.
type sharedRedis struct {
	*cache.Redis
	shared func(context.Context) error
}

// Check returns what Redis does not do, or why it is not trusted.
func (r sharedRedis) Check(ctx context.Context) error {
	if err := r.Redis.Check(ctx); err != nil {
		return err
	}
	return r.shared(ctx)
}

// statusError is the exit code of a report.
func statusError(r status.Report) error {
	switch r.Level {
	case status.Critical:
		return fmt.Errorf("critical: %s", r.Worst())
	case status.Warning:
		return failed(fmt.Errorf("warning: %s", r.Worst()))
	}
	return nil
}

// watchStatus looks again and again: on a terminal in place.
func (c *cli) watchStatus(ctx context.Context, g *status.Gatherer, o statusOptions) error {
	screen := terminal.File(c.stdout)
	if o.json {
		screen = nil
	}
	tick := time.NewTicker(o.interval)
	defer tick.Stop()
	for {
		r := g.Gather(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if screen != nil {
			if _, err := io.WriteString(screen, clearScreen); err != nil {
				return err
			}
		}
		if err := c.printStatus(c.stdout, r, o.json); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// printStatus prints what is wrong first, then the figures.
func (c *cli) printStatus(w io.Writer, r status.Report, asJSON bool) error {
	if asJSON {
		return c.printJSON(r)
	}
	checks := newTable("level", "check", "of", "found")
	for _, k := range r.Checks {
		found := k.Found
		if k.Do != "" {
			found += "\n-> " + k.Do
		}
		checks.AppendRow(table.Row{k.Level, k.Name, k.Of, found})
	}
	if _, err := fmt.Fprintf(w, "%s at %s\n\n%s\n", r.Level, r.Time.Format(time.RFC3339), checks.Render()); err != nil {
		return err
	}
	if len(r.Groups) == 0 {
		return nil
	}
	groups := newTable("group", "lag", "seconds", "unacknowledged", "redelivered", "waiting", "last ack", "host")
	for _, k := range r.Groups {
		groups.AppendRow(table.Row{k.Name, k.Lag, fmt.Sprintf("%.1f", k.LagSeconds), k.AckPending, k.Redelivered, k.Waiting, moment(k.LastAcked), cmp.Or(k.Host, "-")})
	}
	_, err := fmt.Fprintf(w, "\n%s\n", groups.Render())
	return err
}
