package transcript

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"
)

// genSnapshot draws snapshots that collide: few ids, few timestamps, few
// revisions, so that every rule of the merge decides sometimes.
func genSnapshot(session string) *rapid.Generator[Snapshot] {
	return rapid.Custom(func(t *rapid.T) Snapshot {
		turn := Turn{
			ID:        rapid.SampledFrom([]string{"a", "b", "c", "d", "e.1", "Z"}).Draw(t, "id"),
			SessionID: session,
			User:      rapid.SampledFrom([]string{"", "hi", "\"\\\n\u2028", "空"}).Draw(t, "user"),
			Assistant: rapid.SampledFrom([]string{"", "yo", "<b>&"}).Draw(t, "assistant"),
			Status:    rapid.SampledFrom([]Status{Pending, Complete, Partial, Failed, Cancelled}).Draw(t, "status"),
			Rev:       rapid.IntRange(1, 3).Draw(t, "rev"),
			Model:     rapid.SampledFrom([]string{"", "m1", "z"}).Draw(t, "model"),
		}
		turn.Timestamp = Instant(rapid.IntRange(0, 3).Draw(t, "at")).Time().AddDate(50, 0, 0)
		if rapid.Bool().Draw(t, "completed") {
			turn.CompletedAt = turn.Timestamp.AddDate(0, 0, rapid.IntRange(0, 2).Draw(t, "days"))
		}
		if rapid.Bool().Draw(t, "supersedes") {
			turn.Supersedes = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "superseded")
		}
		if rapid.Bool().Draw(t, "tools") {
			turn.ToolCalls = []ToolCall{{ID: "1", Name: "f", Arguments: jsontext.Value(`{"z":1.0,"a":[]}`)}}
			turn.Usage = &Usage{InputTokens: 3}
		}
		if name := rapid.SampledFrom([]string{"", "new", "session_ie", "zz"}).Draw(t, "extra"); name != "" {
			turn.Extra = map[string]jsontext.Value{name: jsontext.Value(`{"b":1.50,"a":null}`)}
		}
		if rapid.IntRange(0, 9).Draw(t, "redact") == 0 {
			turn = Turn{ID: turn.ID, SessionID: session, Timestamp: turn.Timestamp, Status: Redacted, Rev: RedactRev}
		}
		return snapshotOf(t, turn)
	})
}

// render is the independent, simple renderer: sort, dedupe, print.
func render(t interface{ Fatal(...any) }, session string, snaps []Snapshot) string {
	best := map[string]Snapshot{}
	for _, s := range snaps {
		if held, ok := best[s.ID]; !ok || s.Beats(&held) {
			best[s.ID] = s
		}
	}
	var turns []Snapshot
	for _, s := range best {
		turns = append(turns, s)
	}
	for i := range turns { // selection sort, on purpose
		for j := i + 1; j < len(turns); j++ {
			if turns[j].Timestamp < turns[i].Timestamp || turns[j].Timestamp == turns[i].Timestamp && turns[j].ID < turns[i].ID {
				turns[i], turns[j] = turns[j], turns[i]
			}
		}
	}
	var lines []string
	updated, revision := Instant(0), 0
	for _, s := range turns {
		lines = append(lines, string(s.AppendMessage(nil)))
		updated = max(updated, s.Timestamp, s.CompletedAt)
		revision += s.Rev
	}
	body := fmt.Sprintf("{\"session_id\":%q,\"created_at\":\"%s\",\"messages\":[\n%s\n],\"updated_at\":\"%s\",\"message_count\":%d",
		session, turns[0].Timestamp, strings.Join(lines, ",\n"), updated, len(turns))
	return body + fmt.Sprintf(",\"afterword\":{\"schema\":1,\"revision\":%d,\"sha256\":\"%s\"}}\n", revision, sha256Hex(body))
}

func TestMergeIsAssociativeCommutativeIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snaps := rapid.SliceOfN(genSnapshot("s"), 3, 3).Draw(t, "abc")
		for i := range snaps { // one turn
			d, err := ParseDraft(snaps[i].Payload())
			if err != nil {
				t.Fatal(err)
			}
			d.ID = "same"
			if snaps[i], err = d.Snapshot(0); err != nil {
				t.Fatal(err)
			}
		}
		max2 := func(a, b Snapshot) Snapshot {
			if b.Beats(&a) {
				return b
			}
			return a
		}
		a, b, c := snaps[0], snaps[1], snaps[2]
		same := func(what string, x, y Snapshot) {
			if !bytes.Equal(x.Payload(), y.Payload()) {
				t.Fatalf("%s:\n%s\n%s", what, x.Payload(), y.Payload())
			}
		}
		same("not commutative", max2(a, b), max2(b, a))
		same("not associative", max2(a, max2(b, c)), max2(max2(a, b), c))
		same("not idempotent", max2(a, a), a)
	})
}

func TestDecodeEncodeIdentity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genSnapshot(rapid.StringMatching(`[a-z空/]{1,9}`).Draw(t, "session")).Draw(t, "snapshot")
		got, err := Decode(s.Payload(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", s) {
			t.Fatalf("decoded\n%+v\nwant\n%+v", got, s)
		}
		slow, err := decodeAny(s.Payload(), 0)
		if err != nil || fmt.Sprintf("%+v", slow) != fmt.Sprintf("%+v", s) {
			t.Fatalf("decoded the long way\n%+v, %v\nwant\n%+v", slow, err, s)
		}
		if quick, ok := scanCanonical(s.SessionID, s.Payload()); !ok || fmt.Sprintf("%+v", quick) != fmt.Sprintf("%+v", s) {
			t.Fatalf("scanned, %v\n%+v\nwant\n%+v", ok, quick, s)
		}
		if quick, ok := scanCanonical(s.SessionID, s.AppendMessage(nil)); !ok || !bytes.Equal(quick.Payload(), s.Payload()) {
			t.Fatalf("scanned from the message, %v\n%s\nwant\n%s", ok, quick.Payload(), s.Payload())
		}
		turn, err := s.Turn()
		if err != nil {
			t.Fatal(err)
		}
		if user, assistant := s.Exchange(); user != turn.User || assistant != turn.Assistant {
			t.Fatalf("said %q and %q, want %q and %q", user, assistant, turn.User, turn.Assistant)
		}
		d, err := turn.Draft()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := d.Snapshot(0); err != nil || !bytes.Equal(again.Payload(), s.Payload()) {
			t.Fatalf("through Turn: %s, %v\nwant %s", again.Payload(), err, s.Payload())
		}
		msg, err := decodeMessage(s.SessionID, s.AppendMessage(nil))
		if err != nil || !bytes.Equal(msg.Payload(), s.Payload()) {
			t.Fatalf("through the document: %s, %v\nwant %s", msg.Payload(), err, s.Payload())
		}
	})
}

func TestTokenIsInjective(t *testing.T) {
	seen := map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(
			rapid.StringOfN(rapid.RuneFrom([]rune("a=~/.*>空😀AF0")), 1, 60, 255),
			rapid.StringN(1, -1, 255),
		).Draw(t, "id")
		token := Token(id)
		if other, ok := seen[token]; ok && other != id {
			t.Fatalf("%q and %q share the token %s", id, other, token)
		}
		seen[token] = id
		if len(token) == 0 || len(token) > 160 || strings.Trim(token, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-=~") != "" {
			t.Fatalf("token %q of %q", token, id)
		}
		if back, ok := sessionOfToken(token); ok && back != id {
			t.Fatalf("token %q decodes to %q, not %q", token, back, id)
		} else if !ok && !strings.Contains(token, "=~") {
			t.Fatalf("token %q does not decode", token)
		}
	})
}

// payloads are what turns are, whether they came from a tail or a document.
func payloads(turns []Snapshot) (text string) {
	for i := range turns {
		text += string(turns[i].Payload()) + "\n"
	}
	return text
}

// Any permutation, duplication and batching of snapshots, over any interleaving
// of append, merge, fold, reopen and reads, gives the same bytes.
func TestStoreIsCanonical(t *testing.T) {
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		const session = "s"
		snaps := rapid.SliceOfN(genSnapshot(session), 1, 12).Draw(t, "snapshots")
		want := render(t, session, snaps)
		stream := append([]Snapshot(nil), snaps...)
		for range rapid.IntRange(0, 6).Draw(t, "duplicates") {
			stream = append(stream, rapid.SampledFrom(snaps).Draw(t, "duplicate"))
		}
		stream = rapid.Permutation(stream).Draw(t, "order")

		dir, err := os.MkdirTemp(root, "")
		if err != nil {
			t.Fatal(err)
		}
		how := rapid.SampledFrom([]Durability{SyncFS, SyncFiles}).Draw(t, "durability")
		cfg := Config{Dir: dir, Durability: how, TailLimit: int64(rapid.SampledFrom([]int{1, 300, 1 << 20}).Draw(t, "tail limit"))}
		open := func() *Store {
			s, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		store := open()
		ctx := context.Background()
		var done []Snapshot
		for len(stream) > 0 {
			n := rapid.IntRange(1, len(stream)).Draw(t, "batch")
			var err error
			if rapid.Bool().Draw(t, "past the tail") {
				err = store.Merge(ctx, GroupBySession(stream[:n]))
			} else {
				err = store.Append(ctx, stream[:n]...)
			}
			if err != nil {
				t.Fatal(err)
			}
			done, stream = append(done, stream[:n]...), stream[n:]
			switch rapid.IntRange(0, 3).Draw(t, "then") {
			case 0:
				if err := store.FoldAll(ctx); err != nil {
					t.Fatal(err)
				}
			case 1:
				if err := store.Close(ctx); err != nil {
					t.Fatal(err)
				}
				store = open()
			}
			doc, err := store.Read(ctx, session)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := doc.Bytes(); string(got) != render(t, session, done) {
				t.Fatalf("read\n%s\nwant\n%s", got, render(t, session, done))
			}
			recent, err := store.Recent(ctx, session, 2)
			if err != nil {
				t.Fatal(err)
			}
			all, _ := doc.Turns()
			if got, want := payloads(recent.Turns), payloads(LastAnswered(all, 2)); got != want || recent.Version != doc.Version() {
				t.Fatalf("recent\n%s%v\nwant\n%s%v", got, recent.Version, want, doc.Version())
			}
		}
		if err := store.Close(ctx); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(dir + "/" + DocumentPath(Sharded, session))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Fatalf("document\n%s\nwant\n%s", got, want)
		}
	})
}
