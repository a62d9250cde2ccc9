package transcript

import (
	"cmp"
	"errors"
	"strings"
	"testing"
)

func TestDecodeCanonical(t *testing.T) {
	const full = `"id":"t1","timestamp":"2026-11-23T15:04:05.123456+00:00"`
	for _, c := range []struct{ name, in, want string }{
		{"already canonical", `{` + full + `,"user":"a","assistant":"b","status":"complete","rev":1,"session_id":"s"}`, ""},
		{"defaults", `{"session_id":"s",` + full + `,"user":"a"}`,
			`{` + full + `,"user":"a","assistant":"","status":"complete","rev":1,"session_id":"s"}`},
		{"zone and excess digits", `{"session_id":"s","id":"t1","timestamp":"2026-11-23T17:04:05.123456999+02:00","user":"a"}`,
			`{` + full + `,"user":"a","assistant":"","status":"complete","rev":1,"session_id":"s"}`},
		{"order by name around the session", `{"zeta":1,"alpha":[1.0, 1e2],"session_id":"s",` + full + `,"user":"a","rev":2,"status":"pending"}`,
			`{` + full + `,"user":"a","assistant":"","status":"pending","rev":2,"alpha":[1.0,1e2],"session_id":"s","zeta":1}`},
		{"nested order and literals kept", `{"session_id":"s",` + full + `,"user":"a","meta":{"b": 1.50, "a": "\u003c\u2028/"}}`,
			`{` + full + `,"user":"a","assistant":"","status":"complete","rev":1,"meta":{"b":1.50,"a":"<` + "\u2028" + `/"},"session_id":"s"}`},
		{"escapes", `{"session_id":"s",` + full + `,"user":"\u0041\/\"\\\u0001\n\u00e9\ud83d\ude00"}`,
			`{` + full + `,"user":"A/\"\\\u0001\né😀","assistant":"","status":"complete","rev":1,"session_id":"s"}`},
		{"completed_at", `{"session_id":"s",` + full + `,"user":"a","completed_at":"2026-11-23T15:04:06Z"}`,
			`{` + full + `,"user":"a","assistant":"","status":"complete","rev":1,"completed_at":"2026-11-23T15:04:06.000000+00:00","session_id":"s"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Decode([]byte(c.in), 0)
			if err != nil {
				t.Fatal(err)
			}
			if c.want == "" {
				c.want = c.in
			}
			if got := string(s.Payload()); got != c.want {
				t.Errorf("payload\n got %s\nwant %s", got, c.want)
			}
			again, err := Decode(s.Payload(), 0)
			if err != nil || string(again.Payload()) != c.want {
				t.Errorf("canonical encoding is not a fixed point: %s, %v", again.Payload(), err)
			}
			if msg := string(s.AppendMessage(nil)); strings.Contains(msg, "session_id") {
				t.Errorf("message holds its session: %s", msg)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	const head = `{"session_id":"s","id":"t","timestamp":"2026-11-23T15:04:05Z","user":"u"`
	for _, c := range []struct{ name, in, member string }{ // member "" = syntax
		{"nothing", ``, ""},
		{"not JSON", `hello`, ""},
		{"cut short", head, ""},
		{"two values", head + `} {}`, ""},
		{"name twice", head + `,"user":"v"}`, ""},
		{"name twice, nested", head + `,"meta":{"a":1,"a":2}}`, ""},
		{"lone surrogate", head + `,"assistant":"\ud800"}`, ""},
		{"invalid UTF-8", head + ",\"assistant\":\"\xff\"}", ""},
		{"5,000 brackets", strings.Repeat("[", 5000), ""},
		{"depth 33", head + `,"x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`, ""},
		{"byte order mark", "\ufeff" + head + `}`, ""},
		{"an array", `[]`, "the turn"},
		{"no user", `{"session_id":"s","id":"t","timestamp":"2026-11-23T15:04:05Z"}`, "user"},
		{"user null", `{"session_id":"s","id":"t","timestamp":"2026-11-23T15:04:05Z","user":null}`, "user"},
		{"names are case-sensitive", `{"session_id":"s","id":"t","timestamp":"2026-11-23T15:04:05Z","User":"u"}`, "user"},
		{"no id", `{"session_id":"s","timestamp":"2026-11-23T15:04:05Z","user":"u"}`, "id"},
		{"id without timestamp", `{"session_id":"s","id":"t","user":"u"}`, "timestamp"},
		{"no session", `{"id":"t","timestamp":"2026-11-23T15:04:05Z","user":"u"}`, "session_id"},
		{"session empty", `{"session_id":"","id":"t","timestamp":"2026-11-23T15:04:05Z","user":"u"}`, "session_id"},
		{"session with control", `{"session_id":"a\u0007b","id":"t","timestamp":"2026-11-23T15:04:05Z","user":"u"}`, "session_id"},
		{"id with slash", `{"session_id":"s","id":"a/b","timestamp":"2026-11-23T15:04:05Z","user":"u"}`, "id"},
		{"year 10000", `{"session_id":"s","id":"t","timestamp":"10000-01-01T00:00:00Z","user":"u"}`, "timestamp"},
		{"year 1969", `{"session_id":"s","id":"t","timestamp":"1969-12-31T23:59:59.999999Z","user":"u"}`, "timestamp"},
		{"30 February", `{"session_id":"s","id":"t","timestamp":"2026-02-30T00:00:00.000000+00:00","user":"u"}`, "timestamp"},
		{"rev 0", head + `,"rev":0}`, "rev"},
		{"rev a million", head + `,"rev":1000000}`, "rev"},
		{"rev with fraction", head + `,"rev":1.0}`, "rev"},
		{"rev a string", head + `,"rev":"1"}`, "rev"},
		{"status unknown", head + `,"status":"done"}`, "status"},
		{"model a number", head + `,"model":4}`, "model"},
		{"usage", head + `,"usage":{"input_tokens":"many"}}`, "usage.input_tokens"},
		{"tool calls", head + `,"tool_calls":[{},{"name":1}]}`, "tool_calls[1].name"},
		{"attachments", head + `,"attachments":[{"size":-1}]}`, "attachments[0].size"},
		{"meta", head + `,"meta":[]}`, "meta"},
		{"supersedes", head + `,"supersedes":"no spaces"}`, "supersedes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode([]byte(c.in), 0)
			var rule *RuleError
			var syntax *SyntaxError
			switch {
			case c.member == "" && !errors.As(err, &syntax):
				t.Errorf("got %v, want a syntax error", err)
			case c.member != "" && (!errors.As(err, &rule) || cmp.Or(rule.Member, "the turn") != c.member):
				t.Errorf("got %v, want a rule error of %s", err, c.member)
			}
			if !Malformed(err) {
				t.Errorf("%v does not count as malformed", err)
			}
		})
	}
	var large *TooLargeError
	if _, err := Decode([]byte(head+`,"assistant":"`+strings.Repeat("x", MaxPayload)+`"}`), 0); !errors.As(err, &large) {
		t.Errorf("over the limit: %v", err)
	}
}
