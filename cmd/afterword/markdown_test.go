package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
	"pgregory.net/rapid"

	"github.com/afterword-io/afterword/transcript"
)

// active are texts that would be something in Markdown, if they were let.
var active = []string{
	"<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![x](https://evil.example/a.png)", "[x](javascript:alert(1))", "https://evil.example/", "<https://evil.example/>",
	"www.evil.example", "# heading", "heading\n===", "---\ntitle: x\n---", "```\n# out\n", "~~~\n", "````` `` `", "`", "``", "`a", "a`", "* * *", "| a | b |\n|---|---|\n| 1 | 2 |",
	"[x]: https://evil.example/\n\n[x]", "&lt;b&gt; &#60;", "\\`", "$x$", "- [ ] task", "> quote", "    code", "\tcode", "\r# cr\r", "\u2028# ls", "\u202egnp.exe", "\u200b\u2066", "\x1b[2J", "",
	"\n\n\n", "<!-- ", "<![CDATA[", "</text>", "![][x]", "a\n```\nb\n````\n<b>", "~~x~~", "^[x]", "[^1]: note",
}

// Nothing that was said, and no other member, is active in an export for reading.
func TestMarkdownIsInert(t *testing.T) {
	parser := goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote, extension.DefinitionList, extension.Typographer)).Parser()
	rapid.Check(t, func(t *rapid.T) {
		some := func(label string) string {
			return strings.Join(rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(active), rapid.SampledFrom([]string{"\n", "\n\n", " ", "`"}), rapid.String()), 0, 4).Draw(t, label), "")
		}
		var turns []transcript.Snapshot
		var said []string
		for i := range rapid.IntRange(1, 3).Draw(t, "turns") {
			turn := transcript.Turn{SessionID: "s", ID: fmt.Sprintf("t%d", i), Timestamp: time.Unix(int64(i), 0), User: some("user"), Assistant: some("assistant"), Model: some("model"), Error: some("error"),
				Attachments: []transcript.Attachment{{URI: some("uri"), MediaType: some("type")}}, ToolCalls: []transcript.ToolCall{{Name: some("name"), Status: some("status")}}}
			d, err := turn.Draft()
			if err != nil {
				t.Skip(err)
			}
			snap, err := d.Snapshot(0)
			if err != nil {
				t.Fatal(err)
			}
			turns = append(turns, snap)
			said = append(said, turn.User)
			if turn.Assistant != "" {
				said = append(said, turn.Assistant)
			}
		}
		source, err := appendMarkdown(nil, some("session"), turns, "")
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(string(source), "\x1b\u202e\u2066\u200b\u2028\r") {
			t.Fatalf("a character that is not harmless: %q", source)
		}
		headings, fences := 0, []string(nil)
		err = ast.Walk(parser.Parse(text.NewReader(source)), func(n ast.Node, entering bool) (ast.WalkStatus, error) {
			if !entering {
				return ast.WalkContinue, nil
			}
			switch n := n.(type) {
			case *ast.Document, *ast.Paragraph, *ast.TextBlock, *ast.List, *ast.ListItem, *ast.Emphasis, *ast.CodeSpan, *ast.Text, *ast.String:
			case *ast.Heading:
				headings++
			case *ast.FencedCodeBlock:
				fences = append(fences, string(n.Lines().Value(source)))
			default:
				t.Fatalf("%s in\n%s", n.Kind(), source)
			}
			return ast.WalkContinue, nil
		})
		if err != nil || headings != 1+len(turns) || len(fences) != len(said) {
			t.Fatalf("%d headings and %d texts of %d turns and %d texts: %v\n%s", headings, len(fences), len(turns), len(said), err, source)
		}
		for i, s := range said {
			want := strings.TrimRight(harmless(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(s)), "\n") + "\n"
			if fences[i] != want {
				t.Fatalf("text %q is shown as %q", want, fences[i])
			}
		}
	})
}
