package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/internal/bench"
)

func (c *cli) benchPublish() *cobra.Command {
	var o benchOptions
	var s sourceOptions
	var nodes, batch, rate int
	var callsFor time.Duration
	cmd := &cobra.Command{
		Use:   "publish",
		Short: "Store turns, and time the call of Publish",
		Long: `Measure how many turns a second become stored, against raw nats.go with the same
payloads: asynchronous, and in atomic batches. Then time the call of Publish: at a
rate, as fast as turns are stored, and while NATS hangs or is down.`,
		Example: `  afterword bench publish
  afterword bench publish --nodes 3 --plot publish.svg`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.benchmark(o, func(cfg bench.Config) (*bench.Result, error) {
				return bench.Publish(cmd.Context(), bench.PublishConfig{Config: cfg, Source: s.source(), Nodes: nodes, Batch: batch, Rate: rate, For: callsFor})
			})
		},
	}
	f := cmd.Flags()
	s.add(f, bench.DefaultPublishTurns, 1000)
	f.IntVar(&nodes, "nodes", 1, "NATS servers, 1 or 3; each of them stores every turn")
	f.IntVar(&batch, "batch", bench.DefaultPublishBatch, "turns of a raw atomic batch")
	f.IntVar(&rate, "rate", bench.DefaultCallRate, "calls of Publish a second that are timed")
	f.DurationVar(&callsFor, "for", bench.DefaultCallsFor, "how long they are timed in each condition")
	o.add(f)
	return cmd
}
