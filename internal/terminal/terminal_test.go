package terminal

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEscape(t *testing.T) {
	for text, want := range map[string]string{
		"":                 "",
		`plain \ "空" é 🙂`:  `plain \ "空" é 🙂`,
		"a\x1b[31mb":       `a\u001b[31mb`,
		"\r\n\t\x00\x7f":   `\u000d\u000a\u0009\u0000\u007f`,
		"\u0085\u009b":     `\u0085\u009b`,
		"\u202aa\u202e":    `\u202aa\u202e`,
		"\u2066\u2069":     `\u2066\u2069`,
		"\u200e\u200f":     `\u200e\u200f`,
		"\u061c\u200b":     `\u061c\u200b`,
		"\u200c\u200d":     `\u200c\u200d`,
		"\u2060\ufeff":     `\u2060\ufeff`,
		"\u2028\u2029":     `\u2028\u2029`,
		"\U000e0001":       `\udb40\udc01`,
		"\u3164\u034f":     `\u3164\u034f`,
		"\U000e0101":       `\udb40\udd01`,
		"\ufe00\u180b":     `\ufe00\u180b`,
		"\u2764\ufe0f":     "\u2764\ufe0f",
		"a\xff\xc3":        `a\xff\xc3`,
		"\ufffd stays":     "\ufffd stays",
		"e\u0301 combines": "e\u0301 combines",
	} {
		got := Escape(text)
		if got != want || !Harmless(got) || Harmless(text) != (text == want) {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
		if back := ""; utf8.ValidString(text) && !strings.ContainsAny(text, `\"`) {
			if err := json.Unmarshal([]byte(`"`+got+`"`), &back); err != nil || back != text {
				t.Errorf("in JSON %q is %q, %v", got, back, err)
			}
		}
	}
}

// However a text is cut up, it comes out the same, and raw as it was.
func TestWriter(t *testing.T) {
	const text = "a\tb\n\u202e空🙂\x1b[2J\xff\xf0\x9f\u200b\n"
	const want = "a\tb\n" + `\u202e` + "空🙂" + `\u001b[2J\xff\xf0\x9f\u200b` + "\n"
	for _, size := range []int{1, 2, 3, 5, len(text)} {
		for _, raw := range []bool{false, true} {
			var b strings.Builder
			w := NewWriter(&b, &raw)
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				if k, err := w.Write([]byte(rest[:n])); k != n || err != nil {
					t.Fatal(k, err)
				}
				rest = rest[n:]
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if expect := map[bool]string{false: want, true: text}[raw]; b.String() != expect {
				t.Errorf("by %d bytes, raw %v: %q, want %q", size, raw, b.String(), expect)
			}
		}
	}
	var b strings.Builder
	w := NewWriter(&b, nil)
	w.Write([]byte("\xe7\xa9"))
	if err := w.Flush(); err != nil || b.String() != `\xe7\xa9` {
		t.Errorf("cut off at the end: %q %v", b.String(), err)
	}
}
