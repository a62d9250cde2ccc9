package transcript

import (
	"fmt"
	"strings"
	"testing"
)

func TestBroken(t *testing.T) {
	for _, c := range []struct {
		name  string
		turns []string
		want  string // turns, with what is missing
	}{
		{"no branch", []string{"a", "b pending", "c"}, ""},
		{"branches", []string{"a", "b", "c supersedes=b", "d supersedes=c", "e parent=", "f parent=b", "g failed supersedes=f"}, ""},
		{"a parent that is younger", []string{"a parent=c", "b parent=", "c parent=b"}, ""},
		{"a missing parent", []string{"a", "b parent=z", "c", "d parent=b"}, "b/z"},
		{"of a turn that is not answered", []string{"a", "b pending parent=z"}, "b/z"},
		{"a missing superseded turn", []string{"a", "b supersedes=z", "c supersedes=b"}, "b/z"},
		{"the parent decides", []string{"a", "b parent=a supersedes=z"}, ""},
		{"its own parent", []string{"a", "b parent=b"}, "b/"},
		{"it supersedes itself", []string{"a", "b supersedes=b", "c supersedes=b"}, "b/"},
		{"a cycle of parents", []string{"a", "b parent=d", "c parent=b", "d parent=c", "e"}, "b/"},
		{"superseding in a circle", []string{"c supersedes=b", "a supersedes=c", "b supersedes=a", "d supersedes=b"}, "c/"},
		{"a cycle by way of a superseded turn", []string{"a", "b parent=c", "c supersedes=d", "d parent=b"}, "b/"},
		{"a cycle by way of the order", []string{"a parent=c", "b", "c"}, "a/"},
		{"two cycles and a missing one", []string{"a parent=a", "b parent=c", "c parent=b", "d parent=z"}, "d/z a/ b/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			doc, err := MergeAll("s", talk(t, c.turns...)...)
			if err != nil {
				t.Fatal(err)
			}
			count, first, err := doc.Broken(10)
			if err != nil || count != len(first) {
				t.Fatal(count, len(first), err)
			}
			var got []string
			for _, b := range first {
				got = append(got, b.Turn+"/"+b.Missing)
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// As many turns as a session may have are looked through in one pass.
func TestBrokenOfALongChain(t *testing.T) {
	const n = 20_000
	lines := []string{"t0 parent=gone"}
	for i := 1; i < n; i++ {
		lines = append(lines, fmt.Sprintf("t%d supersedes=t%d", i, i-1))
	}
	doc, err := MergeAll("s", append(talk(t, lines...), talk(t, "x parent=gone", "y parent=gone")...)...)
	if err != nil {
		t.Fatal(err)
	}
	count, first, err := doc.Broken(2)
	if err != nil || count != 3 || len(first) != 2 {
		t.Errorf("%d, %v, %v", count, first, err)
	}
}
