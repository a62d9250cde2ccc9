package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/internal/status"
	"github.com/afterword-io/afterword/transcript"
)

// Defaults of [Config].
const (
	DefaultSampleEvery   = 2 * time.Second
	DefaultIdleEvery     = 20 * time.Second
	DefaultWatched       = 30 * time.Second
	DefaultKept          = 15 * time.Minute
	DefaultLookupTimeout = 7 * time.Second
	DefaultChangeTimeout = 25 * time.Second
	DefaultVerdict       = 3 * time.Second
	DefaultReportEvery   = 10 * time.Second
	DefaultQuiet         = 250 * time.Millisecond
)

// Config says what a console shows. JS is asked for.
type Config struct {
	JS jetstream.JetStream
	// Store returns the transcripts of this machine, or nil when it has none (yet). Nil
	// means never.
	Store func() *transcript.Store
	// Writable opens them for a replay; the function that it returns closes them again.
	// Nil means that replays cannot be started here.
	Writable func() (*transcript.Store, func(context.Context) error, error)
	// Cache is nil without Redis.
	Cache consumer.CacheReader
	// Status says what is wrong; nil means that nobody is asked.
	Status *status.Gatherer
	// Feed shows turns as they are stored; nil means that there is no live tail.
	Feed *live.Feed
	// Memory is what it shares with the other readers of the process; nil means no bound.
	Memory *transcript.Memory
	// Scratch is a folder for what is compared; "" is that for temporary files.
	Scratch string

	// BasePath is in front of /console/ in what browsers ask for, as in /afterword.
	BasePath string
	// ReadOnly refuses what changes something.
	ReadOnly bool
	// Client tells those who listen apart, so that one cannot keep all others out; nil means that nobody does.
	Client func(*http.Request) string
	// Version is shown.
	Version string
	// Logger gets one line per change and per failed request. Nil discards them.
	Logger *slog.Logger

	// SampleEvery is how often figures are taken while somebody looked in the last
	// Watched, IdleEvery otherwise. They are kept for Kept.
	SampleEvery, IdleEvery, Watched, Kept time.Duration
	// ReportEvery is how often, at most, it is looked for what is wrong: that reads more.
	ReportEvery time.Duration
	// LookupTimeout bounds what one request reads, ChangeTimeout what it changes.
	LookupTimeout, ChangeTimeout time.Duration
	// Verdict is how long a requeue waits for what consumers make of the letters.
	Verdict time.Duration
	// Quiet is after how much silence no more members are waited for.
	Quiet time.Duration
}

func (c Config) withDefaults() Config {
	if c.Store == nil {
		c.Store = func() *transcript.Store { return nil }
	}
	if c.Client == nil {
		c.Client = func(*http.Request) string { return "" }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.SampleEvery = cmp.Or(c.SampleEvery, DefaultSampleEvery)
	c.IdleEvery = cmp.Or(c.IdleEvery, DefaultIdleEvery)
	c.Watched = cmp.Or(c.Watched, DefaultWatched)
	c.Kept = cmp.Or(c.Kept, DefaultKept)
	c.LookupTimeout = cmp.Or(c.LookupTimeout, DefaultLookupTimeout)
	c.ChangeTimeout = cmp.Or(c.ChangeTimeout, DefaultChangeTimeout)
	c.Verdict = cmp.Or(c.Verdict, DefaultVerdict)
	c.ReportEvery = cmp.Or(c.ReportEvery, DefaultReportEvery)
	c.Quiet = cmp.Or(c.Quiet, DefaultQuiet)
	return c
}

func (c *Config) validate() error {
	if c.JS == nil {
		return errors.New("console: a JetStream connection is missing")
	}
	if err := CheckBasePath(c.BasePath); err != nil {
		return fmt.Errorf("console: %w", err)
	}
	return nil
}

// CheckBasePath reports whether a path can stand in front of /console/.
func CheckBasePath(path string) error {
	if path == "" {
		return nil
	}
	if path[0] != '/' || strings.HasSuffix(path, "/") {
		return fmt.Errorf("base path %q begins with a slash and ends without one, as in /afterword", path)
	}
	for _, segment := range strings.Split(path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." || strings.Trim(segment, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-") != "" {
			return fmt.Errorf("base path %q has segments of A-Z a-z 0-9 . _ ~ - only, as in /afterword", path)
		}
	}
	return nil
}
