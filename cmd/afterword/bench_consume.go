package main

import (
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/bench"
)

func (c *cli) benchConsume() *cobra.Command {
	var o benchOptions
	var s sourceOptions
	var batch, replace int
	cmd := &cobra.Command{
		Use:   "consume",
		Short: "Drain a full stream until everything is durable and acknowledged",
		Long: `Fill a stream, and drain it until every turn is durable and acknowledged, with
folding on: by afterword, by fetching and acknowledging alone (a), by replacing the
file for every turn (b), and, without NATS, by appending the same batches to files
with one sync each (c).`,
		Example: `  afterword bench consume
  afterword bench consume --turns 200000 --file a.jsonl.gz --file b.jsonl.gz
  afterword bench consume --turns 1000000 --sessions 100000 --runs 3`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.benchmark(o, func(cfg bench.Config) (*bench.Result, error) {
				return bench.Consume(cmd.Context(), bench.ConsumeConfig{Config: cfg, Source: s.source(), Batch: batch, ReplaceTurns: replace})
			})
		},
	}
	f := cmd.Flags()
	s.add(f, 200_000, 3000)
	f.IntVar(&batch, "batch", consumer.DefaultBatchTurns, "turns that go through the pipeline together")
	f.IntVar(&replace, "replace-turns", bench.DefaultReplaceTurns, "turns that are drained by replacing files, which is slow; -1 leaves it out")
	o.add(f)
	return cmd
}
