package transcript

import (
	"testing"

	"pgregory.net/rapid"
)

func TestInstantIsWrittenAsTheLayoutSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := Instant(rapid.Int64Range(int64(minInstant)-1e15, int64(maxInstant)+1e15).Draw(t, "instant"))
		if got, want := i.String(), i.Time().Format("2006-01-02T15:04:05.000000-07:00"); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}

// TestEncodeAllocatesOnce keeps Publish cheap: one buffer for a plain turn.
func TestEncodeAllocatesOnce(t *testing.T) {
	turn := Turn{SessionID: "s", ID: "x", Timestamp: Instant(1).Time(), User: "what \"now\"?\n", Assistant: "this\tand that é", Model: "m"}
	n := testing.AllocsPerRun(100, func() {
		d, err := turn.Draft()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Snapshot(0); err != nil {
			t.Fatal(err)
		}
	})
	if n != 1 {
		t.Errorf("%v allocations", n)
	}
}
