package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/folder"
	"github.com/afterword-io/afterword/internal/metrics"
	"github.com/afterword-io/afterword/internal/plural"
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

	since      since
	resume     bool
	checkpoint time.Duration
	rate       int
	metrics    metricsFile
}

func (o *replayOptions) check(cmd *cobra.Command) error {
	switch {
	case o.rate < 0:
		return usage(cmd, errors.New("--rate is negative"))
	case o.metrics.path != "" && o.dryRun:
		return usage(cmd, errors.New("--dry-run and --metrics-file do not go together"))
	case o.resume && o.dryRun:
		return usage(cmd, errors.New("--dry-run and --resume do not go together"))
	case o.resume && o.since.relative:
		return usage(cmd, errors.New("--resume needs a --since that means the same every time, as in 2026-01-31T12:00:00Z"))
	}
	return o.which.check(cmd)
}

func (c *cli) replay() *cobra.Command {
	var o replayOptions
	cmd := &cobra.Command{
		Use:   "replay --all | --session ID",
		Short: "Rebuild transcripts from the stream",
		Long: `Merge what the stream holds into the transcripts. Nothing that is there is removed,
and turns that are there already change nothing, so it may run at any time, beside
consumers too, and again after an interruption.

--resume keeps a checkpoint in the transcripts folder, so that after Ctrl-C or a crash
the same command goes on where it was.

--into builds a transcripts folder elsewhere, with the same bytes. A new folder notes how many
messages the stream had removed before. --dry-run prints what
would change, session by session; it needs a scratch folder.`,
		Example: `  afterword replay --all
  afterword replay --all --resume --rate 5000
  afterword replay --all --since 12h
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
	f.Var(&o.since, "since", "only turns that were stored since a `TIME`, as in 2026-01-31T12:00:00Z, or in the last 12h or 30d")
	f.BoolVar(&o.resume, "resume", false, "keep a checkpoint, and go on from the one that an interrupted replay of the same has left")
	f.wait(&o.checkpoint, consumer.DefaultCheckpoint, "checkpoint-every", "how long --resume and --rate read before they merge, and --resume notes how far it is")
	f.IntVar(&o.rate, "rate", 0, "at most so many turns per second; 0 means as many as possible")
	f.BoolVar(&o.dryRun, "dry-run", false, "print what would change, and change nothing")
	f.StringVar(&o.scratch, "scratch", "", "`FOLDER` for what --dry-run compares, as large as the transcripts; none means --data-dir")
	o.metrics.add(f, "replay")
	f.BoolVar(&o.json, "json", false, "print JSON: the result, and with --dry-run one object per session before it")
	o.store.add(f)
	o.nats.add(f, ownNATS)
	o.store.addLayout(f)
	o.store.addLimit(f)
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
	if err := o.checkFolder(dir); err != nil {
		return err
	}
	return c.withStream(ctx, o.nats, o.logs, "replay", func(ctx context.Context, js jetstream.JetStream) (err error) {
		s, err := transcript.Open(transcript.Config{
			Dir: dir, Layout: transcript.Layout(o.store.layout), FileTimeout: o.store.fileTimeout, SessionMaxBytes: o.store.sessionMax, Logger: log,
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
		run := metrics.Replay()
		written, err := o.metrics.keep(run, log)
		if err != nil {
			return err
		}
		res, err := consumer.Replay(ctx, consumer.ReplayConfig{
			JS: js, Store: s, Session: o.session, Since: o.since.at, Rate: o.rate, Resume: o.resume, Checkpoint: o.checkpoint, Logger: log,
			Progress: func(p consumer.Progress) { m.set(p.Done, p.Total); run.Progress(p) },
		})
		m.stop()
		run.Replayed(res, err)
		if werr := written(); err == nil && werr != nil {
			return werr
		}
		switch {
		case errors.Is(err, consumer.ErrCheckpoint):
			return fmt.Errorf("%w: finish that replay, or remove %s to start over", err, filepath.Join(dir, checkpointFile))
		case err != nil && o.resume:
			return fmt.Errorf("%w: run it again, and it goes on from its checkpoint", err)
		case err != nil:
			return fmt.Errorf("%w: what was merged by then stays; run it again, which adds nothing twice", err)
		case o.session != "" && res.Turns == 0 && res.Resumed == 0:
			return failed(noTurns(o))
		}
		if o.json {
			return c.printJSON(res)
		}
		if res.LeftOut > 0 {
			fmt.Fprintf(c.stderr, "%s left out: --session-max-bytes allows no larger sessions\n", plural.Of(res.LeftOut, "turn"))
		}
		if res.Unread > 0 {
			fmt.Fprintf(c.stderr, "%s %s gone from the stream before: turns may be missing, and %s says so to whoever reads them\n", plural.Of(res.Unread, "message"), plural.Were(res.Unread), filepath.Join(s.Dir(), string(transcript.NoteUnread)))
		}
		if res.Resumed > 0 {
			fmt.Fprintf(c.stderr, "went on after message %d\n", res.Resumed)
		}
		fmt.Fprintf(c.stderr, "%s merged into %s in %s, %s %s\n", plural.Of(res.Turns-res.LeftOut, "turn"), s.Dir(), time.Since(began).Round(time.Millisecond),
			plural.Of(res.Skipped, "message"), plural.Verb(res.Skipped, "is no turn", "are no turns"))
		return nil
	})
}

// checkFolder refuses a folder that other users may write.
func (o *replayOptions) checkFolder(dir string) error {
	if o.into != "" {
		if err := folder.Check(dir); err != nil {
			return err
		}
		return folder.CheckIn(dir, transcript.Shards()...)
	}
	return o.store.checkData()
}

// checkInto refuses a folder in which transcripts would be mixed with something else.
func checkInto(dir string) error {
	entries, err := os.ReadDir(dir)
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { // of a replay that was killed when it had just begun
		return strings.HasPrefix(e.Name(), identityFile) || strings.HasPrefix(e.Name(), "."+identityFile)
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fileError("--into", err)
	case len(entries) == 0:
		return nil
	}
	if !isTranscripts(dir) {
		return fmt.Errorf("--into %s is neither empty nor a transcripts folder: choose another", dir)
	}
	return nil
}

func noTurns(o replayOptions) error {
	if !o.since.at.IsZero() {
		return fmt.Errorf("the stream holds no turns of session %q since %s", o.session, &o.since)
	}
	return fmt.Errorf("the stream holds no turns of session %q", o.session)
}

// scratchFolder makes a folder for what is thrown away again.
func scratchFolder(dir, dataDir string) (string, func(), error) {
	if dir == "" {
		dir = dataDir
	}
	if err := folder.Make(dir); err != nil {
		return "", nil, fmt.Errorf("make a scratch folder: %w: choose one that can be written with --scratch", err)
	}
	scratch, err := os.MkdirTemp(dir, "scratch-")
	if err == nil {
		err = folder.Inherit(scratch)
	}
	if err != nil {
		return "", nil, fmt.Errorf("make a scratch folder: %w: choose one that can be written with --scratch", err)
	}
	return scratch, func() { os.RemoveAll(scratch) }, nil
}

// withStream calls fn with a connection to a stream that is there.
func (c *cli) withStream(ctx context.Context, nats natsOptions, logs logOptions, name string, fn func(context.Context, jetstream.JetStream) error) error {
	log, err := c.logger(logs)
	if err != nil {
		return err
	}
	nc, js, err := connectOnce(ctx, nats, name, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	if _, err := stream.Info(ctx, js); err != nil {
		if errors.Is(err, stream.ErrNoStream) {
			err = fmt.Errorf("%w: nothing was published yet, or --nats-url names the wrong server", err)
		}
		return err
	}
	if err := stream.NotUnderWay(ctx, js, stream.Turns); err != nil {
		return err
	}
	return fn(ctx, js)
}
