package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

// dryLine is a session as `replay --dry-run --json` prints it.
type dryLine struct {
	SessionID string `json:"session_id"`
	Added     int    `json:"added"`
	Replaced  int    `json:"replaced"`
	Error     string `json:"error,omitempty"` // why nobody can say
}

// dryResult is the last line of `replay --dry-run --json`.
type dryResult struct {
	Sessions int `json:"sessions"` // that would change
	Added    int `json:"added"`    // turns that would be added
	Replaced int `json:"replaced"` // turns of which a newer snapshot would be written
}

// dryRun prints what would change. While a meter is in the way it keeps some of it.
type dryRun struct {
	c       *cli
	json    bool
	kept    []dryLine
	keep    int
	result  dryResult
	unread  int
	failure error
}

func (d *dryRun) note(f consumer.Difference) {
	line := dryLine{SessionID: f.Session, Added: f.Missing, Replaced: f.Stale, Error: f.Error}
	if f.Error != "" {
		d.unread++
	} else {
		d.result.Sessions++
	}
	if len(d.kept) < d.keep {
		d.kept = append(d.kept, line)
		return
	}
	d.print(line)
}

func (d *dryRun) print(line dryLine) {
	switch {
	case d.failure != nil:
	case d.json:
		d.failure = d.c.printJSON(line)
	case line.Error != "":
		_, d.failure = fmt.Fprintf(d.c.stdout, "%s: %s\n", line.SessionID, line.Error)
	default:
		_, d.failure = fmt.Fprintf(d.c.stdout, "%s: add %s, replace %d\n", line.SessionID, plural.Of(line.Added, "turn"), line.Replaced)
	}
}

// end prints what was kept.
func (d *dryRun) end() error {
	for _, line := range d.kept {
		d.print(line)
	}
	return d.failure
}

// replayDry prints what a replay would change: what a verification misses.
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
		dry := &dryRun{c: c, json: o.json}
		if m != nil {
			dry.keep = 1000
		}
		res, err := consumer.Verify(ctx, consumer.VerifyConfig{
			JS: js, Store: s, Scratch: scratch, Session: o.session, Since: o.since.at, Rate: o.rate, Settle: -1, Difference: dry.note,
			Progress: func(p consumer.Progress) { m.set(p.Done, p.Total) },
		})
		m.stop()
		if errors.Is(err, transcript.ErrNoSession) {
			return failed(noTurns(o))
		}
		if err = errors.Join(err, dry.end()); err != nil {
			return err
		}
		dry.result.Added, dry.result.Replaced = res.Missing, res.Stale
		if o.json {
			err = c.printJSON(dry.result)
		} else {
			_, err = fmt.Fprintf(c.stdout, "a replay into %s would change %s: add %s, replace %d\n", dir, plural.Of(dry.result.Sessions, "session"), plural.Of(res.Missing, "turn"), res.Stale)
		}
		if err == nil && dry.unread > 0 {
			err = failed(fmt.Errorf("%s cannot be read, so what would change in %s is unknown", plural.Of(dry.unread, "transcript"), plural.Verb(dry.unread, "it", "them")))
		}
		return err
	})
}
