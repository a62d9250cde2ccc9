package main

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
	"pgregory.net/rapid"
)

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]int64{"1": 1, "10B": 10, "4KiB": 4096, "1 GiB": 1 << 30, "3kB": 3000, "2TB": 2e12} {
		if n, err := parseBytes(s); n != want || err != nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "GiB", "1.5GiB", "1gib", "9223372036854775807TiB", "1e3"} {
		if n, err := parseBytes(s); err == nil {
			t.Errorf("%q was taken as %d", s, n)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 1<<61).Draw(t, "n")
		if got, err := parseBytes(formatBytes(n)); got != n || err != nil {
			t.Fatalf("%d is written %q and read as %d, %v", n, formatBytes(n), got, err)
		}
	})
}

func TestAge(t *testing.T) {
	for s, want := range map[string]time.Duration{"30d": 720 * time.Hour, "1.5d": 36 * time.Hour, "90m": 90 * time.Minute, "unlimited": -1} {
		var d time.Duration
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags{fs}.age(&d, "age", "AGE", "")
		if err := fs.Parse([]string{"--age", s}); err != nil || d != want {
			t.Errorf("%q: %s, %v", s, d, err)
		}
	}
	for _, s := range []string{"0d", "-1d", "NaNd", "Infd", "1e30d", "0s", "99ms", "d", "", "soon"} {
		var d time.Duration
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags{fs}.age(&d, "age", "AGE", "")
		if err := fs.Parse([]string{"--age", s}); err == nil {
			t.Errorf("%q was taken as %s", s, d)
		}
	}
}

func TestShortDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Hour: "1h", 90 * time.Minute: "1h30m", 20 * time.Second: "20s", 500 * time.Millisecond: "500ms", 0: "0s", 10 * time.Minute: "10m",
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%v: %q", d, got)
		}
	}
}

// Every option has an environment variable of its own, and every command works
// with no flags at all as far as parsing goes.
func TestFlags(t *testing.T) {
	c := &cli{env: func(string) (string, bool) { return "", false }}
	seen := map[string]string{}
	for _, cmd := range c.root().Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			env := f.Annotations[envKey]
			if len(env) == 0 {
				return
			}
			if other := seen[env[0]]; other != "" && other != f.Name {
				t.Errorf("%s stands for --%s and --%s", env[0], other, f.Name)
			}
			seen[env[0]] = f.Name
		})
	}
	for _, name := range []string{
		"NATS_URL", "NATS_CREDS", "REDIS_URL", "AFTERWORD_EMBEDDED_NATS", "AFTERWORD_EMBEDDED_REDIS",
		"AFTERWORD_LISTEN", "AFTERWORD_DATA_DIR", "AFTERWORD_GROUP",
	} {
		if seen[name] == "" {
			t.Errorf("no flag reads %s", name)
		}
	}
}
