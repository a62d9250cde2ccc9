package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1 // it did not work, or what was compared differs
	exitTrouble     = 2 // wrong usage, or the surroundings do not let it work
	exitInterrupted = 130
)

// failure is an error that ends the program with exitFailed. Every other one
// is trouble.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

// failed says that err is a result, not trouble.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return failure{err}
}

// report prints err in one line and returns the exit code it stands for.
func (c *cli) report(ctx context.Context, cmd *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	where := strings.Join(append(strings.Fields(cmd.CommandPath()), ""), ": ") // "afterword: session: show: "
	fmt.Fprintf(c.stderr, "%s%s\n", where, oneLine(err))
	var f failure
	var s serviceError
	switch {
	case interrupted(ctx) && !errors.As(err, &s):
		return exitInterrupted
	case errors.As(err, &f):
		return exitFailed
	}
	return exitTrouble
}

// oneLine is the text of err without line breaks, which joined errors have.
func oneLine(err error) string {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}
