package transcript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/record"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

const (
	redactedEvent = `{"id":"b","timestamp":"2026-11-23T15:00:01.000000+00:00","user":"","assistant":"","status":"redacted","rev":1000000,"session_id":"s"}`
	redactedTail  = `{"id":"b","timestamp":"2026-11-23T15:00:01.000000+00:00","user":"secret","assistant":"a secret","status":"redacted","rev":1000000,` +
		`"completed_at":"2026-11-23T15:09:00.000000+00:00","error":"a secret","meta":{"secret":1},"session_id":"s","supersedes":"a"}`
)

func TestRedactedTurnThatCarriesText(t *testing.T) {
	head := `{"session_id":"s","id":"b","timestamp":"2026-11-23T15:00:01Z","status":"redacted","rev":1000000,`
	for _, c := range []struct{ members, at string }{
		{`"user":"secret"`, "user"}, {`"user":"","assistant":"secret"`, "assistant"}, {`"user":"","error":"secret"`, "error"},
		{`"user":"","meta":{"a":"secret"}`, "meta"}, {`"user":"","tool_calls":[{"name":"secret"}]`, "tool_calls"},
		{`"user":"","attachments":[]`, "attachments"}, {`"user":"","secret":"x"`, ""},
	} {
		var bad *RedactionError
		var rule *RuleError
		_, err := Decode([]byte(head+c.members+"}"), 0)
		if !errors.As(err, &bad) || !errors.As(err, &rule) || bad.Member != c.at || rule.Member != c.at || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", c.members, err)
		}
	}
	if _, err := Decode([]byte(strings.Replace(redactedTail, `"error":"a secret","meta":{"secret":1},`, "", 1)), 0); err == nil {
		t.Error("a canonical one is taken")
	}
	at := time.Date(2026, 11, 23, 15, 0, 1, 0, time.UTC)
	for _, turn := range []Turn{
		{User: "secret"}, {Assistant: "secret"}, {Error: "secret"}, {Meta: map[string]any{"a": 1}}, {ToolCalls: []ToolCall{{}}},
		{Extra: map[string]jsontext.Value{"x": jsontext.Value(`"secret"`)}},
	} {
		turn.SessionID, turn.ID, turn.Timestamp, turn.Status, turn.Rev = "s", "b", at, Redacted, RedactRev
		var bad *RedactionError
		if _, err := turn.Draft(); !errors.As(err, &bad) {
			t.Errorf("%+v: %v", turn, err)
		}
	}
	// What cannot carry text is let go.
	parent := "a"
	s := snapshotOf(t, Turn{SessionID: "s", ID: "b", Timestamp: at, Status: Redacted, Rev: RedactRev, CompletedAt: at, Model: "m", FinishReason: "stop",
		Usage: &Usage{}, UserID: "u", TraceID: "t", Parent: &parent, Supersedes: "a"})
	if string(s.Payload()) != redactedEvent || s.HasParent || s.Supersedes != "" || s.CompletedAt != 0 {
		t.Errorf("the snapshot is %+v\n%s", s, s.Payload())
	}
}

// What an older version stored of a redaction gives the same bytes as an empty one, whichever
// of the two came first, in a document, in a tail and in a damaged file.
func TestStoredRedactionKeepsNoText(t *testing.T) {
	turns := talk(t, "a", "b", "c")
	full, err := DecodeStored([]byte(redactedTail))
	if err != nil || string(full.Payload()) != redactedEvent {
		t.Fatalf("%v\n%s", err, full.Payload())
	}
	empty, err := Decode([]byte(redactedEvent), 0)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := MergeAll("s", turns[0], turns[1], turns[2], empty)
	if err != nil {
		t.Fatal(err)
	}
	want, err := doc.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	// The older document, with the text in it and the sum of that.
	body, _, _ := bytes.Cut(want, []byte(ownHead))
	text := strings.Replace(string(body), string(empty.AppendMessage(nil)), strings.Replace(redactedTail, `,"session_id":"s"`, "", 1), 1)
	text = strings.Replace(text, `"updated_at":"2026-11-23T15:00:02`, `"updated_at":"2026-11-23T15:09:00`, 1)
	older := fmt.Appendf(nil, `%s,"afterword":{"schema":1,"revision":%d,"sha256":"%s"}}`+"\n", text, doc.revision, sha256Hex(text))
	if got, err := ParseDocument("s", older); err != nil {
		t.Fatal(err)
	} else if b, _ := got.Bytes(); string(b) != string(want) {
		t.Fatalf("the older document is\n%s\nwant\n%s", b, want)
	}

	ctx := context.Background()
	for _, c := range []struct {
		name    string
		doc     []byte
		tail    string
		damaged bool
	}{
		{"document", older, "", false},
		{"tail", nil, redactedTail, false},
		{"both", older, redactedTail, false},
		{"damaged document", bytes.Replace(older, []byte(`"u a"`), []byte(`"u x"`), 1), "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openStore(t, Config{})
			path := filepath.Join(s.Dir(), DocumentPath(Sharded, "s"))
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if c.doc != nil {
				if err := os.WriteFile(path, c.doc, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var lines []byte
			if c.tail != "" {
				lines = record.Append(lines, []byte(c.tail))
			}
			if c.doc == nil {
				for i := range turns {
					lines = record.Append(lines, turns[i].Payload())
				}
			}
			if err := os.WriteFile(strings.TrimSuffix(path, documentSuffix)+tailSuffix, lines, 0o600); err != nil {
				t.Fatal(err)
			}
			if c.damaged {
				if _, err := s.Repair(ctx, "s", Events{Turns: turns}); err != nil {
					t.Fatal(err)
				}
			}
			got, err := s.Read(ctx, "s")
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := got.Bytes(); string(b) != string(want) {
				t.Errorf("the store reads\n%s\nwant\n%s", b, want)
			}
			v, err := s.View(ctx, "s")
			if err != nil {
				t.Fatal(err)
			}
			var streamed bytes.Buffer
			if _, err := v.WriteTo(ctx, &streamed); err != nil || streamed.String() != string(want) || v.Size() != int64(len(want)) {
				t.Errorf("a view is, %v, size %d\n%s\nwant\n%s", err, v.Size(), &streamed, want)
			}
			if err := v.Close(); err != nil {
				t.Error(err)
			}
			// The next turn of the session has the file written without the text.
			if err := s.Append(ctx, empty); err != nil {
				t.Fatal(err)
			}
			if err := s.FoldAll(ctx); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != string(want) {
				t.Errorf("the file is, %v\n%s\nwant\n%s", err, b, want)
			}
		})
	}
}

// Whatever arrives of a redacted turn, in whatever order, it keeps id, timestamp, status and rev, and nothing else.
func TestMergeOfRedactions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snaps := rapid.SliceOfN(genSnapshot("s"), 1, 8).Draw(t, "snapshots")
		redacted := map[string]Instant{} // the earliest of equal ones stays
		for range rapid.IntRange(1, 4).Draw(t, "redactions") {
			id, at := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id"), Instant(rapid.IntRange(1, 5).Draw(t, "at"))
			old, err := DecodeStored(fmt.Appendf(nil, `{"id":%q,"timestamp":%q,"user":"secret","assistant":"","status":"redacted","rev":1000000,"meta":{"a":"secret"},"parent":"z","session_id":"s","usage":{"input_tokens":7,"output_tokens":1}}`, id, at.String()))
			if err != nil {
				t.Fatal(err)
			}
			snaps = append(snaps, old)
		}
		for i := range snaps {
			if s := &snaps[i]; s.Status == Redacted {
				if at, ok := redacted[s.ID]; !ok || s.Timestamp < at {
					redacted[s.ID] = s.Timestamp
				}
			}
		}
		doc, err := MergeAll("s", rapid.Permutation(snaps).Draw(t, "order")...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := doc.Bytes()
		if err != nil || strings.Contains(string(b), "secret") {
			t.Fatalf("%v: %s", err, b)
		}
		for id, at := range redacted {
			want := fmt.Sprintf("\n"+`{"id":%q,"timestamp":%q,"user":"","assistant":"","status":"redacted","rev":1000000}`, id, at.String())
			if !strings.Contains(string(b), want) {
				t.Fatalf("there is no %s in\n%s", want, b)
			}
		}
	})
}

// Older versions kept any member called parent.
func TestStoredParentOfAnotherType(t *testing.T) {
	for _, parent := range []string{`5`, `{"a":1}`, `"two words"`, `null`} {
		in := `{"id":"b","timestamp":"2026-11-23T15:00:01.000000+00:00","user":"u","assistant":"a","status":"complete","rev":1,"parent":` + parent + `,"session_id":"s"}`
		if _, err := Decode([]byte(in), 0); !Malformed(err) {
			t.Errorf("%s is published: %v", parent, err)
		}
		s, err := DecodeStored([]byte(in))
		if err != nil || s.HasParent || string(s.Payload()) != in {
			t.Errorf("%s: %v\n%s", parent, err, s.Payload())
		}
		if s, err := decodeMessage("s", s.AppendMessage(nil)); err != nil || s.HasParent || string(s.Payload()) != in {
			t.Errorf("%s in a document: %v\n%s", parent, err, s.Payload())
		}
	}
}
