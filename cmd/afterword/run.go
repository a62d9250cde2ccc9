package main

import (
	"context"
	"io"

	"github.com/afterword-io/afterword/internal/terminal"
)

// cli is what a command has of the outside world.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            lookup

	configFile string // --config
	raw        bool   // --raw
}

// lookup finds a variable of the environment.
type lookup func(name string) (value string, ok bool)

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env lookup) int {
	c := &cli{stdin: stdin, stdout: stdout, env: env}
	says := terminal.NewWriter(stderr, nil) // a log is read on a terminal sooner or later
	defer says.Flush()
	c.stderr = says
	if terminal.File(stdout) != nil {
		out := terminal.NewWriter(stdout, &c.raw)
		defer out.Flush()
		c.stdout = out
	}
	ctx, stop := untilSignal(ctx, c.stderr)
	defer stop()
	root := c.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return c.report(ctx, cmd, err)
}
