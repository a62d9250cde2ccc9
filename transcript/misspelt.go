package transcript

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Misspelling is a member that is not of the wire contract and whose name resembles one that is.
// The turn keeps it, as it keeps every unknown member.
type Misspelling struct {
	Member string // as in "usage.inputTokens"
	Meant  string // as in "usage.input_tokens"
}

// Rule is the rule that the member breaks where misspellings are refused.
func (m Misspelling) Rule() *RuleError {
	return &RuleError{Member: m.Member, Rule: fmt.Sprintf("is unknown and resembles %s: correct it", m.Meant)}
}

// Misspellings returns the unknown members of the turn, and of its usage, tool calls and
// attachments, that resemble known ones, in the order in which they came. A draft that was not
// made by [ParseDraft] has none.
func (d *Draft) Misspellings() []Misspelling {
	var found []Misspelling
	for _, path := range d.unknown {
		if meant := resembled(path); meant != "" {
			found = append(found, Misspelling{path, meant})
		}
	}
	return found
}

// maxUnknown bounds how many unknown members of a turn are compared with known ones.
const maxUnknown = 32

// noteUnknown remembers a member that is not of the wire contract.
func (d *Draft) noteUnknown(path string) {
	if len(d.unknown) < maxUnknown {
		d.unknown = append(d.unknown, path)
	}
}

// topMembers are the members of a turn.
var topMembers = func() []string {
	names := []string{"id", sessionMember, "timestamp", "user", "assistant", "status", "rev", "completed_at", "parent", "supersedes"}
	for name := range optional {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}()

// nestedMembers are the members of the objects in a turn.
var nestedMembers = map[string][]string{
	"usage":       {"input_tokens", "output_tokens"},
	"tool_calls":  {"arguments", "id", "name", "result", "status"},
	"attachments": {"media_type", "sha256", "size", "uri"},
}

// resembled returns the known member that the unknown one at path resembles, "" when there is none.
func resembled(path string) string {
	name, in, known := path, "", topMembers
	if outer, inner, ok := strings.Cut(path, "."); ok {
		base, _, _ := strings.Cut(outer, "[")
		if nested := nestedMembers[base]; nested != nil {
			name, in, known = inner, outer+".", nested
		}
	}
	if meant := Resembled(name, known); meant != "" {
		return in + meant
	}
	return ""
}

// Resembled returns the one of some known names that an unknown one resembles, "" when there is none.
func Resembled(name string, known []string) string {
	bare := bareName(name)
	best, least := "", 3
	for _, k := range known {
		most, bareKnown := 0, bareName(k)
		switch n := len(bareKnown); {
		case n >= 8:
			most = 2
		case bare == "parentid" && k == "parent": // as others call it
			most = 2
		case n >= 5, n == 4 && len(bare) < n, bare == bareKnown+"s", sameLetters(bare, bareKnown), undoubled(bare) == bareKnown:
			most = 1
		}
		if n := distance(bare, bareKnown, most); n <= most && n < least {
			best, least = k, n
		}
	}
	return best
}

// sameLetters reports whether two names differ in the order of their letters at the most. Of short
// names only such are misspellings, plurals, those with a doubled letter, and those of four letters
// that lack one: others are words of their own.
func sameLetters(a, b string) bool {
	x, y := []byte(a), []byte(b)
	slices.Sort(x)
	slices.Sort(y)
	return bytes.Equal(x, y)
}

// undoubled is a name with every run of a letter as one letter.
func undoubled(name string) string { return string(slices.Compact([]byte(name))) }

// bareName is a name without what programs spell differently, case and separators, and without
// what is not seen.
func bareName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case strings.ContainsRune("_-.", r), invisible(r):
			return -1
		}
		return r
	}, name)
}

// invisible reports whether nothing, or white space, is seen of a character: zero-width spaces and
// joiners, byte order marks, marks of direction, variation selectors, fillers, controls.
func invisible(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point)
}

// distance is how many letters have to be added, dropped, replaced or swapped with the next one to
// make one name of the other; most+1 stands for every number above most.
func distance(a, b string, most int) int {
	if len(a) > len(b)+most || len(b) > len(a)+most {
		return most + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(last[j]+1, row[j-1]+1, replace)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], most+1)
}
