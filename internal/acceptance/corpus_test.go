package acceptance

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	sharedData = "../../../shared/data/*.jsonl.gz"
	sampleData = "../../deploy/examples/conversations.jsonl"
)

// corpus is a file of conversations, as somebody has it, and the turns it stands for.
type corpus struct {
	name, path string
	source     []turn // as in the file
	filled     []turn // with ids and timestamps, as publish --dry-run prints them
}

// corpora are the real conversations where they are at hand, else the sample of
// the project, and always some turns with all that is unusual.
func corpora(t *testing.T) []corpus {
	t.Helper()
	paths, err := filepath.Glob(sharedData)
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		if _, err := os.Stat(sampleData); err == nil {
			paths = []string{sampleData}
		} else {
			paths = []string{ownSample(t)}
		}
		t.Logf("the real conversations are not at hand (%s), so this is about %s", sharedData, paths[0])
	}
	var all []corpus
	for _, path := range append(paths, unusual(t)) {
		c := corpus{name: filepath.Base(path), path: path}
		c.source = parseTurns(t, openCorpus(t, path))
		out, _ := run(t, "publish", "--file", abs(t, path), "--dry-run")
		c.filled = parseTurns(t, strings.NewReader(out))
		c.check(t)
		all = append(all, c)
	}
	return all
}

// check compares what publish makes of a file with the file: line by line the
// same session and texts, and dated in the order of the lines.
func (c *corpus) check(t *testing.T) {
	t.Helper()
	if len(c.filled) != len(c.source) {
		t.Fatalf("%s: %d lines became %d turns", c.name, len(c.source), len(c.filled))
	}
	ids := make(map[string]bool)
	last := ""
	for i, f := range c.filled {
		s := c.source[i]
		if f.Session != s.Session || f.User != s.User || f.Assistant != s.Assistant || f.Status != s.Status || f.Rev != s.Rev {
			t.Fatalf("%s: line %d became another turn: %+v", c.name, i+1, f)
		}
		if s.Timestamp == "" {
			if f.Timestamp <= last {
				t.Fatalf("%s: line %d is dated %s, after %s", c.name, i+1, f.Timestamp, last)
			}
			last = f.Timestamp
		}
		if s.ID == "" {
			if key := f.Session + " " + f.ID; ids[key] {
				t.Fatalf("%s: line %d has the id of another", c.name, i+1)
			} else {
				ids[key] = true
			}
		}
	}
}

func openCorpus(t *testing.T, path string) io.Reader {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(path, ".gz") {
		return bytes.NewReader(data)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func abs(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// writeLines writes a file of JSON lines.
func writeLines(t *testing.T, name string, lines ...map[string]any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, l := range lines {
		if err := enc.Encode(l); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// ownSample is for a checkout without any conversations.
func ownSample(t *testing.T) string {
	t.Helper()
	var lines []map[string]any
	for i := range 400 {
		session := fmt.Sprintf("sample-%d", i*i%60)
		lines = append(lines, map[string]any{"session_id": session, "user": fmt.Sprintf("Question %d?", i), "assistant": fmt.Sprintf("答え %d.", i)})
	}
	return writeLines(t, "sample.jsonl", lines...)
}

// unusual has a session each for what real conversations lack: ids that a path or
// a subject could spoil, and texts that an encoder could, every status, revisions that arrive in any order, turns
// that supersede others.
func unusual(t *testing.T) string {
	t.Helper()
	var lines []map[string]any
	add := func(session, user, assistant string, more map[string]any) {
		line := map[string]any{"session_id": session, "user": user, "assistant": assistant}
		for name, value := range more {
			line[name] = value
		}
		lines = append(lines, line)
	}
	for _, text := range []string{
		"", " ", "\n", "\u2028 and \u2029", "</script><b>&amp;</b>", `"\/`, "\x00\x01\x1f\x7f\b\f\n\r\t", "\ufeff\ufffd", "👩‍👩‍👧‍👦 \U0010ffff",
		`\u0041\n`, strings.Repeat("long ", 20_000),
	} {
		add("unusual-texts", text+"?", text+".", nil)
	}
	for i, session := range []string{"../../etc/passwd", "a.b", "*", ">", "turns.>", "a/b", "空", strings.Repeat("😀", 60), "afterword", ".", "CON", "a b"} {
		add(session, fmt.Sprint("question ", i), "answer to "+session, nil)
	}
	for i := range 30 {
		status := []string{"complete", "partial", "cancelled", "failed", "pending"}[i%5]
		add("unusual-status", fmt.Sprintf("%s %d", status, i), fmt.Sprintf("answer %d", i), map[string]any{"status": status})
	}
	for i := range 25 {
		add("unusual-silence", fmt.Sprint("question ", i), []string{"", "answer"}[i%2], nil)
	}
	add("unusual-unanswered", "Anybody here?", "", nil)
	for i := range 20 {
		at := map[string]any{"id": fmt.Sprintf("t%02d", i), "timestamp": fmt.Sprintf("2026-01-31T10:00:%02d+01:00", i)}
		rev := func(n int, status, answer string) {
			add("unusual-revisions", fmt.Sprint("question ", i), answer, map[string]any{"id": at["id"], "timestamp": at["timestamp"], "rev": n, "status": status})
		}
		switch i % 3 {
		case 0:
			rev(1, "pending", "")
			rev(2, "complete", "in order")
		case 1:
			rev(2, "complete", "the other way round")
			rev(1, "pending", "")
		default:
			rev(1, "pending", "")
			rev(2, "failed", "")
			rev(3, "complete", "tried again")
		}
	}
	for i := range 15 {
		more := map[string]any{"id": fmt.Sprintf("s%02d", i), "timestamp": fmt.Sprintf("2026-02-01T00:00:%02d.5Z", i)}
		if i%4 == 3 {
			more["supersedes"] = fmt.Sprintf("s%02d", i-1)
		}
		add("unusual-superseded", fmt.Sprint("question ", i), fmt.Sprint("answer ", i), more)
	}
	for i := range 12 {
		more := map[string]any{"id": fmt.Sprintf("b%02d", i), "timestamp": fmt.Sprintf("2026-02-02T00:00:%02d.5Z", i)}
		switch answer := fmt.Sprint("answer ", i); i {
		case 5: // back to an older branch
			more["parent"] = "b02"
			add("unusual-branches", fmt.Sprint("question ", i), answer, more)
		case 8: // only tools were called
			more["tool_calls"] = []map[string]any{{"name": "look", "arguments": map[string]any{"at": i}}}
			add("unusual-branches", fmt.Sprint("question ", i), "", more)
		case 11: // a regeneration that failed
			more["supersedes"], more["status"] = "b10", "failed"
			add("unusual-branches", fmt.Sprint("question ", i), "", more)
		default:
			add("unusual-branches", fmt.Sprint("question ", i), answer, more)
		}
	}
	return writeLines(t, "unusual.jsonl", lines...)
}
