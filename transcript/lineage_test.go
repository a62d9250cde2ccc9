package transcript

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// talk makes turns of a conversation from lines such as "c complete parent=a supersedes=b",
// in which the order of the lines is that of the timestamps.
func talk(t interface{ Fatal(...any) }, lines ...string) []Snapshot {
	var turns []Snapshot
	for i, text := range lines {
		f := strings.Fields(text)
		turn := Turn{ID: f[0], SessionID: "s", User: "u " + f[0], Assistant: "a " + f[0], Status: Complete,
			Timestamp: time.Date(2026, 11, 23, 15, 0, i, 0, time.UTC)}
		for _, word := range f[1:] {
			switch name, value, _ := strings.Cut(word, "="); name {
			case "parent":
				turn.Parent = &value
			case "supersedes":
				turn.Supersedes = value
			case "tools":
				turn.Assistant, turn.ToolCalls = "", []ToolCall{{Name: "look"}}
			default:
				turn.Status = Status(word)
			}
		}
		if turn.Status == Redacted {
			turn = Turn{ID: turn.ID, SessionID: "s", Timestamp: turn.Timestamp, Status: Redacted, Rev: RedactRev}
		} else if turn.Status == Pending || turn.Status == Failed {
			turn.Assistant = ""
		}
		turns = append(turns, snapshotOf(t, turn))
	}
	return turns
}

func snapshotOf(t interface{ Fatal(...any) }, turn Turn) Snapshot {
	d, err := turn.Draft()
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Snapshot(0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func idsOf(turns []Snapshot) string {
	var ids []string
	for i := range turns {
		ids = append(ids, turns[i].ID)
	}
	return strings.Join(ids, " ")
}

func TestPath(t *testing.T) {
	for _, c := range []struct {
		name  string
		turns []string
		leaf  string
		want  string
	}{
		{"a chain", []string{"a", "b", "c"}, "", "a b c"},
		{"a regenerated answer", []string{"a", "b", "c supersedes=b"}, "", "a c"},
		{"one that is not there yet hides nothing", []string{"a", "b", "c pending supersedes=b"}, "", "a b"},
		{"one that failed hides nothing", []string{"a", "b", "c failed supersedes=b"}, "", "a b"},
		{"and what follows it follows the good one", []string{"a", "b", "c failed supersedes=b", "d"}, "", "a b d"},
		{"a regeneration of a regeneration that failed", []string{"a", "b", "c failed supersedes=b", "d supersedes=c"}, "", "a d"},
		{"a chain of regenerations", []string{"a", "b", "c supersedes=b", "d supersedes=c", "e"}, "", "a d e"},
		{"two regenerations of one turn", []string{"a", "b", "c supersedes=b", "d supersedes=b"}, "", "a d"},
		{"an edit of an early question", []string{"a", "b", "c", "d supersedes=b", "e"}, "", "a d e"},
		{"an edit of the first question", []string{"a", "b", "c", "d parent="}, "", "d"},
		{"and by the other member", []string{"a", "b", "c", "d supersedes=a", "e"}, "", "d e"},
		{"back to an older branch", []string{"a", "b", "c supersedes=a", "d parent=b"}, "", "a b d"},
		{"a branch by its leaf", []string{"a", "b", "c supersedes=b", "d"}, "b", "a b"},
		{"a leaf that failed", []string{"a", "b", "c failed parent=a", "d"}, "c", "a"},
		{"the parent is asked before what is superseded", []string{"a", "b", "c", "d parent=b supersedes=a"}, "", "a b d"},
		{"through a pending turn", []string{"a", "b pending parent=a", "x", "c parent=b"}, "", "a c"},
		{"through a failed turn", []string{"a", "b failed", "c parent=b"}, "", "a c"},
		{"through a redacted turn", []string{"a", "b redacted", "c parent=b"}, "", "a c"},
		{"the parent is younger than its child", []string{"c parent=a", "a", "b pending"}, "c", "a c"},
		{"a missing parent", []string{"a", "b", "c parent=z", "d"}, "", "c d"},
		{"what it supersedes is missing", []string{"a", "b supersedes=z", "c"}, "", "b c"},
		{"its own parent", []string{"a", "b parent=b", "c"}, "", "b c"},
		{"a cycle", []string{"a parent=c", "b", "c parent=b"}, "", "a b c"},
		{"a cycle of two", []string{"a parent=b", "b parent=a"}, "", "a b"},
		{"turns that supersede each other", []string{"a", "b supersedes=c", "c supersedes=b", "d"}, "", "c d"},
		{"it supersedes itself", []string{"a", "b supersedes=b", "c"}, "", "b c"},
		{"an answer of tool calls only", []string{"a", "b tools", "c pending"}, "", "a b"},
		{"nothing is answered", []string{"a pending", "b failed"}, "", ""},
		{"no turns", nil, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			turns := talk(t, c.turns...)
			doc, err := MergeAll("s", turns...)
			if err != nil {
				t.Fatal(err)
			}
			path, err := doc.Path(PathQuery{Limit: 100, Leaf: c.leaf})
			if err != nil || path.More {
				t.Fatalf("%v, more %v", err, path.More)
			}
			if got := idsOf(path.Turns); got != c.want {
				t.Errorf("the path is %q, want %q", got, c.want)
			}
			if c.leaf == "" {
				if got := idsOf(LastAnswered(turns, 100)); got != c.want {
					t.Errorf("of the turns it is %q, want %q", got, c.want)
				}
			}
		})
	}
	doc, err := MergeAll("s", talk(t, "a", "b")...)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []PathQuery{{Limit: 1, Leaf: "z"}, {Limit: 1, Before: "z"}} {
		if _, err := doc.Path(q); !errors.Is(err, ErrNoTurn) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// A page goes on where the one before it ended, though the turn there was redacted or has failed since.
func TestPathFromATurnThatWasAnswered(t *testing.T) {
	for _, c := range []struct{ turns, before, want string }{
		{"a,b,c,d", "c", "a b"},
		{"a,b,c redacted,d", "c", "a b"},
		{"a,b,c failed,d", "c", "a b"},
		{"a,b,c redacted,d parent=c", "c", "a b"},
		{"a,b redacted,c redacted,d", "b", "a"},
		{"a redacted,b,d", "a", ""},
	} {
		doc, err := MergeAll("s", talk(t, strings.Split(c.turns, ",")...)...)
		if err != nil {
			t.Fatal(err)
		}
		path, err := doc.Path(PathQuery{Limit: 5, Leaf: "d", Before: c.before})
		if got := idsOf(path.Turns); err != nil || got != c.want {
			t.Errorf("of %s before %s are %q, want %q: %v", c.turns, c.before, got, c.want, err)
		}
	}
}

// simplePath is an independent, simple path: no index, no order of reading.
func simplePath(turns []Snapshot, leaf string) (path []string) {
	find := func(id string) *Snapshot {
		for i := range turns {
			if turns[i].ID == id {
				return &turns[i]
			}
		}
		return nil
	}
	newest := func(before *Snapshot) (best *Snapshot) {
		for i := range turns {
			if s := &turns[i]; s.Answered() && (before == nil || s.Compare(before) < 0) && (best == nil || best.Compare(s) < 0) {
				best = s
			}
		}
		return best
	}
	var parent func(s *Snapshot, depth int) *Snapshot
	parent = func(s *Snapshot, depth int) *Snapshot {
		switch {
		case depth > len(turns):
			return nil
		case s.HasParent:
			return find(s.Parent)
		case s.Supersedes != "":
			if s = find(s.Supersedes); s == nil {
				return nil
			}
			return parent(s, depth+1)
		}
		return newest(s)
	}
	seen := map[string]bool{}
	s := newest(nil)
	if leaf != "" {
		s = find(leaf)
	}
	for ; s != nil && !seen[s.ID]; s = parent(s, 0) {
		seen[s.ID] = true
		if s.Answered() {
			path = append([]string{s.ID}, path...)
		}
	}
	return path
}

// genTalk draws conversations in which parents are missing, younger than their children, and
// in circles, with texts that make a document longer than what is read of it at first.
func genTalk(t *rapid.T, long bool) []Snapshot {
	n := rapid.IntRange(1, 12).Draw(t, "turns")
	ids := make([]string, n, n+1)
	for i := range ids {
		ids[i] = fmt.Sprintf("t%02d", i)
	}
	named := append(ids, "missing")
	var turns []Snapshot
	for _, id := range ids {
		turn := Turn{ID: id, SessionID: "s", User: "u", Assistant: rapid.SampledFrom([]string{"a", ""}).Draw(t, "assistant"),
			Timestamp: time.Date(2026, 11, 23, 15, 0, rapid.IntRange(0, n).Draw(t, "at"), 0, time.UTC)}
		turn.Status = rapid.SampledFrom([]Status{Complete, Complete, Partial, Cancelled, Pending, Failed}).Draw(t, "status")
		if rapid.Bool().Draw(t, "tools") {
			turn.ToolCalls = []ToolCall{{Name: "f"}}
		}
		switch rapid.IntRange(0, 4).Draw(t, "names") {
		case 0:
			parent := rapid.SampledFrom(append(named, "")).Draw(t, "parent")
			turn.Parent = &parent
		case 1:
			turn.Supersedes = rapid.SampledFrom(named).Draw(t, "supersedes")
		}
		if long && rapid.Bool().Draw(t, "long") {
			turn.User = strings.Repeat("long ", 3<<10)
		}
		turns = append(turns, snapshotOf(t, turn))
		if rapid.IntRange(0, 3).Draw(t, "revise") == 0 {
			turn.Rev, turn.Status = 2, Complete
			turns = append(turns, snapshotOf(t, turn))
		}
		if rapid.IntRange(0, 9).Draw(t, "redact") == 0 {
			turns = append(turns, snapshotOf(t, Turn{ID: id, SessionID: "s", Timestamp: turn.Timestamp, Status: Redacted, Rev: RedactRev}))
		}
	}
	return turns
}

// Any order of the snapshots gives the same path, for every leaf and page by page.
func TestPathOfAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		snaps := genTalk(t, false)
		doc, err := MergeAll("s", rapid.Permutation(snaps).Draw(t, "order")...)
		if err != nil {
			t.Fatal(err)
		}
		winners, err := doc.Turns()
		if err != nil {
			t.Fatal(err)
		}
		for _, leaf := range append([]string{""}, strings.Fields(idsOf(winners))...) {
			want := strings.Join(simplePath(winners, leaf), " ")
			path, err := doc.Path(PathQuery{Limit: len(winners) + 1, Leaf: leaf})
			if err != nil || idsOf(path.Turns) != want {
				t.Fatalf("the path to %q is %q, %v, want %q", leaf, idsOf(path.Turns), err, want)
			}
			// With is what the merge would make of it.
			n := rapid.IntRange(0, len(snaps)).Draw(t, "stored")
			stored, err := MergeAll("s", snaps[:n]...)
			if err != nil {
				t.Fatal(err)
			}
			before, _ := stored.Bytes()
			path, err = stored.Path(PathQuery{Limit: len(winners) + 1, Leaf: leaf, With: snaps[n:]})
			if err != nil || idsOf(path.Turns) != want || path.Version != stored.Version() {
				t.Fatalf("with the rest the path to %q is %q, %v, want %q", leaf, idsOf(path.Turns), err, want)
			}
			if after, _ := stored.Bytes(); string(after) != string(before) {
				t.Fatal("the document has changed")
			}
		}
	})
}

// The store gives the path of the whole document, however little of it is read at first.
func TestStoredPath(t *testing.T) {
	s := openStore(t, Config{})
	sessions := 0 // numbers that rapid draws come twice, and then a turn has two times
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		snaps := genTalk(t, true)
		sessions++
		session := fmt.Sprint("s", sessions)
		for i := range snaps {
			turn, err := snaps[i].Turn()
			if err != nil {
				t.Fatal(err)
			}
			turn.SessionID = session
			snaps[i] = snapshotOf(t, turn)
		}
		folded := rapid.IntRange(0, len(snaps)).Draw(t, "folded")
		if folded > 0 {
			if err := s.Merge(ctx, []Group{{session, snaps[:folded]}}); err != nil {
				t.Fatal(err)
			}
		}
		if folded < len(snaps) {
			if err := s.Write(ctx, []Group{{session, snaps[folded:]}}).Err(0); err != nil { // not durable, but readable
				t.Fatal(err)
			}
		}
		doc, err := s.Read(ctx, session)
		if err != nil {
			t.Fatal(err)
		}
		winners, err := doc.Turns()
		if err != nil {
			t.Fatal(err)
		}
		view, err := s.View(ctx, session)
		if err != nil {
			t.Fatal(err)
		}
		branches, err := view.Branches(ctx, 0, view.Len())
		view.Close()
		if err != nil || len(branches) != len(winners) {
			t.Fatal(len(branches), err)
		}
		recent := simplePath(winners, "")
		for i := range winners {
			if branches[i].OnPath != slices.Contains(recent, winners[i].ID) {
				t.Fatalf("%s is on the path %q: %v", winners[i].ID, recent, branches[i].OnPath)
			}
		}
		limit := rapid.IntRange(1, 4).Draw(t, "limit")
		for _, leaf := range append([]string{""}, strings.Fields(idsOf(winners))...) {
			whole := simplePath(winners, leaf)
			var got []string
			for q := (PathQuery{Limit: limit, Leaf: leaf}); ; q.Before = got[0] {
				path, err := s.Path(ctx, session, q)
				if err != nil || path.Version != doc.Version() || len(path.Turns) > limit {
					t.Fatalf("%+v: %v, %v", q, err, path)
				}
				got = append(strings.Fields(idsOf(path.Turns)), got...)
				if !path.More {
					break
				}
				if len(path.Turns) != limit {
					t.Fatalf("%+v: %d turns and more", q, len(path.Turns))
				}
				if len(got) > len(whole) {
					t.Fatalf("%q in pages, want %q", got, whole)
				}
			}
			if !slices.Equal(got, whole) {
				t.Fatalf("the path to %q is %q, want %q", leaf, got, whole)
			}
		}
	})
}
