package exchange

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

// oddMembers are values that publishers may have given to members of a turn: also such as look like
// what this package writes there.
var oddMembers = map[string][]string{
	"rev": {"1", "2", "999999"}, "model": {`"m"`, `""`}, "error": {`"boom"`}, "finish_reason": {`"stop"`}, "completed_at": {`"2026-01-01T00:00:09Z"`}, "user_id": {`"u"`},
	"usage": {`{}`, `{"input_tokens":3}`, `{"input_tokens":3,"z":1}`}, "attachments": {`[]`, `[{}]`, `[{"uri":"a"},{"media_type":"x"}]`, `[{"uri":"data:image/png;base64,AA","size":3,"zz":[1]}]`},
	"tool_calls": {`[]`, `[{}]`, `[{"id":"","name":""}]`, `[{"id":"q","name":"f","arguments":"","result":""}]`, `[{"type":"function","name":"f","input":1,"x":[{}]}]`, `[{"name":"f","arguments":"{\"a\": 1}"}]`,
		`[{"id":"a","name":"f","arguments":{"x":1.50},"result":"r"},{"id":"a","name":"g","result":null}]`, `[{"result":[1],"status":"ok","id":"z","arguments":null,"verbatim":"zz"}]`, `[{"id":"a","name":"f","verbatim":"{\"name\":\"f\"}"}]`},
	"meta": {`{}`, `{"system":"S"}`, `{"system":["S","T"]}`, `{"system":[]}`, `{"system":""}`, `{"system":[""]}`, `{"system":3}`, `{"system":[1]}`, `{"system":null}`, `{"messages":[]}`, `{"messages":[{"role":"user","texts":[0]}]}`,
		`{"messages":[{"role":"user","texts":[0]},{"role":"assistant","texts":[0]}],"system":"x"}`, `{"messages":[{"role":"tool","call":0}]}`, `{"messages":"x","conversation":1,"a":{"b":[[]]}}`,
		`{"messages":[{"role":"assistant","texts":[0]},{"role":"user","texts":[0]},{"role":"bogus"}]}`, `{"messages":[{"role":"tool","call":9}]}`, `{"messages":[{"role":"user","texts":[]},{"role":"assistant","texts":[]}]}`},
	"messages": {`[{"a":1}]`, `3`}, "role": {`"user"`}, "afterword": {`{"turns":[]}`}, "content": {`"x"`},
}

// someStored are turns as any publisher may have stored them.
func someStored(t *rapid.T, session string) (payloads, ids []string) {
	draw := func(what string, list ...string) string { return rapid.SampledFrom(list).Draw(t, what) }
	for i := range rapid.IntRange(1, 5).Draw(t, "turns") {
		id := fmt.Sprintf(draw("id", "t%d", "call_%d", "%d", "a.%d"), i)
		b := appendField(nil, "session_id", quoted(session))
		b = appendField(b, "id", quoted(id))
		b = appendField(b, "timestamp", quoted(draw("timestamp", "1970-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z", fmt.Sprintf("2026-01-01T00:00:0%dZ", i))))
		status := draw("status", "complete", "complete", "pending", "failed", "partial", "cancelled", "redacted")
		b = appendField(b, "status", quoted(status))
		if status == "redacted" {
			b = appendField(appendField(b, "user", quoted("")), "rev", jsontext.Value("1000000"))
		} else {
			b = appendField(b, "user", quoted(someText(t, "user")))
			b = appendField(b, "assistant", quoted(someText(t, "assistant")))
			for _, name := range slices.Sorted(maps.Keys(oddMembers)) {
				if rapid.IntRange(0, 3).Draw(t, "has "+name) == 0 {
					b = appendField(b, name, jsontext.Value(draw(name, oddMembers[name]...)))
				}
			}
			if len(ids) > 0 {
				b = appendField(b, draw("link", "parent", "supersedes"), quoted(draw("other", append(ids, "missing")...)))
			}
		}
		payloads, ids = append(payloads, string(closeObject(b))), append(ids, id)
	}
	return payloads, ids
}

// Whatever is stored comes back through all formats, one after the other, with every member as it was.
func TestStoredRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		session := rapid.SampledFrom([]string{"s", "a/b", "user:{1}", "  ", "\u202e", "1", strings.Repeat("é", 120)}).Draw(rt, "session")
		payloads, ids := someStored(rt, session)
		turns := stored(t, payloads)
		now := turns
		for _, out := range rapid.Permutation(formats).Draw(rt, "order") {
			exported, err := Append(nil, out.name, session, now, rapid.SampledFrom(append(ids, "")).Draw(rt, "leaf"))
			if err != nil {
				rt.Fatal(err)
			}
			now = stored(t, convert(t, rapid.Bool().Draw(rt, "several"), string(exported)))
			if want, got := canonical(turns), canonical(now); !slices.Equal(want, got) || now[0].SessionID != session {
				rt.Fatalf("through %s\n%s\nbecame of %q\n%s\nby %s", out.name, strings.Join(want, "\n"), now[0].SessionID, strings.Join(got, "\n"), exported)
			}
		}
	})
}
