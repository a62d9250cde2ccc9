package main

import (
	"fmt"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// since is a flag of a moment, or of how long ago one was.
type since struct {
	at       time.Time
	relative bool // it means another moment every time
}

// String implements [pflag.Value].
func (s *since) String() string {
	if s.at.IsZero() {
		return ""
	}
	return s.at.Format(time.RFC3339Nano)
}

// Type implements [pflag.Value].
func (s *since) Type() string { return "time" }

// Set implements [pflag.Value].
func (s *since) Set(text string) error {
	if d, err := parseAge(text); err == nil {
		s.at, s.relative = time.Now().Add(-d).UTC(), true
		return nil
	}
	at, err := transcript.ParseInstant(text)
	if err != nil {
		return fmt.Errorf("it %w: use a time such as 2026-01-31T12:00:00Z, or how long ago it was, as in 12h or 30d", err)
	}
	s.at, s.relative = at.Time(), false
	return nil
}
