package exchange

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/afterword-io/afterword/transcript"
)

const testBase = transcript.Instant(1_700_000_000_000_000)

// convert makes turns of the elements of a file, each valid as a publisher would send it.
func convert(t testing.TB, several bool, elements ...string) (payloads []string) {
	t.Helper()
	c := &Converter{Session: "file", Base: testBase, Take: func(list [][]byte) error {
		for _, p := range list {
			payloads = append(payloads, string(p))
		}
		return nil
	}, Refuse: func(error) {}, Doubt: func(err error) { t.Errorf("doubted: %v: %s", err, elements) }}
	for i, e := range elements {
		if err := checkValue([]byte(e)); err != nil {
			t.Fatalf("%v: %s", err, e)
		}
		number := 0
		if several {
			number = i + 1
		}
		kind, err := c.Add(jsontext.Value(e), number)
		if err != nil || kind != Converted {
			t.Fatalf("kind %d: %v: %s", kind, err, e)
		}
	}
	if err := c.End(); err != nil {
		t.Fatal(err)
	}
	return payloads
}

// stored are turns as a transcript has them.
func stored(t testing.TB, payloads []string) []transcript.Snapshot {
	t.Helper()
	var snaps []transcript.Snapshot
	session := ""
	for _, p := range payloads {
		s, err := transcript.Decode([]byte(p), 0)
		if err != nil {
			t.Fatalf("%v: %s", err, p)
		}
		snaps, session = append(snaps, s), s.SessionID
	}
	doc, err := transcript.MergeAll(session, snaps...)
	if err != nil {
		t.Fatal(err)
	}
	turns, err := doc.Turns()
	if err != nil {
		t.Fatal(err)
	}
	if len(turns) != len(payloads) {
		t.Fatalf("%d of %d turns are kept: %s", len(turns), len(payloads), strings.Join(payloads, "\n"))
	}
	return turns
}

func canonical(turns []transcript.Snapshot) (list []string) {
	for i := range turns {
		list = append(list, string(turns[i].Payload()))
	}
	return list
}

// hostile are texts that a careless program changes.
var hostile = []string{
	"", " ", "\n", "\r\n", " a ", "a\r\nb\rc\n", "\u2028\u2029", "👩‍👩‍👧‍👦 é e\u0301", "\x00\x01\x1f\x7f", "\ufeff", "\\u0041\\", `"`, "</script>", "{}", "null", "[1, 2]",
	`{"name": "f"}`, "\n\n", "a\n\nb", "\n\na", "\u202e", "\ufffd", "```", "0", "𝄞",
}

func someText(t *rapid.T, label string) string {
	return rapid.OneOf(rapid.SampledFrom(hostile), rapid.StringN(0, 8, 40)).Draw(t, label)
}

func someValue(t *rapid.T, label string) jsontext.Value {
	if rapid.Bool().Draw(t, label+" is a text") {
		return quoted(someText(t, label))
	}
	return jsontext.Value(rapid.SampledFrom([]string{`{}`, `{"a":1.50,"b":["\u0001"]}`, `[]`, `[{"type":"text","text":"x"}]`, `null`, `12`, `true`}).Draw(t, label))
}

// someMessages are messages in any order.
func someMessages(t *rapid.T) (list []message) {
	var open []string
	for i := range rapid.IntRange(1, 9).Draw(t, "messages") {
		m := message{id: fmt.Sprintf("m%d", i), time: testBase + transcript.Instant(i*1000), timed: true}
		m.role = rapid.SampledFrom([]string{user, user, assistant, assistant, tool, system}).Draw(t, "role")
		if m.role != tool {
			for range rapid.SampledFrom([]int{1, 1, 1, 1, 2, 3}).Draw(t, "texts") {
				m.texts = append(m.texts, someText(t, "text"))
			}
		}
		switch m.role {
		case assistant:
			for k := range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "calls") {
				c := call{id: fmt.Sprintf("c%d-%d", i, k), name: rapid.SampledFrom([]string{"f", "look up", "ü"}).Draw(t, "name"), arguments: someValue(t, "arguments")}
				m.calls = append(m.calls, c)
				open = append(open, c.id)
			}
		case tool:
			id := fmt.Sprintf("unknown%d", i)
			if n := len(open); n > 0 {
				k := rapid.IntRange(0, n-1).Draw(t, "call")
				id = open[k]
				open = slices.Delete(open, k, k+1)
			}
			m.result = &result{id: id, value: someValue(t, "result")}
		case user:
			if rapid.IntRange(0, 3).Draw(t, "attached") == 0 {
				m.attachments = []jsontext.Value{jsontext.Value(`{"uri":"https://example.com/a.png"}`)}
			}
		}
		list = append(list, m)
	}
	return list
}

// written is a conversation as another program would have exported it.
func (f *format) written(session string, msgs []message) string {
	if f.split {
		var list []message
		for _, m := range msgs {
			list = append(list, m.split()...)
		}
		msgs = list
	}
	for i := range msgs {
		if i > 0 {
			msgs[i].parent = msgs[i-1].id
			msgs[i-1].children = []string{msgs[i].id}
		}
	}
	a := &about{session: session, first: testBase, last: testBase, leaf: msgs[len(msgs)-1].id}
	b := f.head(nil, a)
	for i := range msgs {
		if i > 0 {
			b = append(b, ',')
		}
		b, _ = f.element(b, &msgs[i])
	}
	return string(append(f.tail(b, a), '}'))
}

// saidBy are all texts of some messages: of each role, with calls and results as texts.
func saidBy(msgs []message) string {
	var b strings.Builder
	for _, role := range []string{system, user, assistant} {
		var texts []string
		for _, m := range msgs {
			if m.role == role {
				texts = append(texts, m.texts...)
			}
		}
		fmt.Fprintf(&b, "%s %q\n", role, joined(texts))
	}
	for _, m := range msgs {
		for _, c := range m.calls {
			fmt.Fprintf(&b, "call %q %q %q\n", c.id, c.name, argumentText(c))
		}
	}
	for _, m := range msgs {
		if m.result != nil {
			fmt.Fprintf(&b, "result %q %q\n", m.result.id, textOf(m.result.value))
		}
	}
	return b.String()
}

// What any format says comes back byte for byte: from that format to turns, from them to every
// format, and from there to the same turns.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		in := rapid.SampledFrom(formats).Draw(rt, "in")
		msgs := someMessages(rt)
		turns := stored(t, convert(t, false, in.written("s", slices.Clone(msgs))))
		if len(turns) == 0 { // a root that says nothing
			return
		}
		var back []message
		for i := range turns {
			opened, err := open(&turns[i])
			if err != nil {
				rt.Fatal(err)
			}
			for _, m := range opened.messages() {
				for k := range m.calls {
					if m.calls[k].name == "" && m.calls[k].arguments == nil { // made for a result of no call
						m.calls = nil
						break
					}
				}
				back = append(back, m)
			}
		}
		if want, got := saidBy(msgs), saidBy(back); want != got {
			rt.Fatalf("said\n%s\nstored\n%s\nof %s", want, got, in.written("s", slices.Clone(msgs)))
		}
		for _, out := range formats {
			exported, err := Append(nil, out.name, "s", turns, "")
			if err != nil {
				rt.Fatal(err)
			}
			again := stored(t, convert(t, false, string(exported)))
			if want, got := canonical(turns), canonical(again); !slices.Equal(want, got) {
				rt.Fatalf("through %s\n%s\nbecame\n%s\nby %s", out.name, strings.Join(want, "\n"), strings.Join(got, "\n"), exported)
			}
			// Without what afterword noted the texts are the same.
			bare := bytes.Replace(exported, []byte(`"`+notesName+`":{"turns"`), []byte(`"x":{"y"`), 1)
			plain := stored(t, convert(t, false, string(bare)))
			if want, got := texts(turns), texts(plain); want != got {
				rt.Fatalf("through %s without notes\n%s\nbecame\n%s\nby %s", out.name, want, got, bare)
			}
		}
	})
}

// texts are what is said in turns, whatever turn it is in.
func texts(turns []transcript.Snapshot) string {
	var users, answers []string
	for i := range turns {
		u, a := turns[i].Exchange()
		users, answers = append(users, u), append(answers, a)
	}
	return fmt.Sprintf("%q %q", joined(users), joined(answers))
}
