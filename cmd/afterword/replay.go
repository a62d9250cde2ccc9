package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// which says which sessions a command is about.
type which struct {
	all     bool
	session string
}

func (w *which) add(f flags) {
	f.BoolVar(&w.all, "all", false, "all sessions")
	f.StringVar(&w.session, "session", "", "only the session `ID`")
}

func (w *which) check(cmd *cobra.Command) error {
	named := cmd.Flags().Changed("session")
	switch {
	case w.all && named:
		return usage(cmd, errors.New("--all and --session do not go together"))
	case !w.all && !named:
		return usage(cmd, errors.New("give --all, or --session ID"))
	case named:
		if err := transcript.CheckSessionID(w.session); err != nil {
			return usage(cmd, fmt.Errorf("--session: %w", err))
		}
	}
	return nil
}

// replayOptions are the flags of `replay`.
type replayOptions struct {
	which
	nats    natsOptions
	store   storeOptions
	logs    logOptions
	into    string
	scratch string
	dryRun  bool
	json    bool
}

func (c *cli) replay() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay --all | --session ID",
		Short: "Rebuild transcripts from the stream",
		Long: `Merge what the stream holds into the transcripts. Nothing that is there is removed,
and turns that are there already change nothing, so it may run at any time, beside
consumers too, and again after an interruption.

--into builds a transcripts folder elsewhere, with the same bytes. --dry-run counts
what would change, in a scratch folder.`,
		Example: `  afterword replay --all
  afterword replay --session abc --dry-run
  afterword replay --all --into /srv/rebuilt/transcripts`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			if o.dryRun {
				return c.replayDry(cmd.Context(), o)
			}
			return c.replayInto(cmd.Context(), o)
		},
	}
	f := flags{cmd.Flags()}
	o.which.add(f)
	f.StringVar(&o.into, "into", "", "build the transcripts in this `FOLDER` instead: a new one, an empty one, or one of transcripts")
	f.BoolVar(&o.dryRun, "dry-run", false, "count what would change, and change nothing")
	f.StringVar(&o.scratch, "scratch", "", "`FOLDER` for what --dry-run compares, as large as the transcripts; none means --data-dir")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	o.nats.add(f, ownNATS)
	o.store.add(f)
	o.store.addLayout(f)
	o.logs.add(f, "warn")
	return cmd
}

func (c *cli) replayInto(ctx context.Context, o replayOptions) (err error) {
	log, err := c.logger(o.logs)
	if err != nil {
		return err
	}
	dir := o.store.transcripts()
	if o.into != "" {
		dir = o.into
		if err := checkInto(dir); err != nil {
			return err
		}
	}
	return c.withStream(ctx, o.nats, o.logs, "replay", func(ctx context.Context, js jetstream.JetStream) (err error) {
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			return dataDirError(err)
		}
		s, err := transcript.Open(transcript.Config{
			Dir: dir, Layout: transcript.Layout(o.store.layout), FileTimeout: o.store.fileTimeout, Logger: log,
		})
		if err != nil {
			return dataDirError(err)
		}
		defer func() {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.store.fileTimeout)
			defer cancel()
			if ctx.Err() == nil {
				err = errors.Join(err, s.Close(end))
			} else {
				s.Close(end) // it says only that not everything is folded
			}
		}()
		began := time.Now()
		m := c.meter("messages replayed")
		defer m.stop()
		res, err := consumer.Replay(ctx, consumer.ReplayConfig{
			JS: js, Store: s, Session: o.session, Logger: log,
			Progress: func(p consumer.Progress) { m.set(p.Done, p.Total) },
		})
		m.stop()
		if err != nil {
			return fmt.Errorf("%w: what was merged by then stays; run it again, which adds nothing twice", err)
		}
		if o.session != "" && res.Turns == 0 {
			return failed(fmt.Errorf("the stream holds no turns of session %q", o.session))
		}
		if o.json {
			return c.printJSON(res)
		}
		fmt.Fprintf(c.stderr, "%d turns merged into %s in %s, %d messages are no turns\n", res.Turns, s.Dir(), time.Since(began).Round(time.Millisecond), res.Skipped)
		return nil
	})
}

// checkInto refuses a folder in which transcripts would be mixed with something else.
func checkInto(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("--into: %w", err)
	case len(entries) == 0:
		return nil
	}
	if !isTranscripts(dir) {
		return fmt.Errorf("--into %s is neither empty nor a transcripts folder: choose another", dir)
	}
	return nil
}

// dryResult is what `replay --dry-run --json` prints.
type dryResult struct {
	Sessions int `json:"sessions"` // that would change
	Added    int `json:"added"`    // turns that would be added
	Replaced int `json:"replaced"` // turns of which a newer snapshot would be written
}

// replayDry counts what a replay would change: what a verification misses.
func (c *cli) replayDry(ctx context.Context, o replayOptions) error {
	dir := o.store.transcripts()
	if o.into != "" {
		dir = o.into
		if err := checkInto(dir); err != nil {
			return err
		}
	}
	return c.withStream(ctx, o.nats, o.logs, "replay", func(ctx context.Context, js jetstream.JetStream) error {
		scratch, done, err := scratchFolder(o.scratch, o.store.dir)
		if err != nil {
			return err
		}
		defer done()
		cfg := transcript.Config{Dir: dir, ReadOnly: true, FileTimeout: o.store.fileTimeout}
		if !isTranscripts(dir) { // nothing is there, so all of it would be new
			cfg = transcript.Config{Dir: filepath.Join(scratch, "nothing")}
		}
		s, err := transcript.Open(cfg)
		if err != nil {
			return dataDirError(err)
		}
		defer s.Close(context.WithoutCancel(ctx))
		m := c.meter("messages read")
		defer m.stop()
		res, err := consumer.Verify(ctx, consumer.VerifyConfig{
			JS: js, Store: s, Scratch: scratch, Session: o.session, Settle: -1,
			Progress: func(p consumer.Progress) { m.set(p.Done, p.Total) },
		})
		m.stop()
		if errors.Is(err, transcript.ErrNoSession) {
			return failed(fmt.Errorf("the stream holds no turns of session %q", o.session))
		}
		if err != nil {
			return err
		}
		dry := dryResult{Sessions: res.Differing, Added: res.Missing, Replaced: res.Stale}
		if o.json {
			return c.printJSON(dry)
		}
		_, err = fmt.Fprintf(c.stdout, "a replay into %s would change %d sessions: add %d turns, replace %d\n", dir, dry.Sessions, dry.Added, dry.Replaced)
		return err
	})
}

// scratchFolder makes a folder for what is thrown away again.
func scratchFolder(dir, dataDir string) (string, func(), error) {
	if dir == "" {
		dir = dataDir
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("make a scratch folder: %w: choose one that can be written with --scratch", err)
	}
	scratch, err := os.MkdirTemp(dir, "scratch-")
	if err != nil {
		return "", nil, fmt.Errorf("make a scratch folder: %w: choose one that can be written with --scratch", err)
	}
	return scratch, func() { os.RemoveAll(scratch) }, nil
}

// withStream calls fn with a connection to a stream that is there. Only that is
// bounded as a one-shot command's start; fn takes as long as it takes.
func (c *cli) withStream(ctx context.Context, nats natsOptions, logs logOptions, name string, fn func(context.Context, jetstream.JetStream) error) error {
	log, err := c.logger(logs)
	if err != nil {
		return err
	}
	start, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	nc, js, err := connectOnce(start, nats, name, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := stream.Info(start, js); err != nil {
		if errors.Is(err, stream.ErrNoStream) {
			err = fmt.Errorf("%w: nothing was published yet, or --nats-url names the wrong server", err)
		}
		return err
	}
	return fn(ctx, js)
}
