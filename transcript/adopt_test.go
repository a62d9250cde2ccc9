package transcript

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const older = `{"session_id": "chat", "created_at": "2025-03-01T10:00:00", "messages": [
	{"timestamp": "2025-03-01T10:00:00.5", "user": "hi", "assistant": "hello"},
	{"timestamp": "2025-03-01T10:00:00.5", "user": "hi", "assistant": "hello"},
	{"timestamp": "2025-03-01T09:00:00", "user": "clock went back", "assistant": null, "model": 4, "tag": "x"},
	{"timestamp": "2025-03-01 12:00:00+01:00", "user": "zone", "assistant": "lone \ud800"}
], "updated_at": "2025-03-01T12:00:00", "message_count": 4, "owner": {"b": 1, "a": 2}}`

func TestAdoptOlderDocument(t *testing.T) {
	for _, c := range []struct{ name, doc string }{
		{"one line", strings.ReplaceAll(strings.ReplaceAll(older, "\n", ""), "\t", "")},
		{"indented", indent(t, older)},
		{"as printed", older},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "transcripts")
			s := openStore(t, Config{Dir: dir, Layout: Flat})
			path := filepath.Join(dir, "chat.json")
			if err := os.WriteFile(path, []byte(c.doc), 0o644); err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			before, err := s.Read(ctx, "chat")
			if err != nil || before.Len() != 4 {
				t.Fatalf("read before adoption: %d turns, %v", before.Len(), err)
			}
			if err := s.Append(ctx, snap(t, "chat", 1)); err != nil {
				t.Fatal(err)
			}
			if err := s.FoldAll(ctx); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var doc struct {
				olderDocument
				Messages []struct {
					ID, Timestamp, User, Assistant, Tag string
					OlderModel                          int `json:"older_model"`
				}
				Afterword struct{ Kept stdjson.RawMessage }
			}
			if err := stdjson.Unmarshal(b, &doc); err != nil {
				t.Fatalf("%v\n%s", err, b)
			}
			want := []struct{ at, user, assistant string }{
				{"2025-03-01T10:00:00.500000+00:00", "hi", "hello"},
				{"2025-03-01T10:00:00.500001+00:00", "hi", "hello"},
				{"2025-03-01T10:00:00.500002+00:00", "clock went back", ""},
				{"2025-03-01T11:00:00.000000+00:00", "zone", "lone \ufffd"},
				{"2026-11-23T15:00:00.000001+00:00", "question 1", "answer 1"},
			}
			if len(doc.Messages) != len(want) {
				t.Fatalf("%d messages\n%s", len(doc.Messages), b)
			}
			ids := map[string]bool{}
			for i, w := range want {
				m := doc.Messages[i]
				if m.Timestamp != w.at || m.User != w.user || m.Assistant != w.assistant {
					t.Errorf("message %d is %+v, want %+v", i, m, w)
				}
				if i < 4 && (!strings.HasPrefix(m.ID, "old-") || len(m.ID) != 36) {
					t.Errorf("message %d has id %q", i, m.ID)
				}
				ids[m.ID] = true
			}
			if len(ids) != len(want) {
				t.Errorf("ids are not unique: %v", ids)
			}
			if m := doc.Messages[2]; m.OlderModel != 4 || m.Tag != "x" {
				t.Errorf("other members: %+v", m)
			}
			if string(doc.Afterword.Kept) != `{"owner":{"b":1,"a":2}}` {
				t.Errorf("kept %s", doc.Afterword.Kept)
			}
			// Adoption is stable: read again, and once more through an indenting program.
			again, err := ParseDocument("chat", b)
			if err != nil {
				t.Fatal(err)
			}
			other, err := ParseDocument("chat", []byte(indent(t, string(b))))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range []*Document{again, other} {
				if got, err := d.Bytes(); err != nil || !bytes.Equal(got, b) {
					t.Errorf("not stable: %v\n%s\nwant\n%s", err, got, b)
				}
			}
		})
	}
}

func indent(t *testing.T, doc string) string {
	t.Helper()
	var b bytes.Buffer
	if err := stdjson.Indent(&b, []byte(doc), "", "  "); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// There is no later moment for the second turn, which is as good as the first.
func TestAdoptTurnsOfTheLastMoment(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Config{Dir: dir, Layout: Flat})
	doc := `{"session_id": "late", "messages": [{"timestamp": "2300-01-01T00:00:00", "user": "a", "assistant": "b"}, {"timestamp": "2300-01-01T00:00:00", "user": "c", "assistant": "d"}]}`
	if err := os.WriteFile(filepath.Join(dir, "late.json"), []byte(doc), 0o644); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Read(t.Context(), "late"); err != nil || d.Len() != 2 {
		t.Errorf("%d turns, %v", d.Len(), err)
	}
}

func TestAdoptRefuses(t *testing.T) {
	for name, doc := range map[string]string{
		"not JSON":        `{"session_id":`,
		"empty":           ``,
		"another session": `{"session_id":"other","messages":[]}`,
		"no messages":     `{"session_id":"chat"}`,
		"a message of 5":  `{"session_id":"chat","messages":[5]}`,
	} {
		if d, err := ParseDocument("chat", []byte(doc)); err == nil {
			t.Errorf("%s: adopted %d turns", name, d.Len())
		}
	}
}
