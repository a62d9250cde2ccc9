package main

import (
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/internal/bench"
)

func (c *cli) benchReplay() *cobra.Command {
	var o benchOptions
	var s sourceOptions
	cmd := &cobra.Command{
		Use:   "replay",
		Short: "Rebuild transcripts from a stream into an empty folder",
		Long: `Fill a stream with sessions of 20 turns that take turns with each other, and rebuild
their transcripts in an empty folder, against reading the stream in order and doing
nothing with it.`,
		Example: `  afterword bench replay
  afterword bench replay --turns 1000000 --sessions 50000 --active 2000`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.benchmark(o, func(cfg bench.Config) (*bench.Result, error) {
				return bench.Replay(cmd.Context(), bench.ReplayConfig{Config: cfg, Source: s.source()})
			})
		},
	}
	s.add(cmd.Flags(), 200_000, 10_000)
	o.add(cmd.Flags())
	return cmd
}
