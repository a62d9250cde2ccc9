package transcript

import (
	"bytes"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// optional checks the types of the members of the wire contract that need no
// other treatment.
var optional = map[string]checker{
	"error":         isString,
	"finish_reason": isString,
	"model":         isString,
	"user_id":       isString,
	"trace_id":      isString,
	"meta":          checkObject(nil),
	"usage":         checkObject(map[string]checker{"input_tokens": isCount, "output_tokens": isCount}),
	"tool_calls":    checkArray(checkObject(map[string]checker{"id": isString, "name": isString, "arguments": isAny, "result": isAny, "status": isString})),
	"attachments":   checkArray(checkObject(map[string]checker{"uri": isString, "media_type": isString, "size": isCount, "sha256": isString})),
}

// checker checks a member by its path, and returns the paths of unknown members in it.
type checker func(name string, v jsontext.Value) (unknown []string, err error)

func isAny(string, jsontext.Value) ([]string, error) { return nil, nil }

func isString(name string, v jsontext.Value) ([]string, error) { return nil, checkString(name, v) }

func isCount(name string, v jsontext.Value) ([]string, error) {
	_, err := integerOf(name, v, 0, 1<<53)
	return nil, err
}

func knownMember(name string) bool {
	switch name {
	case "id", sessionMember, "timestamp", "user", "assistant", "status", "rev", "completed_at", "parent", "supersedes":
		return true
	}
	return optional[name] != nil
}

func checkString(name string, v jsontext.Value) error {
	if v.Kind() != '"' {
		return wrongType(name, "a string", v)
	}
	return nil
}

func checkObject(members map[string]checker) checker {
	return func(name string, v jsontext.Value) (unknown []string, err error) {
		if v.Kind() != '{' {
			return nil, wrongType(name, "an object", v)
		}
		if members == nil {
			return nil, nil
		}
		dec := jsontext.NewDecoder(bytes.NewBuffer(v))
		if _, err := dec.ReadToken(); err != nil {
			return nil, syntaxError(err)
		}
		for dec.PeekKind() != '}' {
			tok, err := dec.ReadToken()
			if err != nil {
				return nil, syntaxError(err)
			}
			check, path := members[tok.String()], name+"."+tok.String()
			value, err := dec.ReadValue()
			if err != nil {
				return nil, syntaxError(err)
			}
			if check == nil {
				if len(unknown) < maxUnknown {
					unknown = append(unknown, path)
				}
				continue
			}
			if _, err := check(path, value); err != nil {
				return nil, err
			}
		}
		return unknown, nil
	}
}

func checkArray(element checker) checker {
	return func(name string, v jsontext.Value) (unknown []string, err error) {
		if v.Kind() != '[' {
			return nil, wrongType(name, "an array", v)
		}
		dec := jsontext.NewDecoder(bytes.NewBuffer(v))
		if _, err := dec.ReadToken(); err != nil {
			return nil, syntaxError(err)
		}
		for i := 0; dec.PeekKind() != ']'; i++ {
			value, err := dec.ReadValue()
			if err != nil {
				return nil, syntaxError(err)
			}
			in, err := element(name+"["+strconv.Itoa(i)+"]", value)
			if err != nil {
				return nil, err
			}
			if len(unknown) < maxUnknown {
				unknown = append(unknown, in...)
			}
		}
		return unknown, nil
	}
}
