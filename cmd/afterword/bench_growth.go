package main

import (
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/internal/bench"
)

func (c *cli) benchGrowth() *cobra.Command {
	var o benchOptions
	var turns, size, batch, rate int
	cmd := &cobra.Command{
		Use:   "growth",
		Short: "Let one session grow",
		Long: `Let one session grow, and measure at each power of ten what a turn costs, folds
included, what a fold costs, and how long it takes to read the last ten turns.`,
		Example: `  afterword bench growth
  afterword bench growth --turns 10000 --runs 3`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.benchmark(o, func(cfg bench.Config) (*bench.Result, error) {
				return bench.Growth(cmd.Context(), bench.GrowthConfig{Config: cfg, Turns: turns, Size: size, Batch: batch, Rate: rate})
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&turns, "turns", bench.DefaultGrowthTurns, "how many turns the session gets")
	f.IntVar(&size, "size", bench.DefaultSize, "bytes of a turn")
	f.IntVar(&batch, "batch", bench.DefaultGrowthBatch, "turns that become durable together")
	f.IntVar(&rate, "rate", bench.DefaultGrowthRate, "turns that come a second")
	o.add(f)
	return cmd
}
