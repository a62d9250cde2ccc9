package exchange

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/afterword-io/afterword/transcript"
)

// talk makes turns of lines such as "c failed parent=a supersedes=b", in the order of their times.
func talk(t testing.TB, lines ...string) []transcript.Snapshot {
	var payloads []string
	for i, text := range lines {
		f := strings.Fields(text)
		more, rev, said := "", 1, `"user":"q `+f[0]+`","assistant":"a `+f[0]+`"`
		for _, word := range f[1:] {
			switch name, value, named := strings.Cut(word, "="); {
			case named:
				more += fmt.Sprintf(`,%q:%q`, name, value)
			case word == "tools":
				said = `"user":"q ` + f[0] + `"`
				more += `,"tool_calls":[{"name":"look","arguments":{"a":"` + f[0] + `"}}],"meta":{"system":"be brief"},"attachments":[{"uri":"u"}]`
			case word == "none":
				more += `,"tool_calls":[]`
			case word == "redacted":
				said, rev = `"user":""`, transcript.RedactRev
				more += `,"status":"redacted"`
			default:
				said = `"user":"q ` + f[0] + `"`
				more += fmt.Sprintf(`,"status":%q`, word)
			}
		}
		payloads = append(payloads, fmt.Sprintf(`{"session_id":"s","id":%q,"timestamp":%q,"rev":%d,%s%s}`, f[0], (testBase+transcript.Instant(i*1e6)).String(), rev, said, more))
	}
	return stored(t, payloads)
}

// questions are the texts of the user in an export, in order.
func questions(t testing.TB, exported []byte) (said []string) {
	messages, _, _ := strings.Cut(string(exported), `"`+notesName+`":{"turns"`)
	for rest := messages; ; {
		_, after, ok := strings.Cut(rest, `"q `)
		if !ok {
			return said
		}
		id, after, _ := strings.Cut(after, `"`)
		if len(said) == 0 || said[len(said)-1] != id { // Claude has a text twice
			said = append(said, id)
		}
		rest = after
	}
}

// A format of one line tells one branch, and has the other turns beside it: importing it again
// gives all of them.
func TestBranchesInLines(t *testing.T) {
	for _, c := range []struct {
		name, leaf, want string
		turns            []string
	}{
		{"no branch", "", "a b c d", []string{"a", "b failed", "c", "d pending"}},
		{"nothing is answered", "", "a b", []string{"a pending", "b failed"}},
		{"an answer made again", "", "a c", []string{"a", "b", "c supersedes=b"}},
		{"the answer before", "b", "a b", []string{"a", "b", "c supersedes=b"}},
		{"an answer made again that failed", "", "a b", []string{"a", "b", "c failed supersedes=b"}},
		{"and is chosen", "c", "a c", []string{"a", "b", "c failed supersedes=b"}},
		{"a failure made good", "", "a c d", []string{"a", "b failed", "c supersedes=b", "d"}},
		{"an early question changed", "", "a d e", []string{"a", "b", "c", "d supersedes=b", "e"}},
		{"the first question changed", "", "c", []string{"a", "b", "c parent="}},
		{"back to an older branch, with a question", "", "a b d e", []string{"a", "b", "c supersedes=a", "d parent=b", "e pending parent=d"}},
		{"calls of tools, some of another branch", "", "a c", []string{"a tools", "b tools", "c tools supersedes=b"}},
		{"no call, and said so", "", "a c", []string{"a none", "b none", "c none supersedes=b"}},
		{"a redacted turn", "", "a c", []string{"a", "b redacted", "c parent=b"}},
		{"a missing parent, and a circle", "", "b c", []string{"a parent=z", "b parent=c", "c parent=b"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			turns := talk(t, c.turns...)
			for _, f := range formats {
				exported, err := Append(nil, f.name, "s", turns, c.leaf)
				if err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(questions(t, exported), " "); !f.branches && got != c.want {
					t.Errorf("%s tells %q, want %q:\n%s", f.name, got, c.want, exported)
				}
				if again := stored(t, convert(t, true, string(exported))); !slices.Equal(canonical(turns), canonical(again)) {
					t.Errorf("through %s\n%s\nbecame\n%s\nby %s", f.name, strings.Join(canonical(turns), "\n"), strings.Join(canonical(again), "\n"), exported)
				}
			}
		})
	}
	for _, f := range formats {
		if _, err := Append(nil, f.name, "s", talk(t, "a"), "z"); !errors.Is(err, transcript.ErrNoTurn) {
			t.Errorf("%s to a turn that is not there: %v", f.name, err)
		}
	}
}

// A format with branches has every turn that was not redacted at its place, no message before itself, and the
// branch as the active one, so that importing it without notes shows the same history.
func TestBranchesInTrees(t *testing.T) {
	turns := talk(t, "a", "b", "c supersedes=b", "r redacted", "d parent=b", "e parent=r", "f parent=g", "g parent=f", "h supersedes=z", "i parent=d")
	for _, f := range formats {
		if !f.branches {
			continue
		}
		for _, leaf := range []string{"", "c", "e", "f"} {
			exported, err := Append(nil, f.name, "s", turns, leaf)
			if err != nil {
				t.Fatal(err)
			}
			said := questions(t, exported)
			slices.Sort(said)
			if got := strings.Join(slices.Compact(said), " "); got != "a b c d e f g h i" {
				t.Errorf("%s has %q:\n%s", f.name, got, exported)
			}
			bare := strings.Replace(string(exported), `"`+notesName+`":{"turns"`, `"x":{"y"`, 1)
			path := transcript.LastAnswered(turns, 100)
			if leaf != "" {
				doc, err := transcript.MergeAll("s", turns...)
				if err != nil {
					t.Fatal(err)
				}
				to, err := doc.Path(transcript.PathQuery{Limit: 100, Leaf: leaf})
				if err != nil {
					t.Fatal(err)
				}
				path = to.Turns
			}
			if want, got := texts(path), texts(transcript.LastAnswered(stored(t, convert(t, true, bare)), 100)); got != want {
				t.Errorf("%s to %q shows %s, want %s:\n%s", f.name, leaf, got, want, bare)
			}
		}
	}
}

// Whatever turns name, an export comes back whole, and no message of a tree follows itself.
func TestBranchesRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var lines []string
		n := rapid.IntRange(1, 7).Draw(rt, "turns")
		for i := range n {
			other := rapid.SampledFrom([]string{"", "t0", "t1", "t2", "t3", "t4", "missing"})
			line := fmt.Sprintf("t%d %s", i, rapid.SampledFrom([]string{"complete", "tools", "failed", "pending", "redacted"}).Draw(rt, "kind"))
			if line = strings.TrimSuffix(line, " complete"); !strings.HasSuffix(line, "redacted") {
				switch rapid.IntRange(0, 3).Draw(rt, "names") {
				case 0:
					line += " parent=" + other.Draw(rt, "parent")
				case 1:
					line += " supersedes=t" + fmt.Sprint(rapid.IntRange(0, n).Draw(rt, "superseded"))
				}
			}
			lines = append(lines, line)
		}
		turns := talk(t, lines...)
		for _, f := range formats {
			exported, err := Append(nil, f.name, "s", turns, rapid.SampledFrom([]string{"", "t0"}).Draw(rt, "leaf"))
			if err != nil {
				rt.Fatal(err)
			}
			if again := stored(t, convert(t, true, string(exported))); !slices.Equal(canonical(turns), canonical(again)) {
				rt.Fatalf("%q through %s\n%s\nbecame\n%s\nby %s", lines, f.name, strings.Join(canonical(turns), "\n"), strings.Join(canonical(again), "\n"), exported)
			}
			if !f.branches {
				continue
			}
			o, err := objectOf(jsontext.Value(exported), "")
			if err != nil {
				rt.Fatal(err)
			}
			conv, err := f.conversation(o)
			if err != nil {
				rt.Fatal(err)
			}
			parents := make(map[string]string)
			for _, unit := range conv.units {
				parents[unit[0].id] = unit[0].parent
			}
			for id := range parents {
				at := id
				for range len(parents) {
					at = parents[at]
				}
				if at != "" {
					rt.Fatalf("%q through %s: message %s follows itself: %s", lines, f.name, id, exported)
				}
			}
		}
	})
}

// Without branches a tree is one line, whatever was not answered.
func TestTreesOfOneLine(t *testing.T) {
	turns := talk(t, "a pending", "b", "c failed", "d failed", "e", "f redacted", "g", "h pending", "i pending")
	for _, f := range formats {
		if !f.branches {
			continue
		}
		exported, err := Append(nil, f.name, "s", turns, "")
		if err != nil {
			t.Fatal(err)
		}
		bare := strings.Replace(string(exported), `"`+notesName+`":{"turns"`, `"x":{"y"`, 1)
		for _, p := range convert(t, true, bare) {
			if strings.Contains(p, `"parent":`) {
				t.Errorf("%s: a turn names its parent: %s", f.name, p)
			}
		}
		if got := strings.Join(questions(t, exported), " "); got != "a b c d e g h i" {
			t.Errorf("%s tells %q:\n%s", f.name, got, exported)
		}
	}
}

// Links that cannot be so are named, and every message is taken.
func TestDoubtedTrees(t *testing.T) {
	gpt := func(leaf, parent, children, root string) string {
		text := func(role, text string) string {
			return `"message":{"author":{"role":"` + role + `"},"content":{"content_type":"text","parts":["` + text + `"]}}`
		}
		return `{"mapping":{"r":{"parent":` + root + `,"children":["u"]},"u":{"parent":"r",` + text("user", "q") + `,"children":` + children + `},"a":{"parent":` + parent + `,` + text("assistant", "x") + `},
			"n":{"parent":"a"}},"current_node":` + leaf + `}`
	}
	talk := func(parent, leaf string) string {
		return `{"chat_messages":[{"uuid":"u","sender":"human","text":"q","parent_message_uuid":"00000000-0000-4000-8000-000000000000"},{"uuid":"a","sender":"assistant","text":"x","parent_message_uuid":"` + parent + `"}],"current_leaf_message_uuid":"` + leaf + `"}`
	}
	for element, want := range map[string]string{
		gpt(`"a"`, `"u"`, `["a"]`, `null`):     "",
		gpt(`"n"`, `"u"`, `["a"]`, `null`):     "", // a place without a message
		gpt(`null`, `"u"`, `["a"]`, `null`):    "",
		gpt(`"z"`, `"u"`, `["a"]`, `null`):     "/current_node names no message that is there",
		gpt(`7`, `"u"`, `["a"]`, `null`):       "/current_node names no message that is there",
		gpt(`"a"`, `"z"`, `[]`, `null`):        "/mapping/a/parent names no message that is there",
		gpt(`"a"`, `"a"`, `[]`, `null`):        "/mapping/a/parent closes a circle",
		gpt(`"a"`, `"u"`, `["a"]`, `"n"`):      "/mapping/u/parent closes a circle",
		gpt(`"a"`, `"u"`, `["a","z"]`, `null`): "/mapping/u/children/1 names no message that is there",
		gpt(`"a"`, `"r"`, `["a"]`, `null`):     "/mapping/u/children/0 names a message that follows another one",
		gpt(`"a"`, `"u"`, `"a"`, `null`):       "/mapping/u/children is no list",
		gpt(`"z"`, `"y"`, `["a","x"]`, `null`): "/current_node names no message that is there: the newest answered turn ends the active branch (links like this: 4)",
		talk("u", "a"):                         "",
		talk("z", "a"):                         "/chat_messages/1/parent_message_uuid names no message that is there",
		talk("u", "z"):                         "/current_leaf_message_uuid names no message that is there",
		talk("a", "u"):                         "/chat_messages/1/parent_message_uuid closes a circle",
	} {
		said, got := "", ""
		c := &Converter{Session: "file", Doubt: func(err error) { got = err.Error() }, Take: func(p [][]byte) error {
			for _, turn := range p {
				said += string(turn)
			}
			return nil
		}}
		if _, err := c.Add(jsontext.Value(element), 0); err != nil || !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: doubted is %q (%v), want %q", element, got, err, want)
		}
		if strings.Count(said, `"user":"q"`) != 1 || strings.Count(said, `"assistant":"x"`) != 1 {
			t.Errorf("%s gives %s", element, said)
		}
	}
}
