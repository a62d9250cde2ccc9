package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/plural"
)

func (c *cli) dlqList() *cobra.Command {
	var which letterOptions
	var nats natsOptions
	var logs logOptions
	var after uint64
	var limit int
	var byReason, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List or count dead letters",
		Long: `List dead letters in the order in which they came, or count them by kind of reason.
Nothing of what was said is shown. A letter is in doubt when it does not equal the message
of the stream of turns that it says it is; ` + "`afterword dlq show`" + ` says why. Counts do not tell.`,
		Example: `  afterword dlq ls --by-reason
  afterword dlq ls --reason session-unwritable --since 12h
  afterword dlq ls --limit 0 --json | wc -l`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := which.filter(cmd)
			if err != nil {
				return err
			}
			switch {
			case limit < 0:
				return usage(cmd, errors.New("--limit is negative"))
			case byReason && (cmd.Flags().Changed("limit") || after > 0):
				return usage(cmd, errors.New("--by-reason counts all of them: leave --limit and --after out"))
			}
			f.After = after
			return c.withLetters(cmd.Context(), nats, logs, func(ctx context.Context, d consumer.DeadLetters) error {
				if byReason {
					return c.countLetters(ctx, d, f, asJSON)
				}
				return c.listLetters(ctx, d, f, limit, asJSON)
			})
		},
	}
	f := flags{cmd.Flags()}
	which.add(f)
	f.Uint64Var(&after, "after", 0, "only those that came after the dead letter with this `NUMBER`")
	f.IntVar(&limit, "limit", 100, "at most so many; 0 means all")
	f.BoolVar(&byReason, "by-reason", false, "count them by kind of reason")
	f.BoolVar(&asJSON, "json", false, "print JSON: one object per line")
	nats.add(f, ownNATS)
	logs.add(f, "warn")
	return cmd
}

func (c *cli) listLetters(ctx context.Context, d consumer.DeadLetters, f consumer.DeadFilter, limit int, asJSON bool) error {
	out := bufio.NewWriter(c.stdout)
	var page []consumer.DeadLetter
	listed, more, last, doubts := 0, false, uint64(0), uint64(0)
	flush := func() error {
		defer func() { page = page[:0] }()
		if err := d.Compare(ctx, page); err != nil {
			return err
		}
		for _, l := range page {
			if l.Doubt != "" {
				doubts++
			}
		}
		return printLetters(out, page, asJSON)
	}
	if limit > 0 {
		f.Limit = limit + 1 // one more tells that there are more
	}
	err := d.Each(ctx, f, func(l consumer.DeadLetter) error {
		if more = listed == limit && limit > 0; more {
			return nil
		}
		listed, last = listed+1, l.Seq
		if page = append(page, l); len(page) < listPage {
			return nil
		}
		return flush()
	})
	if perr := flush(); perr != nil {
		return perr
	}
	if err = errors.Join(err, out.Flush()); err == nil && more {
		fmt.Fprintf(c.stderr, "only %d are listed: --after %d goes on, --limit 0 lists all\n", limit, last)
	}
	if doubts > 0 {
		fmt.Fprintf(c.stderr, "%s %s in doubt: see `afterword dlq show NUMBER` before requeueing with --force\n", letters(doubts), plural.Are(doubts))
	}
	return err
}

func printLetters(out *bufio.Writer, page []consumer.DeadLetter, asJSON bool) error {
	if len(page) == 0 {
		return nil
	}
	if asJSON {
		c := cli{stdout: out}
		for _, l := range page {
			if err := c.printJSON(l); err != nil {
				return err
			}
		}
		return nil
	}
	t := newTable("number", "since", "group", "bytes", "in doubt", "subject", "reason")
	for _, l := range page {
		doubt := "no"
		if l.Doubt != "" {
			doubt = "yes"
		}
		t.AppendRow(table.Row{l.Seq, l.Stored.Format(time.RFC3339), l.Group, l.Size, doubt, l.Subject, l.Reason})
	}
	_, err := fmt.Fprintln(out, t.Render())
	return err
}

// reasonCount is a line of `dlq ls --by-reason`.
type reasonCount struct {
	Kind  consumer.ReasonKind `json:"kind"`
	Count uint64              `json:"count"`
	First time.Time           `json:"first"`
	Last  time.Time           `json:"last"`
}

func (c *cli) countLetters(ctx context.Context, d consumer.DeadLetters, f consumer.DeadFilter, asJSON bool) error {
	counts := make(map[consumer.ReasonKind]*reasonCount)
	err := d.Each(ctx, f, func(l consumer.DeadLetter) error {
		n := counts[l.Kind]
		if n == nil {
			n = &reasonCount{Kind: l.Kind, First: l.Stored}
			counts[l.Kind] = n
		}
		n.Count, n.Last = n.Count+1, l.Stored
		return nil
	})
	if err != nil {
		return err
	}
	t := newTable("kind", "count", "first", "last")
	for _, kind := range consumer.ReasonKinds {
		n := counts[kind]
		switch {
		case n == nil:
			continue
		case asJSON:
			if err := c.printJSON(n); err != nil {
				return err
			}
		}
		t.AppendRow(table.Row{n.Kind, n.Count, moment(&n.First), moment(&n.Last)})
	}
	if asJSON || t.Length() == 0 {
		return nil
	}
	_, err = fmt.Fprintln(c.stdout, t.Render())
	return err
}
