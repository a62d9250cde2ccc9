package transcript

import (
	"errors"
	"fmt"
)

// RuleError is well-formed input that breaks a rule. The gateway answers it
// with 422 (400 for a bad session id), the consumer with a dead letter.
type RuleError struct {
	Member string // the member at fault, as in "usage.input_tokens"; "" for none, or one whose name must not be told
	Rule   string // what it breaks, to be read after the member's name
}

func (e *RuleError) Error() string {
	if e.Member == "" {
		return e.Rule
	}
	return e.Member + " " + e.Rule
}

// RedactionError is a redacted turn that carries what may have been said. It is a
// [*RuleError] too.
type RedactionError struct {
	Member string // the member that must be empty, or left out; "" for an unknown one, whose name is what somebody wrote
}

func (e *RedactionError) Error() string { return e.rule().Error() }
func (e *RedactionError) Unwrap() error { return e.rule() }

func (e *RedactionError) rule() *RuleError {
	rule := "must be left out of a redacted turn"
	switch e.Member {
	case "user", "assistant":
		rule = "must be empty in a redacted turn"
	case "":
		rule = "a member that is not of a turn must be left out of a redacted one"
	}
	return &RuleError{Member: e.Member, Rule: rule + ": it keeps id, timestamp and rev, and nothing that was said"}
}

// SyntaxError is input that is not acceptable JSON: bad syntax, a name twice in
// one object, invalid UTF-8, a lone surrogate, nesting over [MaxDepth].
type SyntaxError struct {
	Offset int64 // bytes from the beginning at or after which it was noticed
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("not acceptable JSON at byte %d: %s", e.Offset, e.Reason)
}

// TooLargeError is a turn whose encoding does not fit the stream.
type TooLargeError struct {
	Size, Limit int // bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the turn is %d bytes long; at most %d are allowed", e.Size, e.Limit)
}

// Malformed reports whether err says that the input itself is at fault, so that
// trying again cannot help.
func Malformed(err error) bool {
	var rule *RuleError
	var syntax *SyntaxError
	var large *TooLargeError
	return errors.As(err, &rule) || errors.As(err, &syntax) || errors.As(err, &large)
}

// ErrPartial says that a source has lost turns, so that nobody knows whether it had some of
// this session: neither what it has nor that it has nothing is an answer.
var ErrPartial = errors.New("turns may be missing: the stream has removed messages, and no transcripts that must have all of them are at hand")

// ErrNoTranscripts says that there is no folder of transcripts to look into, or not yet.
var ErrNoTranscripts = errors.New("no transcripts on this machine")

// ErrNoSession says that nothing is stored for a session. It is an answer, not
// trouble: a read that failed or was late is never reported as this.
var ErrNoSession = errors.New("no such session")
