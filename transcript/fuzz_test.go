package transcript

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/afterword-io/afterword/internal/record"
)

// What is decoded encodes to a fixed point, and nothing panics.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"session_id":"s","id":"t","timestamp":"2026-11-23T15:04:05Z","user":"u","assistant":"\u00e9","meta":{"a":[1.0,{}]},"rev":2,"zeta":null}`))
	f.Add([]byte(`{"session_id":"s","id":"t","timestamp":"2026-11-23T15:04:05.1234567+01:00","user":"","status":"redacted","rev":1000000}`))
	f.Add([]byte(`{"id":"t","timestamp":"2026-11-23T15:04:05.123456+00:00","user":"\"\\\n\u001f","assistant":"","status":"redacted","rev":1000000,"completed_at":"2026-11-23T15:04:05.123456+00:00","error":"e","session_id":"s","supersedes":"x"}`))
	f.Add([]byte(`[[[[`))
	f.Add([]byte("\xef\xbb\xbf{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeAny(data, 0)
		if quick, ok := decodeCanonical(data); ok && (err != nil || fmt.Sprintf("%+v", quick) != fmt.Sprintf("%+v", s)) {
			t.Fatalf("taken as canonical\n%+v\nwant\n%+v, %v", quick, s, err)
		}
		if err != nil {
			if !Malformed(err) {
				t.Fatalf("%v does not count as malformed", err)
			}
			return
		}
		again, err := Decode(s.Payload(), 0)
		if err != nil || !bytes.Equal(again.Payload(), s.Payload()) {
			t.Fatalf("not a fixed point: %v\n%s\n%s", err, s.Payload(), again.Payload())
		}
		msg, err := decodeMessage(s.SessionID, s.AppendMessage(nil))
		if err != nil || !bytes.Equal(msg.Payload(), s.Payload()) {
			t.Fatalf("through a document: %v\n%s\n%s", err, s.Payload(), msg.Payload())
		}
		for _, raw := range [][]byte{s.Payload(), s.AppendMessage(nil)} {
			quick, ok := scanCanonical(s.SessionID, raw)
			if ok && (quick.ID != s.ID || quick.Rev != s.Rev || quick.Status != s.Status || quick.Timestamp != s.Timestamp ||
				quick.CompletedAt != s.CompletedAt || quick.Supersedes != s.Supersedes || quick.Answered() != s.Answered() ||
				!bytes.Equal(quick.Payload(), s.Payload()) || !bytes.Equal(quick.AppendMessage(nil), s.AppendMessage(nil)) ||
				!bytes.Equal(quick.AppendExchange(nil), s.AppendExchange(nil))) {
				t.Fatalf("scanned\n%+v\nwant\n%+v", quick, s)
			}
		}
		if _, err := s.Turn(); err != nil {
			t.Fatalf("as a Turn: %v\n%s", err, s.Payload())
		}
	})
}

// What is read as a document, ours or an older one, is written as one that reads
// back the same.
func FuzzDocument(f *testing.F) {
	doc, err := MergeAll("s", snap(f, "s", 1), snap(f, "s", 2))
	if err != nil {
		f.Fatal(err)
	}
	b, err := doc.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(older))
	f.Add([]byte(`{"session_id":"s","messages":[{"timestamp":1e9,"user":{"a":1}},{"id":"x","rev":3,"status":"odd"}],"x":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDocument("s", data)
		if err != nil {
			return
		}
		b, err := d.Bytes()
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, err := ParseDocument("s", b)
		if err != nil {
			t.Fatalf("cannot be read back: %v\n%s", err, b)
		}
		if c, err := again.Bytes(); err != nil || !bytes.Equal(b, c) {
			t.Fatalf("not a fixed point: %v\n%s\n%s", err, b, c)
		}
		if _, err := d.Recent(3); err != nil && !d.foreign {
			t.Logf("a message that breaks a rule under a good sum: %v", err)
		}
	})
}

// A tail is read up to its torn end; anything else that does not check is an
// error, and a tail of ours reads back whatever it was cut to.
func FuzzTail(f *testing.F) {
	s := snap(f, "s", 1)
	line := record.Append(nil, s.Payload())
	f.Add(line, 3)
	f.Add(append(bytes.Clone(line), line...), 400)
	f.Add([]byte("00000000 x\n"), 0)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		if turns, err := decodeTail("s", "s", data); err == nil {
			for i := range turns {
				if turns[i].SessionID != "s" {
					t.Fatalf("a turn of %q", turns[i].SessionID)
				}
			}
		}
		whole := append(bytes.Clone(line), line...)
		cut = min(max(cut, 0), len(whole))
		turns, err := decodeTail("s", "s", whole[:cut])
		if err != nil || len(turns) != cut/len(line) {
			t.Fatalf("cut at %d of %d: %d turns, %v", cut, len(line), len(turns), err)
		}
	})
}
