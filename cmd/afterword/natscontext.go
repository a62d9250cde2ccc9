package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// contextFlags are the members of a context of the nats command, and the flags that
// they stand for.
func contextFlags() map[string]string {
	return map[string]string{
		"url": "nats-url", "creds": "nats-creds", "nkey": "nats-nkey", "user": "nats-user", "password": "nats-password",
		"token": "nats-token", "ca": "nats-ca", "cert": "nats-cert", "key": "nats-key",
		"jetstream_domain": "nats-js-domain", "jetstream_api_prefix": "nats-js-prefix", "inbox_prefix": "nats-inbox-prefix",
	}
}

// contextAsides are members that change nothing about how afterword connects.
func contextAsides() []string {
	return []string{"name", "description", "color_scheme", "jetstream_event_prefix"}
}

// together are the flags of which one at most is given: when one is given otherwise than by a
// context, the members of the context that stand for any of them are left out.
func together() [][]string {
	return [][]string{
		{"nats-creds", "nats-nkey", "nats-user", "nats-password", "nats-token"},
		{"nats-js-domain", "nats-js-prefix"},
	}
}

// fromContext takes what a context says into the flags that nothing else has set.
func (c *cli) fromContext(flags *pflag.FlagSet, name string) error {
	path, err := c.contextFile(name)
	if err != nil {
		return fmt.Errorf("--nats-context: %w", err)
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--nats-context %s: %w: `nats context ls` lists those that are there", name, err)
	}
	if err != nil {
		return fmt.Errorf("--nats-context %s: %w", name, err)
	}
	var members map[string]any
	if err := json.Unmarshal(b, &members); err != nil {
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			return fmt.Errorf("--nats-context %s: %s is not JSON at byte %d: give a context that `nats context` wrote", name, path, syntax.Offset)
		}
		return fmt.Errorf("--nats-context %s: %s is not JSON of an object: give a context that `nats context` wrote", name, path)
	}
	var given []string // otherwise, or instead of what is
	for _, group := range together() {
		if slices.ContainsFunc(group, func(flag string) bool {
			f := flags.Lookup(flag)
			return f != nil && f.Value.String() != "" && flag != "nats-password" // it may go with the context's user
		}) {
			given = append(given, group...)
		}
	}
	known := contextFlags()
	for _, member := range slices.Sorted(maps.Keys(members)) {
		v := members[member]
		if v == nil || v == "" || v == false || slices.Contains(contextAsides(), member) {
			continue
		}
		flag, ok := known[member]
		text, isText := v.(string)
		if !ok || !isText {
			return fmt.Errorf("--nats-context %s: %s has %s, with which afterword cannot connect: give the rest with flags of their own instead", name, path, member)
		}
		f := flags.Lookup(flag)
		if f == nil || f.Changed || slices.Contains(given, flag) {
			continue
		}
		if err := set(flags, f, text, sourceContext+" "+name); err != nil {
			return fmt.Errorf("--nats-context %s: %s: %w", name, member, err)
		}
	}
	return nil
}

// contextFile is where a context is: a file that ends with .json, or a name.
func (c *cli) contextFile(name string) (string, error) {
	switch {
	case strings.HasSuffix(name, ".json"):
		return name, nil
	case strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, "."):
		return "", fmt.Errorf("%q is neither a name nor a .json file", name)
	}
	dir, ok := c.env("XDG_CONFIG_HOME")
	if !ok || dir == "" {
		home, ok := c.env("HOME")
		if !ok || home == "" {
			return "", errors.New("HOME is not set, so nobody knows where contexts are: give the .json file")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "nats", "context", name+".json"), nil
}
