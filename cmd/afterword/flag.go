package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/afterword-io/afterword/internal/stream"
)

// envKey annotates a flag with its environment variable.
const envKey = "env"

// flags defines flags that have an environment variable.
type flags struct{ *pflag.FlagSet }

// value is a flag of any type.
type value[T any] struct {
	p      *T
	kind   string
	parse  func(string) (T, error)
	format func(T) string
}

func (v value[T]) String() string {
	if v.p == nil { // pflag asks a zero value
		return ""
	}
	return v.format(*v.p)
}

func (v value[T]) Type() string { return v.kind }

func (v value[T]) Set(s string) error {
	x, err := v.parse(s)
	if err != nil {
		return err
	}
	*v.p = x
	return nil
}

// add defines the flag name, with the environment variable env, or when that is
// "" AFTERWORD_ and the name.
func add[T any](f flags, v value[T], def T, name, env, usage string) {
	*v.p = def
	if env == "" {
		env = "AFTERWORD_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	}
	g := f.VarPF(v, name, "", usage+" [$"+env+"]")
	g.Annotations = map[string][]string{envKey: {env}}
}

// secretValue knows how the value of a flag is shown: as it is, unless it may hold a secret.
type secretValue struct {
	pflag.Value
	redact func(string) string
}

// secret says that a flag may hold a secret, and how it is shown without it.
func (f flags) secret(name string, redact func(string) string) {
	g := f.Lookup(name)
	g.Value = secretValue{g.Value, redact}
}

// shown is the value of a flag, without secrets.
func shown(f *pflag.Flag) string {
	if s, ok := f.Value.(secretValue); ok {
		return s.redact(s.String())
	}
	return f.Value.String()
}

// masked hides all of a text, but not whether there is one.
func masked(s string) string {
	if s == "" {
		return ""
	}
	return "***"
}

// text defines a flag of any text.
func (f flags) text(p *string, def, name, env, usage string) {
	add(f, value[string]{p, "string", func(s string) (string, error) { return s, nil }, func(s string) string { return s }}, def, name, env, usage)
}

// choice defines a flag of few values.
func (f flags) choice(p *string, def, name, usage string, choices ...string) {
	parse := func(s string) (string, error) {
		for _, c := range choices {
			if s == c {
				return s, nil
			}
		}
		return "", fmt.Errorf("use %s", strings.Join(choices, " or "))
	}
	add(f, value[string]{p, "string", parse, func(s string) string { return s }}, def, name, "", usage)
	f.Lookup(name).Annotations[choicesKey] = choices
}

// wait defines a flag of a bounded time: every wait has an end.
func (f flags) wait(p *time.Duration, def time.Duration, name, usage string) {
	parse := func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, errors.New("use a duration such as 500ms, 2s or 1m")
		}
		if d < time.Millisecond {
			return 0, errors.New("use a duration of 1ms or more")
		}
		return d, nil
	}
	add(f, value[time.Duration]{p, "duration", parse, shortDuration}, def, name, "", usage)
}

// truth defines a flag that is given or not; "true" and "false" in the environment.
func (f flags) truth(p *bool, name, usage string) {
	add(f, value[bool]{p, "bool", func(s string) (bool, error) {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return false, errors.New("use true or false")
		}
		return b, nil
	}, strconv.FormatBool}, false, name, "", usage)
	f.Lookup(name).NoOptDefVal = "true"
}

// count defines a flag of a number of things, at least one, or one of those in only.
func (f flags) count(p *int, def int, name, env, usage string, only ...int) {
	parse := func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		switch {
		case len(only) > 0 && (err != nil || !slices.Contains(only, n)):
			return 0, fmt.Errorf("use one of %s", strings.Trim(fmt.Sprint(only), "[]"))
		case err != nil || n < 1:
			return 0, errors.New("use a whole number from 1 on")
		}
		return n, nil
	}
	add(f, value[int]{p, "n", parse, func(n int) string {
		if n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}}, def, name, env, usage)
}

// bytes defines a flag of a size, at least one byte. Where unlimited is true
// that word is allowed, as -1.
func (f flags) bytes(p *int64, def int64, name, env, usage string, unlimited bool) {
	parse := func(s string) (int64, error) {
		if unlimited && s == "unlimited" {
			return -1, nil
		}
		return parseBytes(s)
	}
	add(f, value[int64]{p, "size", parse, formatBytes}, def, name, env, usage)
}

// age defines a flag of a long time, which may be given in days or as "unlimited" (-1).
func (f flags) age(p *time.Duration, name, env, usage string) {
	parse := func(s string) (time.Duration, error) {
		if s == "unlimited" {
			return -1, nil
		}
		d, err := parseAge(s)
		if err != nil {
			return 0, errors.New("use a time such as 12h or 30d, or unlimited")
		}
		if d < stream.MinMaxAge {
			return 0, fmt.Errorf("use %s or more: NATS takes nothing shorter", shortDuration(stream.MinMaxAge))
		}
		return d, nil
	}
	add(f, value[time.Duration]{p, "duration", parse, func(d time.Duration) string {
		if d == 0 {
			return ""
		}
		return shortDuration(d)
	}}, 0, name, env, usage)
}

// parseAge reads a time longer than 0 that may be given in days.
func parseAge(s string) (d time.Duration, err error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		if n > math.MaxInt64/float64(24*time.Hour) {
			err = errors.New("too long")
		}
		d = time.Duration(n * float64(24*time.Hour))
	} else {
		d, err = time.ParseDuration(s)
	}
	if err == nil && d <= 0 {
		err = errors.New("not longer than 0")
	}
	return d, err
}
