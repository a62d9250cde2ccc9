package transcript

import (
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// An error of package jsontext quotes what it does not like, and so what somebody said. The
// errors of this package go into logs and into the reasons of dead letters: they say
// where it is, and which rule it breaks.

// syntaxError is an error of the decoder without what it quotes.
func syntaxError(err error) error {
	var syn *jsontext.SyntacticError
	if errors.As(err, &syn) {
		return &SyntaxError{Offset: syn.ByteOffset, Reason: jsonReason(err)}
	}
	return &SyntaxError{Reason: jsonReason(err)}
}

// jsonReason is the rule that an error of packages json and jsontext is about.
func jsonReason(err error) string {
	var syn *jsontext.SyntacticError
	var sem *json.SemanticError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "it ends too early"
	case errors.Is(err, jsontext.ErrDuplicateName):
		return "a name stands twice in one object"
	case errors.Is(err, jsontext.ErrNonStringName):
		return "a name in an object is no string"
	case errors.As(err, &syn):
		return syntaxReason(syn.Err)
	case errors.As(err, &sem):
		return "a value of the wrong type at byte " + strconv.FormatInt(sem.ByteOffset, 10)
	}
	return "it cannot be read"
}

// syntaxReason reads the text of an error, because its type is not exported: "invalid character",
// "escape sequence" or "surrogate pair", what it is about, in quotes, and where that stands.
func syntaxReason(err error) string {
	text := err.Error()
	switch rest, isCharacter := strings.CutPrefix(text, "invalid character "); {
	case isCharacter:
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			return "invalid character" + rest[len(quoted):]
		}
		return "invalid character"
	case strings.HasPrefix(text, "invalid escape sequence "), strings.HasPrefix(text, "invalid surrogate pair "):
		return "invalid escape sequence, or lone surrogate, in a string"
	case text == "exceeded max depth":
		return "nested too deep"
	case text == "invalid UTF-8":
		return text
	}
	return "invalid syntax"
}

// JSONError says what is wrong with JSON, of an error of package jsontext: a [*SyntaxError] that quotes
// nothing.
func JSONError(err error) error { return syntaxError(err) }
