package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// sourceKey annotates a flag with where its value came from.
const sourceKey = "source"

// Sources of a value, those that win first. The last is no source but none.
const (
	sourceFlag    = "flag"
	sourceEnv     = "environment"
	sourceFile    = "file"
	sourceContext = "context"
	sourceDefault = "default"
)

// settle gives every flag that the command line did not set the value that the environment
// has for it, else the file of settings, else the NATS context, else the data folder. An empty
// value counts as none.
func (c *cli) settle(cmd *cobra.Command) error {
	fs := cmd.Flags()
	if err := c.fromEnv(fs); err != nil {
		return err
	}
	if c.configFile != "" {
		file, err := readSettings(c.configFile, cmd.Root())
		if err != nil {
			return err
		}
		if err := file.apply(fs); err != nil {
			return err
		}
	}
	if f := fs.Lookup("nats-context"); f != nil && f.Value.String() != "" {
		if err := c.fromContext(fs, f.Value.String()); err != nil {
			return err
		}
	}
	return fromDataDir(fs)
}

// fromEnv takes values of the environment.
func (c *cli) fromEnv(fs *pflag.FlagSet) error {
	return each(fs, func(f *pflag.Flag, env string) error {
		v, ok := c.env(env)
		if !ok || v == "" || f.Changed {
			return nil
		}
		if err := set(fs, f, v, sourceEnv+" "+env); err != nil {
			return fmt.Errorf("environment variable %s: %w", env, err)
		}
		return nil
	})
}

// each calls fn with every flag that is a setting, until its first error.
func each(fs *pflag.FlagSet, fn func(f *pflag.Flag, env string) error) (err error) {
	fs.VisitAll(func(f *pflag.Flag) {
		if names := f.Annotations[envKey]; err == nil && len(names) > 0 {
			err = fn(f, names[0])
		}
	})
	return err
}

// set sets a flag and notes the source.
func set(fs *pflag.FlagSet, f *pflag.Flag, value, source string) error {
	if err := fs.Set(f.Name, value); err != nil {
		return err
	}
	f.Annotations[sourceKey] = []string{source}
	return nil
}

// sourceOf says where the value of a flag came from.
func sourceOf(f *pflag.Flag) string {
	switch source := f.Annotations[sourceKey]; {
	case len(source) > 0:
		return source[0]
	case f.Changed:
		return sourceFlag
	}
	return sourceDefault
}
