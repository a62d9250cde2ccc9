package transcript

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/record"
)

// damagedSession is a session with a folded document and lines in its tail, and
// where they are.
type damagedSession struct {
	t         *testing.T
	store     *Store
	doc, tail string
	turns     []Snapshot
}

// newDamaged folds inDoc turns and leaves inTail more in the tail.
func newDamaged(t *testing.T, inDoc, inTail int) *damagedSession {
	t.Helper()
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "transcripts")
	s := openStore(t, Config{Dir: dir})
	d := &damagedSession{t: t, doc: filepath.Join(dir, DocumentPath(Sharded, "s"))}
	d.tail = strings.TrimSuffix(d.doc, documentSuffix) + tailSuffix
	for n := range inDoc + inTail {
		d.turns = append(d.turns, snap(t, "s", n))
	}
	if inDoc > 0 {
		if err := s.Append(ctx, d.turns[:inDoc]...); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(d.tail), 0o700); err != nil {
		t.Fatal(err)
	}
	var lines []byte
	for i := range d.turns[inDoc:] {
		lines = record.Append(lines, d.turns[inDoc+i].Payload())
	}
	if err := os.WriteFile(d.tail, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	d.store = openStore(t, Config{Dir: dir})
	return d
}

func (d *damagedSession) read(path string) []byte {
	d.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

func (d *damagedSession) write(path string, b []byte) {
	d.t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// edit replaces one text in a file.
func (d *damagedSession) edit(path, old, with string) []byte {
	d.t.Helper()
	b := d.read(path)
	if bytes.Count(b, []byte(old)) != 1 {
		d.t.Fatalf("%q is not in %s once", old, b)
	}
	b = bytes.Replace(b, []byte(old), []byte(with), 1)
	d.write(path, b)
	return b
}

func (d *damagedSession) repair(events Events) Repaired {
	d.t.Helper()
	res, err := d.store.Repair(d.t.Context(), "s", events)
	if err != nil {
		d.t.Fatal(err)
	}
	return res
}

// is checks that the transcript is made of turns, and that its document is valid.
func (d *damagedSession) is(turns ...Snapshot) {
	d.t.Helper()
	got, err := d.store.Read(d.t.Context(), "s")
	if err != nil {
		d.t.Fatal(err)
	}
	want, err := MergeAll("s", turns...)
	if err != nil {
		d.t.Fatal(err)
	}
	a, _ := got.Bytes()
	b, _ := want.Bytes()
	if string(a) != string(b) {
		d.t.Errorf("the transcript is\n%s\nwant\n%s", a, b)
	}
}

// kept checks that the damaged bytes are kept under the only other name.
func (d *damagedSession) kept(path string, bad []byte, res Repaired) {
	d.t.Helper()
	found, err := filepath.Glob(path + ".corrupt-*")
	if err != nil || len(found) != 1 || !slices.Contains(res.SetAside, filepath.Base(found[0])) {
		d.t.Fatalf("set aside: %v, reported %v, %v", found, res.SetAside, err)
	}
	if got := d.read(found[0]); !bytes.Equal(got, bad) {
		d.t.Errorf("%s holds\n%s\nwant\n%s", found[0], got, bad)
	}
}

func without(turns []Snapshot, n int) []Snapshot {
	return append(slices.Clone(turns[:n]), turns[n+1:]...)
}

// What the stream has is restored from it, byte for byte, whatever is damaged.
func TestRepairFromAWholeStream(t *testing.T) {
	for name, damage := range map[string]func(d *damagedSession) (path string, bad []byte){
		"text": func(d *damagedSession) (string, []byte) { return d.doc, d.edit(d.doc, "answer 3", "answer 7") },
		"line": func(d *damagedSession) (string, []byte) {
			return d.doc, d.edit(d.doc, `"user":"question 2"`, `"user":"question 2`)
		},
		"id": func(d *damagedSession) (string, []byte) { return d.doc, d.edit(d.doc, "t000003", "t000009") },
		"rev": func(d *damagedSession) (string, []byte) {
			return d.doc, d.edit(d.doc, `"answer 3","status":"complete","rev":1`, `"answer 3","status":"complete","rev":9`)
		},
		"session": func(d *damagedSession) (string, []byte) {
			return d.doc, d.edit(d.doc, `"session_id":"s"`, `"session_id":"r"`)
		},
		"head": func(d *damagedSession) (string, []byte) {
			return d.doc, d.edit(d.doc, `{"session_id"`, `{"sassion_id"`)
		},
		"newline": func(d *damagedSession) (string, []byte) {
			return d.doc, d.edit(d.doc, "},\n{\"id\":\"t000002", "},j{\"id\":\"t000002")
		},
		"count": func(d *damagedSession) (string, []byte) {
			return d.doc, d.edit(d.doc, `"message_count":5`, `"message_count":7`)
		},
		"sum": func(d *damagedSession) (string, []byte) { return d.doc, d.edit(d.doc, `"sha256":"`, `"sha256":"x`) },
		"cut": func(d *damagedSession) (string, []byte) {
			b := d.read(d.doc)
			d.write(d.doc, b[:len(b)/2])
			return d.doc, b[:len(b)/2]
		},
		"garbage": func(d *damagedSession) (string, []byte) {
			b := []byte("\x00\xff garbage\n\x01")
			d.write(d.doc, b)
			return d.doc, b
		},
		"tail text": func(d *damagedSession) (string, []byte) { return d.tail, d.edit(d.tail, "answer 6", "answer 1") },
		"tail newline": func(d *damagedSession) (string, []byte) {
			b := d.read(d.tail)
			b[bytes.IndexByte(b, '\n')] = 'x'
			d.write(d.tail, b)
			return d.tail, b
		},
		"tail garbage": func(d *damagedSession) (string, []byte) {
			b := []byte("garbage\n")
			d.write(d.tail, b)
			return d.tail, b
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDamaged(t, 5, 3)
			path, bad := damage(d)
			var corrupt *CorruptError
			if _, err := d.store.Read(t.Context(), "s"); !errors.As(err, &corrupt) {
				t.Fatalf("the damage is not noticed: %v", err)
			}
			res := d.repair(Events{Turns: d.turns, Whole: true})
			d.is(d.turns...)
			d.kept(path, bad, res)
			if res.Turns != 8 || len(res.Missing) > 0 || res.Unreadable > 0 {
				t.Errorf("%+v", res)
			}
			// Of a document of which nothing can be read, nobody knows what else it held.
			if lost := name == "garbage"; res.Lost() != lost {
				t.Errorf("lost: %v, %+v", res.Lost(), res)
			}
			if again := d.repair(Events{Turns: d.turns, Whole: true}); len(again.SetAside) > 0 {
				t.Errorf("a second repair: %+v", again)
			}
			if err := d.store.Append(t.Context(), snap(t, "s", 20)); err != nil {
				t.Fatal(err)
			}
			if err := d.store.FoldAll(t.Context()); err != nil {
				t.Errorf("it does not go on: %v", err)
			}
		})
	}
}

// What only the files have stays, and what nobody has is named.
func TestRepairWithoutAStream(t *testing.T) {
	t.Run("a text", func(t *testing.T) { // readable, and perhaps not what was written
		d := newDamaged(t, 5, 0)
		d.edit(d.doc, "answer 3", "answer 7")
		res := d.repair(Events{})
		if res.Turns != 5 || res.Lost() || len(res.Unverified) != 5 {
			t.Errorf("%+v", res)
		}
	})
	t.Run("a line", func(t *testing.T) {
		d := newDamaged(t, 5, 2)
		bad := d.edit(d.doc, `"user":"question 2"`, `"user":"question 2`)
		res := d.repair(Events{})
		d.is(without(d.turns, 2)...)
		d.kept(d.doc, bad, res)
		if !slices.Equal(res.Missing, []string{"t000002"}) || res.Unreadable != 0 || res.CutShort {
			t.Errorf("%+v", res)
		}
	})
	t.Run("a line without id", func(t *testing.T) {
		d := newDamaged(t, 5, 0)
		d.edit(d.doc, `{"id":"t000002"`, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		res := d.repair(Events{Turns: d.turns[3:]}) // its newer end
		d.is(without(d.turns, 2)...)
		if len(res.Missing) > 0 || res.Unreadable != 1 || res.CutShort {
			t.Errorf("%+v", res)
		}
	})
	t.Run("the end", func(t *testing.T) {
		d := newDamaged(t, 5, 2)
		b := d.read(d.doc)
		d.write(d.doc, b[:bytes.Index(b, []byte(`{"id":"t000003`))])
		res := d.repair(Events{})
		d.is(append(slices.Clone(d.turns[:3]), d.turns[5:]...)...)
		if !res.CutShort || !res.Lost() {
			t.Errorf("%+v", res)
		}
	})
	t.Run("the end, in a trimmed stream", func(t *testing.T) {
		d := newDamaged(t, 5, 2)
		b := d.read(d.doc)
		d.write(d.doc, b[:bytes.Index(b, []byte(`{"id":"t000003`))])
		res := d.repair(Events{Turns: d.turns[2:], Since: d.turns[1].Timestamp})
		d.is(d.turns...)
		if res.Lost() {
			t.Errorf("%+v", res)
		}
	})
	t.Run("the end, of turns that the stream has dropped in part", func(t *testing.T) { // by publishing, an older one is the newest
		d := newDamaged(t, 5, 2)
		b := d.read(d.doc)
		d.write(d.doc, b[:bytes.Index(b, []byte(`{"id":"t000003`))])
		res := d.repair(Events{Turns: append(slices.Clone(d.turns[:1]), d.turns[5:]...), Since: d.turns[4].Timestamp})
		d.is(append(slices.Clone(d.turns[:3]), d.turns[5:]...)...)
		if !res.CutShort || !res.Lost() {
			t.Errorf("%+v", res)
		}
	})
	t.Run("the last line, and a turn later than it", func(t *testing.T) { // which is none that the line held
		d := newDamaged(t, 5, 2)
		d.edit(d.doc, `{"id":"t000004"`, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		res := d.repair(Events{Turns: d.turns[5:], Since: d.turns[4].Timestamp})
		d.is(without(d.turns, 4)...)
		if res.Unreadable != 1 || !res.Lost() {
			t.Errorf("%+v", res)
		}
		d = newDamaged(t, 5, 2)
		d.edit(d.doc, `{"id":"t000004"`, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
		res = d.repair(Events{Turns: d.turns[4:], Since: d.turns[4].Timestamp}) // the sum tells
		d.is(d.turns...)
		if res.Lost() {
			t.Errorf("%+v", res)
		}
	})
	t.Run("a line of the tail, and an older event", func(t *testing.T) {
		for have, lost := range map[int]int{4: 0, 5: 1} {
			d := newDamaged(t, 2, 4)
			d.edit(d.tail, `{"id":"t000004"`, `{"id":t000004"`)
			res := d.repair(Events{Turns: append(slices.Clone(d.turns[:1]), d.turns[have:]...), Since: d.turns[4].Timestamp})
			if res.Unreadable != lost || res.Lost() != (lost > 0) || res.Turns != 6-lost {
				t.Errorf("%+v", res)
			}
		}
	})
	t.Run("two turns of one time", func(t *testing.T) { // none of which is the other under a damaged id
		d := newDamaged(t, 5, 1)
		twin := d.turns[2].Payload()
		twin = bytes.Replace(bytes.Replace(bytes.Clone(twin), []byte("t000002"), []byte("t00002x"), 1), []byte("answer 2"), []byte("answer x"), 1)
		other, err := DecodeStored(twin)
		if err != nil {
			t.Fatal(err)
		}
		d.edit(d.doc, "answer 3", "answer 7")
		res := d.repair(Events{Turns: []Snapshot{other}})
		if res.Turns != 7 {
			t.Errorf("%+v", res)
		}
	})
	t.Run("a line of the tail", func(t *testing.T) {
		d := newDamaged(t, 2, 5)
		bad := d.edit(d.tail, "answer 4", "answer 1")
		res := d.repair(Events{})
		d.is(without(d.turns, 4)...)
		d.kept(d.tail, bad, res)
		if !slices.Equal(res.Missing, []string{"t000004"}) || res.Unreadable != 0 {
			t.Errorf("%+v", res)
		}
	})
	t.Run("a newline of the tail and what follows it", func(t *testing.T) {
		for _, n := range []int{1, 5, 12, 40, 150} { // from the newline on: none, a part or all of the checksum, the id, the texts
			d := newDamaged(t, 2, 5)
			bad := d.read(d.tail)
			at := bytes.IndexByte(bad, '\n')
			clear(bad[at : at+n])
			d.write(d.tail, bad)
			res := d.repair(Events{})
			d.kept(d.tail, bad, res)
			if n == 1 {
				d.is(d.turns...)
				continue
			}
			d.is(without(d.turns, 3)...)
			if len(res.Missing)+res.Unreadable != 1 || !res.Lost() {
				t.Errorf("%d bytes: %+v", n, res)
			}
		}
	})
	t.Run("everything", func(t *testing.T) {
		d := newDamaged(t, 3, 0)
		bad := []byte("{}")
		d.write(d.doc, bad)
		res := d.repair(Events{})
		d.kept(d.doc, bad, res)
		if _, err := d.store.Read(t.Context(), "s"); !errors.Is(err, ErrNoSession) || !res.Lost() {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

// An event wins over a line of a damaged document of the same id and rev, even
// if it would lose against it as an event.
func TestEventsWinOverSalvage(t *testing.T) {
	d := newDamaged(t, 3, 0)
	d.edit(d.doc, "answer 1", "answer 9") // bytewise larger
	if bad := snap(t, "s", 1); !bytes.Contains(d.read(d.doc), []byte("answer 9")) || bad.ID != "t000001" {
		t.Fatal("the damage is not there")
	}
	res := d.repair(Events{Turns: d.turns[1:2]})
	d.is(d.turns...)
	if res.Lost() || len(res.Unverified) != 0 { // the sum proves the rest
		t.Errorf("%+v", res)
	}
}

// A document of another session is set aside, and no turn of it is taken.
func TestRepairAnotherSessionsDocument(t *testing.T) {
	d := newDamaged(t, 3, 1)
	other, err := MergeAll("r", snap(t, "r", 50))
	if err != nil {
		t.Fatal(err)
	}
	bad, _ := other.Bytes()
	d.write(d.doc, bad)
	res := d.repair(Events{Turns: d.turns, Whole: true})
	d.is(d.turns...)
	d.kept(d.doc, bad, res)
}

// Of a damaged document of the older system, whose turns no stream has, the
// messages before and after the damage stay.
func TestRepairOlderDocument(t *testing.T) {
	d := newDamaged(t, 0, 1)
	old := `{
  "session_id": "s",
  "created_at": "2024-01-01T00:00:00",
  "messages": [
    {"timestamp": "2024-01-01T00:00:01", "user": "one", "assistant": "1"},
    {"timestamp": "2024-01-01T00:00:02", "user": "two, "assistant": "2"},
    {"timestamp": "2024-01-01T00:00:03", "user": "three", "assistant": "3"}
  ],
  "message_count": 3
}
`
	d.write(d.doc, []byte(old))
	res := d.repair(Events{Turns: d.turns, Whole: true})
	doc, err := d.store.Read(t.Context(), "s")
	if err != nil {
		t.Fatal(err)
	}
	turns, err := doc.Turns()
	if err != nil || len(turns) != 3 {
		t.Fatalf("%v %v", turns, err)
	}
	for i, want := range []string{`"user":"one"`, `"user":"three"`, `"user":"question 0"`} {
		if !bytes.Contains(turns[i].Payload(), []byte(want)) {
			t.Errorf("turn %d is %s", i, turns[i].Payload())
		}
	}
	if res.Unreadable != 1 || res.CutShort {
		t.Errorf("%+v", res)
	}
}

// A store that meets a damaged file tells of it: when it reads and when it folds.
func TestOnCorrupt(t *testing.T) {
	d := newDamaged(t, 2, 1)
	told := make(chan string, 100)
	d.store.OnCorrupt(func(session string) {
		select {
		case told <- session:
		default:
		}
	})
	d.edit(d.doc, "answer 1", "answer 7")
	if _, err := d.store.Read(t.Context(), "s"); err == nil {
		t.Error("the damage is not noticed")
	}
	if got := <-told; got != "s" {
		t.Errorf("told of %q", got)
	}
	if err := d.store.Append(context.Background(), snap(t, "s", 9)); err != nil {
		t.Fatal(err)
	}
	if err := d.store.FoldAll(t.Context()); err == nil {
		t.Error("folded into a damaged document")
	}
	if got := <-told; got != "s" {
		t.Errorf("told of %q", got)
	}
	d.repair(Events{Turns: d.turns, Whole: true})
	if err := d.store.FoldAll(t.Context()); err != nil {
		t.Error(err)
	}
	d.is(append(d.turns, snap(t, "s", 9))...)
}
