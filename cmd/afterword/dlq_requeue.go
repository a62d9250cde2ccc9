package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/consumer"
)

// requeueSummary ends what `dlq requeue --json` prints.
type requeueSummary struct {
	Requeued uint64 `json:"requeued"`
	Kept     uint64 `json:"kept"` // they stay dead letters
	Back     uint64 `json:"back"` // they are dead letters again
}

// requeueLine is a dead letter as `dlq requeue --json` prints it.
type requeueLine struct {
	Seq       uint64 `json:"sequence"`
	Subject   string `json:"subject"`
	StreamSeq uint64 `json:"stream_sequence,omitempty"` // its new one
	Kept      string `json:"kept,omitempty"`            // why it stays a dead letter
	Level     string `json:"level,omitempty"`           // of its message: written; stored, when that is all that is known; or dead again
	Back      uint64 `json:"back,omitempty"`            // the dead letter that it is now
	Reason    string `json:"reason,omitempty"`          // of that
}

func (c *cli) dlqRequeue() *cobra.Command {
	var which letterOptions
	var nats natsOptions
	var logs logOptions
	var how consumer.RequeueConfig
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "requeue",
		Short: "Publish dead letters again",
		Long: `Publish dead letters again, each to the subject it had, under a message id of its own.
A letter is removed once the stream has stored its message; an interruption in between
leaves it in both, and requeueing it again does no harm, since turns merge.

Mend what was wrong first: a message that still cannot be processed becomes a dead
letter again, with a number of its own. For up to --wait the command looks what the
consumers make of the messages.

A letter is requeued only if it equals the message that it was made of, in the stream of
turns: anybody who may publish to NATS can make up a letter. Where the stream has dropped
that message, look at the letter with ` + "`afterword dlq show`" + `, and use --force.

Exit code 0: all are requeued, and none is known to have come back. 1: some have to stay,
came back, or are not there.`,
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
				return c.requeue(ctx, d, f, how, asJSON)
			})
		},
	}
	f := flags{cmd.Flags()}
	f.BoolVar(&all, "all", false, "all dead letters")
	which.add(f)
	f.BoolVar(&how.Force, "force", false, "also letters that do not equal their message in the stream of turns")
	f.wait(&how.Verdict, consumer.DefaultVerdict, "wait", "maximum time to wait for what consumers make of them")
	f.BoolVar(&asJSON, "json", false, "print JSON: an object for each, then how many were requeued, stay, and came back")
	nats.add(f, ownNATS)
	logs.add(f, "warn")
	return cmd
}

func (c *cli) requeue(ctx context.Context, d consumer.DeadLetters, f consumer.DeadFilter, how consumer.RequeueConfig, asJSON bool) error {
	var sum requeueSummary
	var failure error
	err := d.Requeue(ctx, f, how, func(r consumer.Requeued) {
		line := requeueLine{Seq: r.Seq, Subject: r.Subject, StreamSeq: r.As}
		text := fmt.Sprintf("%d: requeued as %d on %s", r.Seq, r.As, r.Subject)
		switch {
		case r.Kept != nil:
			sum.Kept++
			line.Kept, text = r.Kept.Error(), fmt.Sprintf("%d: stays: %v", r.Seq, r.Kept)
		case r.Back != nil:
			sum.Back++
			line.Level, line.Back, line.Reason = "dead", r.Back.Seq, r.Back.Reason
			text = fmt.Sprintf("%d: came back as %d: %s", r.Seq, r.Back.Seq, r.Back.Reason)
		case r.Written:
			sum.Requeued++
			line.Level, text = "written", text+": written"
		default:
			sum.Requeued++
			line.Level, text = "stored", text+": stored, and not written yet"
		}
		switch {
		case failure != nil:
		case asJSON:
			failure = c.printJSON(line)
		default:
			_, failure = fmt.Fprintln(c.stdout, text)
		}
	})
	fmt.Fprintf(c.stderr, "%s requeued\n", letters(sum.Requeued))
	if asJSON && failure == nil {
		failure = c.printJSON(sum)
	}
	if err = errors.Join(err, failure); err != nil {
		return err
	}
	var why []string
	if sum.Back > 0 {
		why = append(why, fmt.Sprintf("%s came back: mend what the reasons above say, and requeue them again", letters(sum.Back)))
	}
	if sum.Kept > 0 {
		why = append(why, fmt.Sprintf("%s cannot be requeued: see why above, and look at them with `afterword dlq show`; --force requeues those that are only not known to be genuine", letters(sum.Kept)))
	}
	if len(why) > 0 {
		return failed(errors.New(strings.Join(why, "; ")))
	}
	return nil
}
