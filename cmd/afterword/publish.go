package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/internal/exchange"
	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
)

// publishOptions are the flags of `publish`.
type publishOptions struct {
	feedOptions

	file     string
	baseTime string
	strict   bool
	dryRun   bool
	json     bool
}

func (c *cli) publish() *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use:   "publish --file FILE|-",
		Short: "Publish turns from a file of JSON lines",
		Long: `Publish turns from a file of JSON lines, plain or gzip, and wait until the stream
has stored all of them. Every line has at least session_id and user.

A line without an id or a timestamp gets one that is made from the input alone
(session, line number, content; base time + line number in µs), so publishing the
same file again adds nothing. A line that cannot be accepted is reported with its
number and the rule that it breaks; all others are published, and the exit code is 1.

A member that is unknown is kept. One that resembles a known one, as assistnt does, is
named on standard error; --strict refuses its lines.`,
		Example: `  afterword publish --file turns.jsonl.gz
  zcat old.gz | afterword publish --file - --base-time 2026-01-31T00:00:00Z
  afterword publish --file turns.jsonl --dry-run | head`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.file == "" {
				return usage(cmd, errors.New("--file is missing: give a file, or - for standard input"))
			}
			in, err := openInput(o.file, o.baseTime, c.stdin)
			if err != nil {
				return err
			}
			defer in.close()
			in.spelt.strict = o.strict
			defer in.spelt.print(c.stderr)
			if o.dryRun {
				return c.dryRun(cmd.Context(), o, in)
			}
			return c.publishInput(cmd.Context(), o, in)
		},
	}
	f := flags{cmd.Flags()}
	f.StringVar(&o.file, "file", "", "`FILE` of JSON lines, plain or gzip; - is standard input")
	f.StringVar(&o.baseTime, "base-time", "", "`TIME` (RFC 3339) from which lines without a timestamp are dated; the default is the file's modification time")
	f.BoolVar(&o.strict, "strict", false, "refuse lines with members that resemble known ones")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the filled-in turns instead; needs no server, but asks one that is there for its limit")
	f.BoolVar(&o.json, "json", false, "print a summary as JSON")
	o.feedOptions.add(f)
	return cmd
}

// dryRun prints the turns as they would be published.
func (c *cli) dryRun(ctx context.Context, o publishOptions, in *input) error {
	out := bufio.NewWriter(c.stdout)
	var line []byte
	limit := c.askLimit(ctx, o.nats)
	bad, err := in.eachTurn(ctx, c.reportLine, func(d *transcript.Draft, _ int) error {
		snap, err := limit.check(d)
		if err != nil {
			return err
		}
		line = append(snap.AppendPayload(line[:0]), '\n')
		_, err = out.Write(line)
		return err
	})
	err = errors.Join(out.Flush(), err, badLines(bad, in.turns, "printed"))
	limit.print(c.stderr)
	return err
}

// summary is what `publish --json` prints.
type summary struct {
	Turns      int     `json:"turns"`      // lines that are not blank
	Stored     uint64  `json:"stored"`     // acknowledged by the stream
	Duplicates uint64  `json:"duplicates"` // of those, already there by their message id
	Bad        int     `json:"bad"`        // lines that cannot be accepted
	Seconds    float64 `json:"seconds"`
}

func (c *cli) publishInput(ctx context.Context, o publishOptions, in *input) error {
	bad := 0
	fed, err := c.feed(ctx, o.feedOptions, "publish", func(bool) func() uint64 { return in.estimate }, func(f *feed) (err error) {
		bad, err = in.eachTurn(ctx, c.reportLine, func(d *transcript.Draft, number int) error {
			if number%256 == 0 {
				f.onStep()
			}
			return f.publish(ctx, d, place{number: number})
		})
		return err
	})
	if fed != nil && o.json {
		if err := c.printJSON(summary{in.turns, fed.stored, fed.duplicates, bad, fed.took.Seconds()}); err != nil {
			return err
		}
	}
	switch {
	case fed == nil:
		return err
	case err != nil:
		return fmt.Errorf("%w: %s %s stored; publish the same input again for the rest, which adds nothing twice", err, plural.Of(fed.stored, "turn"), plural.Were(fed.stored))
	case bad == 0:
		fmt.Fprintf(c.stderr, "%s stored in %s (%.0f/s)\n", plural.Of(fed.stored, "turn"), fed.took.Round(time.Millisecond), float64(fed.stored)/fed.took.Seconds())
	}
	return badLines(bad, in.turns, "stored")
}

// reportLine tells of a line that cannot be accepted.
func (c *cli) reportLine(number int, err error) {
	fmt.Fprintf(c.stderr, "line %d: %s\n", number, oneLine(err))
}

// eachTurn calls fn with every turn of the input, filled in. What is at fault is
// told and counted, be it the line or what fn says of it; every other error ends it.
func (in *input) eachTurn(ctx context.Context, tell func(number int, err error), fn func(d *transcript.Draft, number int) error) (bad int, err error) {
	report := func(number int, err error) {
		bad++
		tell(number, err)
	}
	for l := range in.lines(ctx) {
		switch {
		case l.err == io.EOF:
			return bad, nil
		case l.err == errLongLine:
			in.turns++
			report(l.number, fmt.Errorf("%w: at most %d bytes are allowed", l.err, in.most))
			continue
		case l.err != nil:
			return bad, inputError{fmt.Errorf("read %s after line %d: %w", in.name, l.number, l.err)}
		}
		in.turns++
		d, err := transcript.ParseDraft(l.text)
		if err == nil {
			err = in.spelt.take(&d, place{number: l.number})
		} else if what := exchange.What(l.text); what != "" {
			err = fmt.Errorf("%w; it is of %s, which `afterword import` takes", err, what)
		}
		if err == nil {
			err = fillIn(&d, l.number, in.base)
		}
		if err == nil {
			err = fn(&d, l.number)
		}
		switch {
		case transcript.Malformed(err):
			report(l.number, l.place(err))
		case err != nil:
			return bad, err
		}
	}
	return bad, context.Cause(ctx)
}

// badLines is the result of an input with lines that cannot be accepted.
func badLines(bad, all int, others string) error {
	if bad == 0 {
		return nil
	}
	rest := ""
	switch all - bad {
	case 0:
	case 1:
		rest = ", the other one was " + others
	default:
		rest = ", the others were " + others
	}
	return failed(fmt.Errorf("%d of %s cannot be accepted (see above)%s: correct %s and run it again, which adds nothing twice", bad, plural.Of(all, "turn"), rest, plural.Verb(bad, "that line", "those lines")))
}
