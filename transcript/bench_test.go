package transcript

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// benchTurn is a turn of 1 KiB.
func benchTurn(b *testing.B, session string, n int) Snapshot {
	b.Helper()
	t := Turn{
		SessionID: session, ID: fmt.Sprintf("0198a1b2-c3d4-7e5f-8a9b-%012x", n), Timestamp: time.Date(2026, 11, 23, 15, 0, 0, n*1000, time.UTC),
		User: strings.Repeat("q", 300), Assistant: strings.Repeat("a", 540), Model: "m",
	}
	d, err := t.Draft()
	if err != nil {
		b.Fatal(err)
	}
	s, err := d.Snapshot(0)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func benchTurns(b *testing.B, session string, from, n int) []Snapshot {
	turns := make([]Snapshot, n)
	for i := range turns {
		turns[i] = benchTurn(b, session, from+i)
	}
	return turns
}

func openBench(b *testing.B) *Store {
	s, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return s
}

func BenchmarkDecode(b *testing.B) {
	s := benchTurn(b, "bench-session", 1)
	in := s.Payload()
	spaced := []byte(strings.Replace(string(in), `,"user"`, `, "user"`, 1)) // canonical but for one space
	for _, c := range []struct {
		name string
		in   []byte
	}{{"canonical", in}, {"any", spaced}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.in)))
			for b.Loop() {
				if _, err := Decode(c.in, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A line that a checksum vouches for.
func BenchmarkScanCanonical(b *testing.B) {
	s := benchTurn(b, "bench-session", 1)
	in := s.Payload()
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if _, ok := scanCanonical("bench-session", in); !ok {
			b.Fatal("not canonical")
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	t := Turn{SessionID: "bench-session", ID: "t1", Timestamp: time.Unix(1, 0), User: strings.Repeat("q", 300), Assistant: strings.Repeat("a", 540)}
	b.ReportAllocs()
	for b.Loop() {
		d, err := t.Draft()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Snapshot(0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExchange(b *testing.B) {
	s := benchTurn(b, "bench-session", 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, assistant := s.Exchange(); assistant == "" {
			b.Fatal("nothing was said")
		}
	}
}

func BenchmarkTurn(b *testing.B) {
	s := benchTurn(b, "bench-session", 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Turn(); err != nil {
			b.Fatal(err)
		}
	}
}

// Ten turns come to a conversation of some length.
func BenchmarkMerge(b *testing.B) {
	for _, size := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			base, err := MergeAll("s", benchTurns(b, "s", 0, size)...)
			if err != nil {
				b.Fatal(err)
			}
			data, err := base.Bytes()
			if err != nil {
				b.Fatal(err)
			}
			more := benchTurns(b, "s", size, 10)
			b.ReportAllocs()
			for b.Loop() {
				doc, err := ParseDocument("s", data)
				if err != nil {
					b.Fatal(err)
				}
				if changed, err := doc.Merge(more...); err != nil || !changed {
					b.Fatal(changed, err)
				}
			}
		})
	}
}

func BenchmarkToken(b *testing.B) {
	for _, c := range []struct{ name, id string }{
		{"plain", "0198a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"}, {"escaped", "user/42 chat"}, {"hashed", strings.Repeat("空", 80)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if Token(c.id) == "" {
					b.Fatal("no token")
				}
			}
		})
	}
}

// A batch of 1,000 turns over some sessions becomes durable. Folds go on beside it.
func BenchmarkAppend(b *testing.B) {
	const batch = 1000
	for _, sessions := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(sessions), func(b *testing.B) {
			s := openBench(b)
			ids := make([]string, sessions)
			for i := range ids {
				ids[i] = fmt.Sprint("s", i)
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				b.StopTimer()
				turns := make([]Snapshot, batch)
				for i := range turns {
					turns[i] = benchTurn(b, ids[i%sessions], n)
					n++
				}
				b.StartTimer()
				if err := s.Append(context.Background(), turns...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/turn")
		})
	}
}

// Twenty turns of each of 64 sessions are folded.
func BenchmarkFold(b *testing.B) {
	const sessions = 64
	s := openBench(b)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		var turns []Snapshot
		for range sessions {
			n++
			turns = append(turns, benchTurns(b, fmt.Sprint("s", n), 0, 20)...)
		}
		batch := s.Write(context.Background(), GroupBySession(turns))
		b.StartTimer()
		if err := batch.Sync(context.Background()); err != nil {
			b.Fatal(err)
		}
		if err := s.FoldAll(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*sessions), "µs/document")
}

// The last ten turns of a conversation, from its file.
func BenchmarkRecent(b *testing.B) {
	for _, size := range []int{10, 100, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := openBench(b)
			if err := s.Append(context.Background(), benchTurns(b, "s", 0, size)...); err != nil {
				b.Fatal(err)
			}
			if err := s.FoldAll(context.Background()); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if r, err := s.Recent(context.Background(), "s", 10); err != nil || len(r.Turns) != 10 {
					b.Fatal(r, err)
				}
			}
		})
	}
}

// The turn as a client sends it, with no member that is unknown.
func BenchmarkParseDraft(b *testing.B) {
	in := []byte(fmt.Sprintf(`{"user":%q,"assistant":%q,"model":"m","usage":{"input_tokens":10,"output_tokens":20},"meta":{"a":1}}`, strings.Repeat("q", 300), strings.Repeat("a", 540)))
	b.ReportAllocs()
	for b.Loop() {
		d, err := ParseDraft(in)
		if err != nil || d.Misspellings() != nil {
			b.Fatal(err)
		}
	}
}
