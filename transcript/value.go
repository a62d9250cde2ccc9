package transcript

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// emptyArray reports whether an array has no elements.
func emptyArray(v jsontext.Value) bool {
	return len(bytes.TrimSpace(v[1:len(v)-1])) == 0
}

func stringOf(name string, v jsontext.Value) (string, error) {
	if err := checkString(name, v); err != nil {
		return "", err
	}
	if text := v[1 : len(v)-1]; bytes.IndexByte(text, '\\') < 0 {
		return string(text), nil
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err
}

// turnIDOf reads an id. An empty one is not an absent one.
func turnIDOf(name string, v jsontext.Value) (string, error) {
	id, err := stringOf(name, v)
	if err != nil {
		return "", err
	}
	return id, checkTurnID(name, id)
}

func instantOf(name string, v jsontext.Value) (Instant, error) {
	s, err := stringOf(name, v)
	if err != nil {
		return 0, err
	}
	i, err := ParseInstant(s)
	if err != nil {
		return 0, &RuleError{Member: name, Rule: err.Error()}
	}
	return i, nil
}

func integerOf(name string, v jsontext.Value, low, high int64) (int64, error) {
	if v.Kind() != '0' {
		return 0, wrongType(name, "an integer", v)
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < low || n > high {
		return 0, &RuleError{Member: name, Rule: fmt.Sprintf("must be an integer from %d to %d, written without fraction or exponent", low, high)}
	}
	return n, nil
}

// canonicalString returns v itself when it is canonical already. Raw controls
// are no JSON, so only a backslash can make a string less than canonical.
func canonicalString(name string, v jsontext.Value) ([]byte, error) {
	if err := checkString(name, v); err != nil {
		return nil, err
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v, nil
	}
	return canonicalValue(name, v)
}

// canonicalValue removes white space and needless escapes, and nothing else.
func canonicalValue(name string, v jsontext.Value) ([]byte, error) {
	b, err := jsontext.AppendFormat(make([]byte, 0, len(v)), v)
	if err != nil {
		return nil, &RuleError{Member: name, Rule: "cannot be encoded: " + jsonReason(err)}
	}
	return b, nil
}

func wrongType(name, want string, v jsontext.Value) error {
	hint := ""
	if v.Kind() == 'n' {
		hint = "; leave it out when there is none"
	}
	return &RuleError{Member: name, Rule: "must be " + want + ", not " + KindName(v.Kind()) + hint}
}

// KindName is what a kind of JSON values is called.
func KindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '[':
		return "an array"
	case '{':
		return "an object"
	}
	return "nothing"
}
