package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/internal/stream"
)

func (c *cli) streamCommand() *cobra.Command {
	return c.group(&cobra.Command{
		Use:     "stream",
		Short:   "Create the streams, or look at them",
		Example: "  afterword stream info",
	}, c.streamInit(), c.streamInfo())
}

func (c *cli) streamInit() *cobra.Command {
	var nats natsOptions
	var limits streamOptions
	var logs logOptions
	var how stream.Repair
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create the streams, or repair their settings",
		Long: `Create the streams of turns and of dead letters where they do not exist, and
repair the settings of those that do, and of groups, where that loses nothing. The limits
below are applied to an existing stream only when they are given; others are removed.

What no server lets anybody change needs --recreate: the messages go into a mirror and
back, with their numbers and times. Publishers keep their turns meanwhile, and groups read
all turns again, which adds nothing twice. Interrupted and run again it goes on.

Services create the streams themselves; this is for limits of your own, and for
what a service refuses.`,
		Example: "  afterword stream init --replicas 3 --max-age 90d --max-bytes 100GiB",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withStreams(cmd.Context(), nats, logs, func(ctx context.Context, js jetstream.JetStream) error {
				if err := stream.Init(ctx, js, limits.config(), how); err != nil {
					return err
				}
				infos, err := stream.Info(ctx, js)
				if err != nil {
					return err
				}
				if asJSON {
					return c.printJSON(infos)
				}
				for _, s := range infos {
					fmt.Fprintf(c.stdout, "%s: %s\n", s.Name, limitsOf(s))
				}
				if left := problems(infos); left != nil { // init may not change it
					fmt.Fprintf(c.stderr, "left as it was: %s\n", oneLine(left))
				}
				return nil
			})
		},
	}
	f := flags{cmd.Flags()}
	nats.add(f, ownNATS)
	limits.add(f, "")
	f.BoolVar(&how.Recreate, "recreate", false, "make a stream anew, with its messages, where nothing else repairs it")
	f.BoolVar(&how.Resume, "resume", false, "end the pauses of groups")
	f.BoolVar(&asJSON, "json", false, "print JSON: an array of both streams, as they are then")
	logs.add(f, "warn")
	return cmd
}

func (c *cli) streamInfo() *cobra.Command {
	var nats natsOptions
	var logs logOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Show the streams and who consumes them",
		Long: `Show both streams, their limits and consumers; readers without a name of their own are
counted, and listed with --json. Each setting of a stream or a group under which turns are
refused or lost, or commands fail, is named with the command that repairs it, and the exit
code is 1.`,
		Example: "  afterword stream info --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.withStreams(cmd.Context(), nats, logs, func(ctx context.Context, js jetstream.JetStream) error {
				infos, err := stream.Info(ctx, js)
				if errors.Is(err, stream.ErrNoStream) {
					return failed(fmt.Errorf("%w: create it with `afterword stream init`, or start a service", err))
				}
				if err != nil {
					return err
				}
				if asJSON {
					err = c.printJSON(infos)
				} else {
					err = c.printStreams(infos)
				}
				return errors.Join(err, problems(infos))
			})
		},
	}
	f := flags{cmd.Flags()}
	nats.add(f, ownNATS)
	logs.add(f, "warn")
	f.BoolVar(&asJSON, "json", false, "print JSON: an array of both streams")
	return cmd
}

// withStreams calls fn with a connection.
func (c *cli) withStreams(ctx context.Context, nats natsOptions, logs logOptions, fn func(context.Context, jetstream.JetStream) error) error {
	log, err := c.logger(logs)
	if err != nil {
		return err
	}
	nc, js, err := connectOnce(ctx, nats, "stream", log)
	if err != nil {
		return err
	}
	defer nc.Close()
	return fn(ctx, js)
}

func problems(infos []stream.StreamInfo) error {
	var found []string
	for _, s := range infos {
		for _, p := range s.Problems {
			found = append(found, s.Name+": "+p.String())
		}
		for _, k := range s.Consumers {
			for _, p := range k.Problems {
				found = append(found, "group "+k.Name+": "+p.String())
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	return failed(errors.New(strings.Join(found, "; ")))
}

func limitsOf(s stream.StreamInfo) string {
	age, size := "for ever", "without limit"
	if s.MaxAge > 0 {
		age = "for " + days(s.MaxAge)
	}
	if s.MaxBytes > 0 {
		size = "up to " + formatBytes(s.MaxBytes)
	}
	copies := strconv.Itoa(s.Replicas) + " replica"
	if s.Replicas != 1 {
		copies += "s"
	}
	return fmt.Sprintf("%s, kept %s, %s", copies, age, size)
}

// days writes a long time in days where that is exact.
func days(d time.Duration) string {
	if d%(24*time.Hour) == 0 {
		return strconv.FormatInt(int64(d/(24*time.Hour)), 10) + "d"
	}
	return shortDuration(d)
}

func (c *cli) printStreams(infos []stream.StreamInfo) error {
	streams := newTable("stream", "messages", "bytes", "sessions", "first", "last", "limits")
	consumers := newTable("stream", "consumer", "lag", "waiting", "unacknowledged", "redelivered")
	groups, readers := 0, 0
	for _, s := range infos {
		subjects := "-"
		if s.Name == stream.Turns {
			subjects = strconv.FormatUint(s.Subjects, 10)
		}
		streams.AppendRow(table.Row{s.Name, s.Messages, roughBytes(s.Bytes), subjects, moment(s.FirstTime), moment(s.LastTime), limitsOf(s)})
		for _, k := range s.Consumers {
			if !k.Durable { // its lag is nobody's
				readers++
				continue
			}
			consumers.AppendRow(table.Row{s.Name, k.Name, k.Lag(), k.Pending, k.AckPending, k.Redelivered})
			groups++
		}
	}
	text := streams.Render() + "\n"
	if groups > 0 {
		text += "\n" + consumers.Render() + "\n"
	}
	text += fmt.Sprintf("\na turn may be %d bytes long: max_payload of the server, or max_msg_size of a stream, less %d\n", infos[0].PayloadLimit, stream.PayloadReserve)
	if readers > 0 {
		text += fmt.Sprintf("\nreaders that are gone when they have read (events, consoles, replays): %d\n", readers)
	}
	_, err := io.WriteString(c.stdout, text)
	return err
}

func moment(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
