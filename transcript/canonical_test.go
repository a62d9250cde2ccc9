package transcript

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// What afterword's own publishers send is taken as it is.
func TestCanonicalEventsNeedNoSecondEncoding(t *testing.T) {
	text := ""
	for c := range rune(0x80) {
		text += string(c)
	}
	turn := Turn{
		ID: "t.1", SessionID: "s/空", User: text, Assistant: "\u2028😀</b>", Timestamp: Instant(1).Time(), CompletedAt: Instant(2).Time(),
		Status: Failed, Error: "e", FinishReason: "f", Model: "m", UserID: "u", TraceID: "x", Supersedes: "t.0",
	}
	d, err := turn.Draft()
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Snapshot(0)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := decodeCanonical(s.Payload()); !ok {
		t.Errorf("not taken as canonical: %s", s.Payload())
	}
}

func TestCanonicalEscapes(t *testing.T) {
	canonical := make(map[string]bool)
	for c := range rune(0x100) {
		quoted, err := jsontext.AppendQuote(nil, string(c))
		if err != nil {
			t.Fatal(err)
		}
		if text := string(quoted[1 : len(quoted)-1]); text[0] == '\\' {
			canonical[text] = true
		}
	}
	if len(canonical) != 0x20+2 {
		t.Fatalf("%d characters are escaped, want controls, quote and backslash", len(canonical))
	}
	const hex = "0123456789abcdefABCDEF"
	for _, a := range hex {
		for _, b := range hex {
			for _, head := range []string{"00", "01", "20", "d8"} {
				text := `\u` + head + string(a) + string(b)
				if got := canonicalEscapes([]byte("x" + text)); got != canonical[text] {
					t.Errorf("%s counts as canonical: %v", text, got)
				}
			}
		}
	}
	for c := range rune(0x80) {
		if text := `\` + string(c); c != 'u' && canonicalEscapes([]byte(text)) != canonical[text] {
			t.Errorf("%q counts as canonical: %v", text, !canonical[text])
		}
	}
	for _, text := range []string{`\`, `\u`, `\u001`} {
		if canonicalEscapes([]byte(text)) {
			t.Errorf("%q counts as canonical", text)
		}
	}
}

func TestPlainText(t *testing.T) {
	const clean = "\x20\x7f\x80\xff\u00e9 and more than eight bytes"
	for i := range len(clean) {
		if !plainText([]byte(clean[i:])) {
			t.Errorf("%q is said to have controls", clean[i:])
		}
		for _, c := range []string{"\x00", "\n", "\x1f"} {
			if plainText([]byte(clean[:i] + c + clean[i:])) {
				t.Errorf("%q at byte %d was not seen", c, i)
			}
		}
	}
}

// What is nearly canonical goes the long way, whatever that says of it.
func TestNearlyCanonical(t *testing.T) {
	const event = `{"id":"t1","timestamp":"2026-11-23T15:04:05.123456+00:00","user":"a","assistant":"b","status":"complete","rev":1,"model":"m","session_id":"s"}`
	if _, ok := decodeCanonical([]byte(event)); !ok {
		t.Fatal("the event is canonical")
	}
	for _, c := range [][2]string{
		{`"rev":1`, `"rev":01`}, {`"rev":1`, `"rev":0`}, {`"rev":1`, `"rev":1000000`}, {`"rev":1`, `"rev":10000001`}, {`"rev":1`, `"rev":1.0`},
		{`"complete"`, `"redacted"`}, {`"complete"`, `"done"`}, {`"id":"t1"`, `"id":"t 1"`}, {`"id":"t1"`, `"id":""`},
		{`"s"}`, `""}`}, {`"s"}`, `"\u0000"}`}, {`"s"}`, `"\\"}`}, {`"s"}`, `1}`}, {`"s"}`, `"s",}`}, {`"s"}`, `"s"}}`}, {`"s"}`, `"s"} `}, {`"s"}`, `"s"`},
		{`,"session_id":"s"`, ``}, {`"model":"m",`, `"model":"m","model":"m",`}, {`"model":"m",`, `"zzz":"m",`}, {`"model":"m",`, `"model":{"a":1,"a":2},`},
		{`"model":"m",`, `"completed_at":"2026-02-30T00:00:00.000000+00:00",`}, {`"model":"m","session_id":"s"`, `"session_id":"s","supersedes":""`},
		{`"user":"a"`, `"user":"\/"`}, {`"user":"a"`, "\"user\":\"\xff\""}, {`"user":"a"`, "\"user\":\"\t\""}, {`"user":"a"`, `"user": "a"`}, {`2026-11`, `2026-13`},
	} {
		in := strings.Replace(event, c[0], c[1], 1)
		if s, ok := decodeCanonical([]byte(in)); ok || in == event {
			t.Errorf("%s is taken as canonical: %+v", in, s)
		}
	}
}
