package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	// configFlag names the file of settings.
	configFlag = "config"
	// maxSettings bounds such a file, in bytes.
	maxSettings = 1 << 20
)

// setting is a line of a file of settings.
type setting struct {
	line        int
	name, value string
}

// settings is a file of them: "name = value" a line, where name is that of a flag. Empty
// lines and those that begin with # say nothing. It may hold what some commands do not have,
// but nothing that none has.
type settings struct {
	file string
	by   map[string]setting // by environment variable, which tells settings apart
}

// readSettings reads a file. Its error names each line that is wrong, and shows no value.
func readSettings(file string, root *cobra.Command) (*settings, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fileError("--"+configFlag, err)
	}
	if len(b) > maxSettings {
		return nil, fmt.Errorf("--%s: %s is longer than %d bytes: it is no file of settings", configFlag, file, maxSettings)
	}
	known := settingsOf(root)
	s := &settings{file: file, by: make(map[string]setting)}
	var wrong []error
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxSettings+1)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\uFEFF"))
		if text == "" || text[0] == '#' {
			continue
		}
		bad := func(format string, args ...any) {
			wrong = append(wrong, fmt.Errorf("%s:%d: %s", file, n, fmt.Sprintf(format, args...)))
		}
		name, value, ok := strings.Cut(text, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok {
			bad("it is not name = value")
			continue
		}
		env := known[name]
		old, twice := s.by[env]
		switch {
		case env == "":
			bad("there is no setting %q: `afterword config show` lists them", name)
		case twice:
			bad("%s is set in line %d already", name, old.line)
		default:
			s.by[env] = setting{n, name, value}
		}
	}
	if err := errors.Join(append(wrong, lines.Err())...); err != nil {
		return nil, fmt.Errorf("--%s: %w", configFlag, err)
	}
	return s, nil
}

// settingsOf lists the settings that some command has: environment variables by the names of flags.
func settingsOf(cmd *cobra.Command) map[string]string {
	all := make(map[string]string)
	everyCommand(cmd, func(cmd *cobra.Command) {
		each(cmd.Flags(), func(f *pflag.Flag, env string) error {
			if f.Name != configFlag {
				all[f.Name] = env
			}
			return nil
		})
	})
	return all
}

// everyCommand calls fn with a command and all below it.
func everyCommand(cmd *cobra.Command, fn func(*cobra.Command)) {
	fn(cmd)
	for _, sub := range cmd.Commands() {
		everyCommand(sub, fn)
	}
}

// apply gives the flags that are not set yet the values of the file.
func (s *settings) apply(fs *pflag.FlagSet) error {
	return each(fs, func(f *pflag.Flag, env string) error {
		v, ok := s.by[env]
		if !ok || v.value == "" || f.Changed {
			return nil
		}
		where := fmt.Sprintf("%s:%d", s.file, v.line)
		if err := set(fs, f, v.value, sourceFile+" "+where); err != nil {
			return fmt.Errorf("--%s: %s: %w", configFlag, where, err)
		}
		return nil
	})
}
