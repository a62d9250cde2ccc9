package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/consumer"
)

// requeueSummary ends what `dlq requeue --json` prints.
type requeueSummary struct {
	Requeued uint64 `json:"requeued"`
	Kept     uint64 `json:"kept"` // they stay dead letters
}

// requeueLine is a dead letter as `dlq requeue --json` prints it.
type requeueLine struct {
	Seq       uint64 `json:"sequence"`
	Subject   string `json:"subject"`
	StreamSeq uint64 `json:"stream_sequence,omitempty"` // its new one
	Kept      string `json:"kept,omitempty"`            // why it stays a dead letter
}

func (c *cli) dlqRequeue() *cobra.Command {
	var which letterOptions
	var nats natsOptions
	var logs logOptions
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "requeue",
		Short: "Publish dead letters again",
		Long: `Publish dead letters again, each to the subject it had, under a message id of its own.
A letter is removed once the stream has stored its message; an interruption in between
leaves it in both, and requeueing it again does no harm, since turns merge.

Mend what was wrong first: a message that still cannot be processed becomes a dead
letter again, with a number of its own.

Exit code 0: all are requeued. 1: some have to stay, or are not there.`,
		Example: `  afterword dlq requeue --reason session-unwritable
  afterword dlq requeue --seq 3,7
  afterword dlq requeue --all`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := which.chosen(cmd, all)
			if err != nil {
				return err
			}
			return c.withLetters(cmd.Context(), nats, logs, func(ctx context.Context, d consumer.DeadLetters) error {
				return c.requeue(ctx, d, f, asJSON)
			})
		},
	}
	f := flags{cmd.Flags()}
	f.BoolVar(&all, "all", false, "all dead letters")
	which.add(f)
	f.BoolVar(&asJSON, "json", false, "print JSON: an object for each, then how many were requeued and how many stay")
	nats.add(f, ownNATS)
	logs.add(f, "warn")
	return cmd
}

func (c *cli) requeue(ctx context.Context, d consumer.DeadLetters, f consumer.DeadFilter, asJSON bool) error {
	var requeued, kept uint64
	var failure error
	err := d.Requeue(ctx, f, func(r consumer.Requeued) {
		line := requeueLine{Seq: r.Seq, Subject: r.Subject, StreamSeq: r.As}
		text := fmt.Sprintf("%d: requeued as %d on %s\n", r.Seq, r.As, r.Subject)
		if r.Kept != nil {
			kept++
			line.Kept, text = r.Kept.Error(), fmt.Sprintf("%d: stays: %v\n", r.Seq, r.Kept)
		} else {
			requeued++
		}
		switch {
		case failure != nil:
		case asJSON:
			failure = c.printJSON(line)
		default:
			_, failure = fmt.Fprint(c.stdout, text)
		}
	})
	fmt.Fprintf(c.stderr, "%s requeued\n", letters(requeued))
	if asJSON && failure == nil {
		failure = c.printJSON(requeueSummary{requeued, kept})
	}
	if err = errors.Join(err, failure); err == nil && kept > 0 {
		err = failed(fmt.Errorf("%s cannot be requeued: see why above, and take what is of use out of them with `afterword dlq show`", letters(kept)))
	}
	return err
}
