package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/afterword-io/afterword/consumer"
)

func (c *cli) dlqRemove() *cobra.Command {
	var which letterOptions
	var nats natsOptions
	var logs logOptions
	var all, yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "rm",
		Short: "Remove dead letters for good",
		Long: `Remove dead letters. The messages that they were made of stay in the stream of turns for
as long as that keeps them, but no consumer will be given them again.

It asks on a terminal, and wants --yes elsewhere. Removing is not erasing: the bytes
stay on the disks of NATS until it writes over them.`,
		Example: `  afterword dlq rm --seq 7
  afterword dlq rm --reason json --yes`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := which.chosen(cmd, all)
			if err != nil {
				return err
			}
			if !yes && !c.asks() {
				return usage(cmd, errors.New("nobody can be asked here: give --yes"))
			}
			return c.withLetters(cmd.Context(), nats, logs, func(ctx context.Context, d consumer.DeadLetters) error {
				return c.removeLetters(ctx, d, f, yes, asJSON)
			})
		},
	}
	f := flags{cmd.Flags()}
	f.BoolVar(&all, "all", false, "all dead letters")
	which.add(f)
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.BoolVar(&asJSON, "json", false, "print JSON: how many were removed")
	nats.add(f, ownNATS)
	logs.add(f, "warn")
	return cmd
}

func (c *cli) removeLetters(ctx context.Context, d consumer.DeadLetters, f consumer.DeadFilter, yes, asJSON bool) (err error) {
	if f.Until, err = d.Last(ctx); err != nil { // what comes while somebody thinks is not removed
		return err
	}
	if f.Until == 0 && len(f.Seqs) == 0 {
		return c.removed(0, asJSON)
	}
	if !yes {
		var n uint64
		err := d.Each(ctx, f, func(consumer.DeadLetter) error { n++; return nil })
		if err != nil {
			return err
		}
		if n > 0 {
			ok, err := c.ask(ctx, fmt.Sprintf("Remove %s for good?", letters(n)))
			if err != nil {
				return err
			}
			if !ok {
				return failed(errors.New("nothing is removed"))
			}
		}
	}
	n, err := d.Remove(ctx, f)
	return errors.Join(err, c.removed(n, asJSON))
}

// removed says how many were removed.
func (c *cli) removed(n uint64, asJSON bool) error {
	fmt.Fprintf(c.stderr, "%s removed\n", letters(n))
	if !asJSON {
		return nil
	}
	return c.printJSON(map[string]uint64{"removed": n})
}

// asks reports whether there is somebody to ask.
func (c *cli) asks() bool {
	f, ok := c.stdin.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ask asks a question on the terminal; only "y" and "yes" mean yes.
func (c *cli) ask(ctx context.Context, question string) (bool, error) {
	fmt.Fprintf(c.stderr, "%s Type yes or no.\n", question)
	answer := make(chan string, 1)
	go func() { // nothing ends a read of a terminal; the process is about to end then
		line, err := bufio.NewReader(c.stdin).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			line = ""
		}
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}
