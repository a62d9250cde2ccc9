package main

import (
	"context"
	"io"
)

// cli is what a command has of the outside world.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            lookup

	configFile string // --config
}

// lookup finds a variable of the environment.
type lookup func(name string) (value string, ok bool)

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, env lookup) int {
	c := &cli{stdin: stdin, stdout: stdout, stderr: stderr, env: env}
	ctx, stop := untilSignal(ctx, stderr)
	defer stop()
	root := c.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return c.report(ctx, cmd, err)
}
