package transcript

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestSessionSizeLimit: past it new turns are refused; what is there stays, and comes again
// and is revised as ever.
func TestSessionSizeLimit(t *testing.T) {
	s := openStore(t, Config{SessionMaxBytes: 10_000})
	var turns []Snapshot
	for i := range 12 {
		turns = append(turns, long(t, "s", i, 1000))
	}
	if err := s.Append(t.Context(), turns[:6]...); err != nil {
		t.Fatal(err)
	}
	var full *SessionFullError
	if err := s.Append(t.Context(), turns[6:]...); !errors.As(err, &full) || full.Limit != 10_000 || SessionFault(err) {
		t.Fatal(err)
	}
	holds(t, 6, s)
	if s.Full("s") {
		t.Error("full before it was found out which turns are new")
	}
	errs, err := s.AppendFull(t.Context(), "s", turns) // six are there, some fit
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for ; taken < len(errs) && errs[taken] == nil; taken++ {
	}
	if taken < 7 || taken > 9 {
		t.Fatalf("%d turns of %d bytes in a session of %d", taken, turns[0].Size(), 10_000)
	}
	for _, err := range errs[taken:] {
		if !errors.As(err, &full) {
			t.Error(err)
		}
	}
	holds(t, taken, s)
	if !s.Full("s") || s.Full("other") {
		t.Error("not known to be full")
	}
	if err := s.FoldAll(t.Context()); err != nil {
		t.Fatal(err)
	}

	// What is there comes again: nothing is written. A later revision is.
	path := filepath.Join(s.Dir(), shardOf("s"))
	before, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if errs, err := s.AppendFull(t.Context(), "s", turns[:taken]); err != nil || errors.Join(errs...) != nil {
		t.Fatal(errs, err)
	}
	if after, err := os.ReadDir(path); err != nil || len(after) != len(before) {
		t.Error(after, err)
	}
	if s.Full("s") {
		t.Error("full, although nothing was refused")
	}
	d, err := ParseDraft(turns[0].Payload())
	if err != nil {
		t.Fatal(err)
	}
	d.Rev = 2
	later, err := d.Snapshot(0)
	if err != nil {
		t.Fatal(err)
	}
	if errs, err := s.AppendFull(t.Context(), "s", []Snapshot{later}); err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
	if got, ok, err := s.Turn(t.Context(), "s", later.ID); err != nil || !ok || got.Rev != 2 {
		t.Error(got.Rev, ok, err)
	}

	// A merge leaves out what does not fit, and says how much; what is there does not count.
	if err := s.Merge(t.Context(), []Group{{"s", turns}, {"other", []Snapshot{long(t, "other", 1, 10)}}}); err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().LeftOut; n != int64(len(turns)-taken) {
		t.Errorf("%d turns were left out, want %d", n, len(turns)-taken)
	}
	holds(t, taken, s)
	fresh := openStore(t, Config{SessionMaxBytes: 10_000})
	if err := fresh.Merge(t.Context(), []Group{{"s", turns}}); err != nil {
		t.Fatal(err)
	}
	holds(t, int(int64(len(turns))-fresh.Stats().LeftOut), fresh)
	unlimited := openStore(t, Config{SessionMaxBytes: -1})
	if err := unlimited.Append(t.Context(), turns...); err != nil {
		t.Fatal(err)
	}
}
