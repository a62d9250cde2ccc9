package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/consumer"
)

// wholeLetter is a dead letter as `dlq show --json` prints it.
type wholeLetter struct {
	consumer.DeadLetter
	Headers nats.Header `json:"headers"`
	Payload []byte      `json:"payload_base64"`
}

func (c *cli) dlqShow() *cobra.Command {
	var server natsOptions
	var logs logOptions
	var payload, asJSON bool
	cmd := &cobra.Command{
		Use:   "show NUMBER",
		Short: "Print a dead letter",
		Long: `Print the headers of a dead letter, an empty line, and its payload, byte for byte as
it was published (but on a terminal, see --raw): what somebody said is in it. A line with Doubt says why the letter is
not known to be the message of the stream of turns that it says it is.`,
		Example: `  afterword dlq show 7
  afterword dlq show 7 --payload | jq .`,
		Args: oneArg("the number of the dead letter"),
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil || seq == 0 {
				return usage(cmd, fmt.Errorf("%q is no number of a dead letter", args[0]))
			}
			if payload && asJSON {
				return usage(cmd, errors.New("--payload and --json do not go together"))
			}
			return c.withLetters(cmd.Context(), server, logs, func(ctx context.Context, d consumer.DeadLetters) error {
				l, h, data, err := d.Letter(ctx, seq)
				if err != nil {
					return err
				}
				if asJSON {
					return c.printJSON(wholeLetter{l, h, data})
				}
				out := bufio.NewWriter(c.stdout)
				if !payload {
					fmt.Fprintf(out, "Number: %d\nGroup: %s\nSince: %s\n", l.Seq, l.Group, l.Stored.Format(time.RFC3339Nano))
					if l.Doubt != "" {
						fmt.Fprintf(out, "Doubt: %s\n", l.Doubt)
					}
					for _, name := range slices.Sorted(maps.Keys(h)) {
						for _, value := range h[name] {
							fmt.Fprintf(out, "%s: %s\n", name, value)
						}
					}
					fmt.Fprintln(out)
				}
				_, err = out.Write(data)
				return errors.Join(err, out.Flush())
			})
		},
	}
	f := flags{cmd.Flags()}
	f.BoolVar(&payload, "payload", false, "print the payload only")
	f.BoolVar(&asJSON, "json", false, "print JSON: one object, with the payload in Base64")
	server.add(f, ownNATS)
	logs.add(f, "warn")
	return cmd
}
