package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// root is the command tree.
func (c *cli) root() *cobra.Command {
	root := c.group(&cobra.Command{
		Use:   "afterword",
		Short: "Keep chat transcripts out of the response path",
		Long: `afterword takes chat persistence out of the response path: the reply goes out
first, the transcript comes after.

Every flag that says "[$NAME]" can be set in the environment too, and in a file (--config)
of lines as in "data-dir = /srv/afterword"; of several a flag wins, then the environment, then the
file, then a NATS context.
Exit codes: 0 done, 1 failed or differs, 2 usage or trouble, 130 interrupted.`,
		Example: `  afterword serve
  afterword publish --file turns.jsonl
  afterword session show abc`,
	},
		c.serve(),
		c.gateway(),
		c.consume(),
		c.consoleCommand(),
		c.publish(),
		c.importCommand(),
		c.session(),
		c.replay(),
		c.verify(),
		c.dlq(),
		c.status(),
		c.streamCommand(),
		c.config(),
		c.bench(),
		c.man(),
		c.version(),
	)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		return c.settle(cmd)
	}
	flags{root.PersistentFlags()}.text(&c.configFile, "", configFlag, "", "`FILE` with settings, one a line")
	root.PersistentFlags().BoolVar(&c.raw, "raw", false, "on a terminal, print control and invisible characters as they are")
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	c.completions(root)
	return root
}

// group makes a command of commands: it shows its help, and refuses what it does
// not have.
func (c *cli) group(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		hint := ""
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			hint = fmt.Sprintf(" (did you mean %s?)", strings.Join(s, " or "))
		}
		return usage(cmd, fmt.Errorf("unknown command %q%s", args[0], hint))
	}
	cmd.SuggestionsMinimumDistance = 2
	for _, sub := range subs {
		cmd.AddCommand(sub)
	}
	return cmd
}

// usage is an error in how cmd was called.
func usage(cmd *cobra.Command, err error) error {
	return fmt.Errorf("%w: see `%s --help`", err, cmd.CommandPath())
}

// noArgs refuses positional arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, fmt.Errorf("unexpected argument %q", args[0]))
	}
	return nil
}

// oneArg asks for exactly one positional argument.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usage(cmd, fmt.Errorf("%s is missing", what))
		case len(args) > 1:
			return usage(cmd, fmt.Errorf("unexpected argument %q", args[1]))
		}
		return nil
	}
}
