package plural

import "testing"

func TestPlural(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 turns are were differ", 1: "1 turn is was differs", 2: "2 turns are were differ"} {
		if got := Of(n, "turn") + " " + Are(n) + " " + Were(n) + " " + Verb(n, "differs", "differ"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
