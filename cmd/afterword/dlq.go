package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

func (c *cli) dlq() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "dlq",
		Short: "Look at dead letters, give them back, or remove them",
		Long: `Messages that no consumer can process are kept as dead letters, with the reason.
Look at them, mend what was wrong, and requeue them; or remove what nobody needs.`,
		Example: "  afterword dlq ls --by-reason\n  afterword dlq show 7\n  afterword dlq requeue --reason session-unwritable",
	}, c.dlqList(), c.dlqShow(), c.dlqRequeue(), c.dlqRemove())
}

// letterOptions say which dead letters a command is about.
type letterOptions struct {
	seqs                   []uint
	group, reason, session string
	since                  since
}

func (o *letterOptions) add(f flags) {
	f.UintSliceVar(&o.seqs, "seq", nil, "only the dead letters with these `NUMBERS`, as in 3 or 3,7")
	f.StringVar(&o.group, "group", "", "only those of the consumer group `NAME`")
	f.StringVar(&o.reason, "reason", "", "only those of a `KIND`: json, rule, size, type, subject, future, redacted, session-too-large or session-unwritable; any other text has to be in the reason")
	f.StringVar(&o.session, "session", "", "only those that were published on the subject of the session `ID`")
	f.Var(&o.since, "since", "only those that are dead since a `TIME`, as in 2026-01-31T12:00:00Z, or for no longer than 12h or 30d")
}

func (o *letterOptions) filter(cmd *cobra.Command) (f consumer.DeadFilter, err error) {
	f = consumer.DeadFilter{Group: o.group, Reason: o.reason, Session: o.session, Since: o.since.at}
	for _, name := range []string{"group", "reason", "session", "seq"} {
		if fl := cmd.Flags().Lookup(name); fl.Changed && (fl.Value.String() == "" || fl.Value.String() == "[]") {
			return f, usage(cmd, fmt.Errorf("--%s is empty", name))
		}
	}
	for _, seq := range o.seqs {
		f.Seqs = append(f.Seqs, uint64(seq))
	}
	if o.group != "" {
		if err := stream.CheckGroup(o.group); err != nil {
			return f, usage(cmd, fmt.Errorf("--group: %w", err))
		}
	}
	if o.session != "" {
		if err := transcript.CheckSessionID(o.session); err != nil {
			return f, usage(cmd, fmt.Errorf("--session: %w", err))
		}
	}
	return f, nil
}

// chosen is filter for commands that change something: they want to be told what.
func (o *letterOptions) chosen(cmd *cobra.Command, all bool) (f consumer.DeadFilter, err error) {
	if f, err = o.filter(cmd); err != nil {
		return f, err
	}
	some := len(o.seqs) > 0 || o.group != "" || o.reason != "" || o.session != "" || !o.since.at.IsZero()
	switch {
	case all && some:
		return f, usage(cmd, errors.New("--all does not go together with what chooses some"))
	case !all && !some:
		return f, usage(cmd, errors.New("say which: --seq, --group, --reason, --session, --since, or --all"))
	}
	return f, nil
}

// withLetters calls fn with the dead letters.
func (c *cli) withLetters(ctx context.Context, nats natsOptions, logs logOptions, fn func(context.Context, consumer.DeadLetters) error) error {
	return c.withStream(ctx, nats, logs, "dlq", func(ctx context.Context, js jetstream.JetStream) error {
		err := fn(ctx, consumer.DeadLetters{JS: js})
		if errors.Is(err, consumer.ErrNoLetter) {
			err = failed(fmt.Errorf("%w: `afterword dlq ls` lists those that are there", err))
		}
		return err
	})
}

// letters counts dead letters in words.
func letters(n uint64) string {
	if n == 1 {
		return "1 dead letter"
	}
	return strconv.FormatUint(n, 10) + " dead letters"
}
