package main

import (
	"fmt"
	"log/slog"

	"github.com/afterword-io/afterword/internal/tracing"
)

// logOptions say what is logged, and how.
type logOptions struct{ format, level string }

const (
	formatText = "text"
	formatJSON = "json"
)

// add defines the flags. Services say what they do; one-shot commands only what goes wrong.
func (o *logOptions) add(f flags, level string) {
	f.choice(&o.format, formatText, "log-format", "how log lines look on standard error: text or json", formatText, formatJSON)
	f.choice(&o.level, level, "log-level", "what is logged: debug, info, warn or error", "debug", "info", "warn", "error")
}

func (c *cli) logger(o logOptions) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.level)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	opts := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(c.stderr, opts)
	if o.format == formatJSON {
		handler = slog.NewJSONHandler(c.stderr, opts)
	}
	return slog.New(tracing.LogHandler(handler)), nil
}
