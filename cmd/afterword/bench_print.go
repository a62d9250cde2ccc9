package main

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/afterword-io/afterword/internal/bench"
)

// printBench prints the table of a benchmark.
func (c *cli) printBench(r *bench.Result) error {
	m := r.Machine
	fmt.Fprintf(c.stdout, "bench %s: %d runs in %.0f s; %d CPUs, %s, %s, %s", r.Bench, runsOf(r), r.Seconds, m.CPUs, m.Kernel, m.FileSystem, m.Go)
	if m.NATS != "" {
		fmt.Fprintf(c.stdout, ", nats-server %s", m.NATS)
	}
	fmt.Fprintf(c.stdout, "; load before %s\n", m.Load)
	var sizes []string
	for _, s := range r.Settings {
		sizes = append(sizes, fmt.Sprintf("%s %v", s.Name, s.Value))
	}
	fmt.Fprintf(c.stdout, "%s\n\n", strings.Join(sizes, ", "))
	t := newTable("what", "median", "least", "most", "unit", "target", "")
	for _, m := range r.Measures {
		target, reached := "", ""
		if m.Target != nil {
			target, reached = "≥ "+bench.Short(m.Target.Value), "not reached"
			if m.Target.AtMost {
				target = "≤ " + bench.Short(m.Target.Value)
			}
			if m.Target.Reached {
				reached = "reached"
			}
		}
		t.AppendRow(table.Row{m.Name, bench.Short(m.Median), bench.Short(m.Min), bench.Short(m.Max), m.Unit, target, reached})
	}
	if _, err := fmt.Fprintln(c.stdout, t.Render()); err != nil {
		return err
	}
	for _, note := range r.Notes {
		fmt.Fprintln(c.stdout, note)
	}
	return nil
}

func runsOf(r *bench.Result) (n int) {
	for _, m := range r.Measures {
		n = max(n, len(m.Runs))
	}
	return n
}
