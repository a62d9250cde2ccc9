package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/afterword-io/afterword/internal/plural"
)

func (c *cli) config() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "config",
		Short: "Show what is set, and where; check a file of settings",
		Long: `A file of settings, given with --config, has lines as in "data-dir = /srv/afterword", with
the names of flags. Lines that begin with # say nothing. One file may serve all commands.`,
		Example: "  afterword config show\n  afterword config check --config afterword.conf",
	}, c.configShow(), c.configCheck())
}

// settingLine is a setting as `config show --json` prints it.
type settingLine struct {
	Name    string `json:"name"`
	Value   string `json:"value"` // without its secrets
	Source  string `json:"source"`
	Env     string `json:"environment"`
	Default string `json:"default"`
}

func (c *cli) configShow() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show [COMMAND]",
		Short: "Show every setting of a command, and where it comes from",
		Long: `Show every setting of a command, of ` + "`afterword serve`" + ` by default, with its value and its
source: the environment, the file given with --config, a NATS context, or the default. Passwords
and tokens are shown as ***.`,
		Example: `  afterword config show
  afterword config show consume --config afterword.conf
  afterword config show stream init --json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"serve"}
			}
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 || of == cmd.Root() {
				return usage(cmd, fmt.Errorf("there is no command %q", strings.Join(args, " ")))
			}
			if err := of.ParseFlags(nil); err != nil { // so that it has those of the root
				return err
			}
			if err := c.settle(of); err != nil {
				return err
			}
			return c.printSettings(of.Flags(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: one object per line")
	return cmd
}

func (c *cli) printSettings(fs *pflag.FlagSet, asJSON bool) error {
	t := newTable("setting", "value", "source", "environment")
	err := each(fs, func(f *pflag.Flag, env string) error {
		l := settingLine{f.Name, shown(f), sourceOf(f), env, f.DefValue}
		if asJSON {
			return c.printJSON(l)
		}
		t.AppendRow(table.Row{l.Name, l.Value, l.Source, l.Env})
		return nil
	})
	if err != nil || asJSON || t.Length() == 0 {
		return err
	}
	_, err = fmt.Fprintln(c.stdout, t.Render())
	return err
}

// checkedFile is what `config check --json` prints.
type checkedFile struct {
	File     string   `json:"file"`
	Settings int      `json:"settings"`
	Wrong    []string `json:"wrong"`
}

func (c *cli) configCheck() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check --config FILE",
		Short: "Check a file of settings",
		Long: `Check a file of settings: every name is one of a command, is there once, and has a value that
all commands that have it accept.

Exit code 0: it is right. 1: it is not; every line that is wrong is named.`,
		Example: "  afterword config check --config afterword.conf",
		Args:    noArgs,
		// The file is what is looked at, so that it is not used before that.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return c.fromEnv(cmd.Flags()) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			if c.configFile == "" {
				return usage(cmd, errors.New("--config is missing"))
			}
			n, wrong := checkSettings(c.configFile, cmd.Root())
			if asJSON {
				res := checkedFile{c.configFile, n, []string{}}
				for _, err := range wrong {
					res.Wrong = append(res.Wrong, oneLine(err))
				}
				if err := c.printJSON(res); err != nil {
					return err
				}
			}
			if len(wrong) > 0 {
				return failed(errors.Join(wrong...))
			}
			if !asJSON {
				fmt.Fprintf(c.stderr, "%s is right: %s\n", c.configFile, plural.Of(n, "setting"))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON: one object")
	return cmd
}

// checkSettings tries a file on every command.
func checkSettings(file string, root *cobra.Command) (n int, wrong []error) {
	s, err := readSettings(file, root)
	if err != nil {
		return 0, []error{err}
	}
	told := make(map[string]bool)
	everyCommand(root, func(cmd *cobra.Command) {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		fs.AddFlagSet(cmd.Flags())
		fs.VisitAll(func(f *pflag.Flag) { f.Changed = false }) // the command is not run any more
		for _, env := range slices.SortedFunc(maps.Keys(s.by), func(a, b string) int { return s.by[a].line - s.by[b].line }) {
			one := &settings{s.file, map[string]setting{env: s.by[env]}}
			if err := one.apply(fs); err != nil && !told[env] {
				told[env] = true
				wrong = append(wrong, err)
			}
		}
	})
	return len(s.by), wrong
}
