package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/transcript"
)

// How many turns there are is guessed from the bytes that are read, inside a large file
// too, and after a resumption.
func TestImportEstimate(t *testing.T) {
	dir, note := t.TempDir(), filepath.Join(t.TempDir(), "note")
	const files, turns = 3, 40_000
	for f := range files {
		var b strings.Builder
		for i := range turns {
			fmt.Fprintf(&b, `{"session_id":"s%d","user":"%040d"}`+"\n", f, i)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.jsonl", f)), []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &cli{stderr: new(strings.Builder), stdout: new(strings.Builder)}
	for _, begin := range []importCounts{{}, {Files: 2, Turns: turns + turns/2}} {
		im, err := c.newImporter(importOptions{resume: note}, dir)
		if err != nil {
			t.Fatal(err)
		}
		if begin.Files > 0 { // killed in the middle of the second file
			if err := im.note.save(place{"1.jsonl", turns/2 + 1}, begin); err != nil {
				t.Fatal(err)
			}
			if im, err = c.newImporter(importOptions{resume: note}, dir); err != nil {
				t.Fatal(err)
			}
		}
		im.take = func(context.Context, *transcript.Draft, place) error { return nil }
		total := im.from.size(t.Context())
		var guesses []uint64
		if err := im.all(t.Context(), func() { guesses = append(guesses, im.estimate(total)) }); err != nil {
			t.Fatal(err)
		}
		if n := im.counts.Turns; n != files*turns {
			t.Errorf("from %+v on %d turns", begin, n)
		}
		if want := (files*turns - int(begin.Turns)) / 256; len(guesses) < want-files {
			t.Errorf("from %+v on %d guesses, not about %d", begin, len(guesses), want)
		}
		for i, g := range guesses[len(guesses)/10:] {
			if g < files*turns*9/10 || g > files*turns*11/10 {
				t.Fatalf("from %+v on guess %d is %d turns, not about %d", begin, i, g, files*turns)
			}
		}
	}
}
