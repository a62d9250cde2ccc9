package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/internal/bench"
	"github.com/afterword-io/afterword/internal/folder"
)

// responseOptions are the flags of `bench response`.
type responseOptions struct {
	benchOptions
	users              []int
	conditions         []string
	writers            []string
	think, duration    time.Duration
	rate               int
	checks, onlyChecks bool
}

func (c *cli) benchResponse() *cobra.Command {
	var o responseOptions
	cmd := &cobra.Command{
		Use:   "response",
		Short: "How long users wait for an answer, while all is well and while it is not",
		Long: `Have many users chat at the same time with a small chat API, whose model takes a
fixed time, and measure how long they wait for an answer: with nothing written
(none), with Redis and a file written inside the request as the older system did
(inline), and with afterword; while all is well, while Redis hangs, while the
transcripts' disk hangs, and while NATS is down. Then end the fault, and count the
accepted turns that are in no transcript.

To hang a disk takes root, and so do the six hosts of --checks; without it they are
reported as skipped. Mounts and network namespaces are removed at the end, even of a
run that is interrupted or killed.`,
		Example: `  afterword bench response --users 50 --condition healthy
  sudo afterword bench response --runs 5 --plot response.svg
  sudo afterword bench response --checks-only`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runBenchResponse(cmd, o) },
	}
	f := cmd.Flags()
	f.IntSliceVar(&o.users, "users", bench.DefaultUsers(), "how many users chat at the same time, each number by itself")
	f.StringSliceVar(&o.conditions, "condition", names(bench.Conditions()), "what goes wrong meanwhile, each by itself")
	f.StringSliceVar(&o.writers, "writer", names(bench.Writers()), "who writes")
	f.DurationVar(&o.think, "think", bench.DefaultThink, "how long the model takes")
	f.DurationVar(&o.duration, "duration", bench.DefaultCellDuration, "how long is measured for each condition, number of users and writer")
	f.IntVar(&o.rate, "rate", bench.DefaultRate, "turns a second that all users together begin at most, by pausing before their next question; 0 means without a pause")
	f.BoolVar(&o.checks, "checks", false, "do the older load test's five checks too")
	f.BoolVar(&o.onlyChecks, "checks-only", false, "do nothing but those")
	o.add(f)
	f.Lookup("runs").DefValue, o.runs = strconv.Itoa(bench.DefaultResponseRuns), bench.DefaultResponseRuns // a run takes minutes
	cmd.AddCommand(c.benchResponsePart())
	return cmd
}

// benchResponsePart is one of the load test's processes.
func (c *cli) benchResponsePart() *cobra.Command {
	return &cobra.Command{
		Use: "part", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.ResponsePart(cmd.Context(), c.stdin, c.stdout)
		},
	}
}

func (c *cli) runBenchResponse(cmd *cobra.Command, o responseOptions) error {
	switch {
	case o.runs < 1:
		return usage(cmd, errors.New("--runs is not positive"))
	case o.rate < 0:
		return usage(cmd, errors.New("--rate is negative"))
	case o.duration <= 0:
		return usage(cmd, errors.New("--duration is not positive"))
	case o.think <= 0:
		return usage(cmd, errors.New("--think is not positive"))
	case o.rate == 0:
		o.rate = -1 // without a pause
	}
	phases := &phases{c: c}
	defer phases.stop()
	r, err := bench.Response(cmd.Context(), bench.ResponseConfig{
		Config: bench.Config{
			Runs: o.runs, Dir: o.dir, NATSServer: o.natsServer, Profile: o.profile, Progress: phases.show,
			Say: func(line string) { fmt.Fprintln(c.stderr, line) },
		},
		Users: o.users, Conditions: typed[bench.Condition](o.conditions), Writers: typed[bench.Writer](o.writers),
		Think: o.think, Duration: o.duration, Rate: o.rate, Checks: o.checks, OnlyChecks: o.onlyChecks,
	})
	phases.stop()
	if err != nil {
		return err
	}
	if o.plot != "" {
		if err := errors.Join(os.WriteFile(o.plot, r.Plot(), 0o644), folder.Inherit(o.plot)); err != nil {
			return fileError("--plot", err)
		}
	}
	if o.json {
		return c.printJSON(r)
	}
	if len(r.Cells) > 0 {
		if err := c.printCells(r.Cells); err != nil {
			return err
		}
	}
	return c.printBench(r.Result)
}

// printCells prints one line for each condition, number of users and writer.
func (c *cli) printCells(cells []bench.ResponseCell) error {
	t := newTable("condition", "users", "writer", "turns", "p50", "p95", "p99", "p99.9", "max", "p95/none", "errors", "lost", "history p95", "save p95", "lag p99", "lag max", "healed")
	for _, cell := range cells {
		row := table.Row{cell.Condition, cell.Users, cell.Writer}
		if cell.Skipped != "" {
			t.AppendRow(append(row, cell.Skipped))
			continue
		}
		toNone := ""
		if cell.ToNone != nil {
			toNone = strconv.FormatFloat(cell.ToNone.Median, 'f', 3, 64)
		}
		lost, healed := bench.Short(cell.Lost.Max), bench.Short(cell.Healed.Median)+" s"
		if cell.Writer == bench.WriterNone {
			lost, healed = "all", ""
		}
		for _, m := range []bench.Measure{cell.Turns, cell.P50, cell.P95, cell.P99, cell.P999, cell.Max} {
			row = append(row, bench.Short(m.Median))
		}
		row = append(row, toNone, bench.Short(cell.Errors.Max), lost, bench.Short(cell.History.Median), bench.Short(cell.Save.Median), bench.Short(cell.LagP99.Median), bench.Short(cell.LagMax.Median), healed)
		t.AppendRow(row)
	}
	_, err := fmt.Fprintf(c.stdout, "%s\n\nTimes in ms, medians of the runs; errors and lost turns of the worst run.\n\n", t.Render())
	return err
}

func names[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return out
}

func typed[T ~string](list []string) []T {
	out := make([]T, len(list))
	for i, s := range list {
		out[i] = T(s)
	}
	return out
}
