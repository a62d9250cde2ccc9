package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/afterword-io/afterword/internal/bench"
	"github.com/afterword-io/afterword/internal/folder"
)

// benchOptions are the flags that every benchmark has.
type benchOptions struct {
	runs       int
	dir        string
	natsServer string
	profile    string
	plot       string
	json       bool
}

func (o *benchOptions) add(f *pflag.FlagSet) {
	f.IntVar(&o.runs, "runs", bench.DefaultRuns, "how often everything is measured; printed are median, least and most")
	f.StringVar(&o.dir, "dir", "", "`FOLDER` in which a scratch folder is made, on the kind of disk that counts; none means the system's for temporary files")
	f.StringVar(&o.natsServer, "nats-server", "", "`PATH` of a nats-server; none means the one in this program, as a process of its own")
	f.StringVar(&o.profile, "profile", "", "`FOLDER` for CPU profiles of what is measured")
	f.StringVar(&o.plot, "plot", "", "draw the result into this SVG `FILE`")
	f.BoolVar(&o.json, "json", false, "print the result as JSON, with the figures of every run")
}

// source are the flags that say which turns there are.
type sourceOptions struct {
	turns, sessions, active, size int
	files                         []string
}

func (o *sourceOptions) add(f *pflag.FlagSet, turns, sessions int) {
	f.IntVar(&o.turns, "turns", turns, "how many turns there are")
	f.IntVar(&o.sessions, "sessions", sessions, "over how many sessions they are spread")
	f.IntVar(&o.active, "active", 0, "how many sessions take turns with each other before the next begin; 0 means all")
	f.IntVar(&o.size, "size", bench.DefaultSize, "bytes of a turn, as it is published")
	f.StringArrayVar(&o.files, "file", nil, "real conversations instead, a `FILE` of JSON lines, gzip or not; again for several; repeated up to --turns, each time as new sessions")
}

func (o *sourceOptions) source() bench.Source {
	return bench.Source{Turns: o.turns, Sessions: o.sessions, Active: o.active, Size: o.size, Files: o.files}
}

func (c *cli) bench() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "bench",
		Short: "Measure this machine, against a baseline and a floor",
		Long: `Measure how fast turns are stored, written and rebuilt on this machine, each time
against a baseline and a floor in the same run, so that the ratios hold on any
machine. Servers are processes of their own and sync every message. What each
figure means is in docs/bench.md.`,
		Example: "  afterword bench publish\n  afterword bench response --users 50 --condition healthy",
	},
		c.benchPublish(),
		c.benchConsume(),
		c.benchReplay(),
		c.benchGrowth(),
		c.benchResponse(),
		c.benchServer(),
		c.benchWorker(),
	)
}

// benchmark runs one benchmark, with its progress, and prints what it found out.
func (c *cli) benchmark(o benchOptions, run func(bench.Config) (*bench.Result, error)) error {
	if o.runs < 1 {
		return errors.New("--runs is not positive")
	}
	phases := &phases{c: c}
	defer phases.stop()
	r, err := run(bench.Config{
		Runs: o.runs, Dir: o.dir, NATSServer: o.natsServer, Profile: o.profile,
		Progress: phases.show,
		Say:      func(line string) { fmt.Fprintln(c.stderr, line) },
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
	return c.printBench(r)
}

// phases shows one meter after the other.
type phases struct {
	c    *cli
	what string
	m    *meter
}

func (p *phases) show(what string, done, total int) {
	if what != p.what {
		p.stop()
		p.what, p.m = what, p.c.meter(what)
	}
	p.m.set(uint64(done), uint64(total))
}

func (p *phases) stop() {
	p.m.stop()
	p.m = nil
}

// benchServer is the nats-server of benchmarks.
func (c *cli) benchServer() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "nats-server", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return bench.ServeNATS(cmd.Context(), file) },
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration `FILE`")
	return cmd
}

// benchWorker is a process that is measured.
func (c *cli) benchWorker() *cobra.Command {
	return &cobra.Command{
		Use: "worker", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return bench.Work(cmd.Context(), c.stdin, c.stdout) },
	}
}
