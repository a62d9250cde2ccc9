package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/bench"
)

func (c *cli) benchConsume() *cobra.Command {
	var o benchOptions
	var s sourceOptions
	var batch, replace, tailRate, documentRate int
	var endToEnd time.Duration
	cmd := &cobra.Command{
		Use:   "consume",
		Short: "Drain a full stream until everything is durable and acknowledged",
		Long: `Fill a stream, and drain it until every turn is durable and acknowledged, with
folding on: by afterword, by fetching and acknowledging alone (a), by replacing the
file for every turn (b), and, without NATS, by appending the same batches to files
with one sync each (c). Then follow turns from the call of Publish until they are
durable, and until their document has them, at a rate each, and after a burst.`,
		Example: `  afterword bench consume
  afterword bench consume --turns 200000 --file a.jsonl.gz --file b.jsonl.gz
  afterword bench consume --turns 1000000 --sessions 100000 --runs 3`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.benchmark(o, func(cfg bench.Config) (*bench.Result, error) {
				return bench.Consume(cmd.Context(), bench.ConsumeConfig{Config: cfg, Source: s.source(), Batch: batch, ReplaceTurns: replace,
					TailRate: tailRate, DocumentRate: documentRate, For: endToEnd})
			})
		},
	}
	f := cmd.Flags()
	s.add(f, 200_000, 3000)
	f.IntVar(&batch, "batch", consumer.DefaultBatchTurns, "turns that go through the pipeline together")
	f.IntVar(&replace, "replace-turns", bench.DefaultReplaceTurns, "turns that are drained by replacing files, which is slow; -1 leaves it out")
	f.IntVar(&tailRate, "rate", bench.DefaultTailRate, "turns a second that are followed from Publish until they are durable")
	f.IntVar(&documentRate, "document-rate", bench.DefaultDocumentRate, "turns a second that are followed from Publish until their document has them")
	f.DurationVar(&endToEnd, "for", bench.DefaultEndToEndFor, "how long turns are followed, and how long the burst is after which documents are waited for; -1s leaves it out")
	o.add(f)
	return cmd
}
