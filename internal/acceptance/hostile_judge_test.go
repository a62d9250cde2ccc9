package acceptance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// verdict is what has to become of a payload, by the contract alone: nothing here
// is shared with the product.
type verdict struct {
	kind    string   // accepted, json, rule, subject, or future
	members []string // at fault, when a rule is broken; each reason names one of them
	session string   // of what is accepted
	id      string   // likewise; "" when the gateway gives one
	at      time.Time
}

const (
	maxNesting = 32
	maxAhead   = 24 * time.Hour
)

// judge is the verdict on a message that the stream stored at a time.
func judge(subject string, payload []byte, stored time.Time) verdict {
	v := judgePayload(payload)
	if v.kind != "accepted" && v.kind != "rule" {
		return v
	}
	for name, have := range map[string]bool{"session_id": v.session != "", "id": v.id != "", "timestamp": slices.Contains(v.members, "has timestamp")} {
		if !have && !slices.Contains(v.members, name) {
			v.kind, v.members = "rule", append(v.members, name)
		}
	}
	if v.kind == "accepted" && subject != token(v.session) {
		v.kind = "subject"
	}
	if v.kind == "accepted" && v.at.After(stored.Add(maxAhead)) {
		v.kind = "future"
	}
	return v
}

// judgePost is the verdict on what is posted to a session. A bad session id is of kind session.
func judgePost(session string, payload []byte) verdict {
	if !goodSession(session) {
		return verdict{kind: "session", members: []string{"session_id"}}
	}
	v := judgePayload(payload)
	if v.kind != "accepted" && v.kind != "rule" {
		return v
	}
	if v.session != "" && v.session != session {
		v.kind, v.members = "rule", append(v.members, "session_id")
	}
	if v.id != "" && !slices.Contains(v.members, "has timestamp") {
		v.kind, v.members = "rule", append(v.members, "timestamp")
	}
	if v.at.After(time.Now().Add(maxAhead)) {
		v.kind, v.members = "rule", append(v.members, "timestamp")
	}
	v.session = session
	return v
}

// judgePayload judges what does not depend on the way a payload came.
func judgePayload(payload []byte) (v verdict) {
	if !acceptableJSON(payload) {
		return verdict{kind: "json"}
	}
	v.kind = "accepted"
	fault := func(name string) { v.kind, v.members = "rule", append(v.members, name) }
	var members map[string]json.RawMessage
	if bytes.TrimLeft(payload, " \t\r\n")[0] != '{' {
		fault("the turn")
		return v
	}
	if err := json.Unmarshal(payload, &members); err != nil {
		fault("the turn")
		return v
	}
	if _, ok := members["user"]; !ok {
		fault("user")
	}
	for name, value := range members {
		var text string
		isString := value[0] == '"'
		if isString {
			json.Unmarshal(value, &text)
		}
		good := true
		switch name {
		case "id":
			if good = isString && idShape.MatchString(text); good {
				v.id = text
			}
		case "session_id":
			if good = isString && goodSession(text); good {
				v.session = text
			}
		case "timestamp":
			if good = isString && goodTime(text); good {
				v.members = append(v.members, "has timestamp")
				v.at, _ = time.Parse(time.RFC3339Nano, text)
			}
		case "user", "assistant", "error", "finish_reason", "model", "user_id", "trace_id":
			good = isString
		case "status":
			good = isString && slices.Contains([]string{"pending", "complete", "partial", "failed", "cancelled"}, text)
		case "rev":
			n, err := strconv.Atoi(string(value))
			good = err == nil && n >= 1 && n <= 999_999
		case "meta", "usage":
			good = value[0] == '{'
		}
		if !good {
			fault(name)
		}
	}
	return v
}

func goodSession(id string) bool {
	return id != "" && len(id) <= 255 && utf8.ValidString(id) && !strings.ContainsFunc(id, unicode.IsControl)
}

var idShape = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)

var timeShape = regexp.MustCompile(`^\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func goodTime(text string) bool {
	if !timeShape.MatchString(text) {
		return false
	}
	at, err := time.Parse(time.RFC3339Nano, strings.ToUpper(text))
	return err == nil && at.UTC().Year() >= 1970 && at.UTC().Year() <= 2199
}

var surrogate = regexp.MustCompile(`\\u[dD]([89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|[89a-fA-F][0-9a-fA-F]{2})`)

// acceptableJSON says whether data is one JSON value, without a name twice in an
// object, a lone surrogate, bytes that are no UTF-8, or deeper nesting than is read.
func acceptableJSON(data []byte) bool {
	if !json.Valid(data) || !utf8.Valid(data) {
		return false
	}
	for _, found := range surrogate.FindAllString(strings.ReplaceAll(string(data), `\\`, ""), -1) {
		if len(found) < len(`\ud83d\ude00`) {
			return false
		}
	}
	type object struct {
		names map[string]bool // nil of an array
		value bool            // the next token is a value
	}
	var open []object
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // of any size
	for {
		tok, err := d.Token()
		if err == io.EOF {
			return true
		}
		if err != nil {
			return false
		}
		if delim, ok := tok.(json.Delim); ok && (delim == '}' || delim == ']') {
			open = open[:len(open)-1]
			continue
		}
		if n := len(open); n > 0 && open[n-1].names != nil {
			if o := &open[n-1]; !o.value {
				name := fmt.Sprint(tok)
				if o.names[name] {
					return false
				}
				o.names[name], o.value = true, true
				continue
			}
			open[n-1].value = false
		}
		switch tok {
		case json.Delim('{'):
			open = append(open, object{names: make(map[string]bool)})
		case json.Delim('['):
			open = append(open, object{})
		}
		if len(open) > maxNesting {
			return false
		}
	}
}
