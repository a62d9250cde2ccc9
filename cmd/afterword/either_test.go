package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/afterword-io/afterword/transcript"
)

// held is a source of one session's transcript.
type held struct {
	turns []transcript.Snapshot
	err   error
	reads int

	partial bool // it has lost turns, nobody knows of which sessions
}

func (h *held) View(ctx context.Context, session string) (*transcript.View, error) {
	h.reads++
	switch {
	case h.err != nil:
		return nil, h.err
	case len(h.turns) == 0 && h.partial:
		return nil, fmt.Errorf("%w: %w", transcript.ErrNoSession, transcript.ErrPartial)
	case len(h.turns) == 0:
		return nil, transcript.ErrNoSession
	}
	v, err := transcript.NewView(ctx, session, h.turns, nil)
	if err == nil {
		v.Partial = h.partial
	}
	return v, err
}

// What a stream has left is the whole of a transcript only where the files were read as well.
func TestTranscriptFromATrimmedStream(t *testing.T) {
	for _, c := range []struct {
		name    string
		file    held
		turns   []transcript.Snapshot
		partial bool
		err     error
	}{
		{"no files", held{err: transcript.ErrNoTranscripts}, []transcript.Snapshot{heldTurn(t, "a")}, true, nil},
		{"no files, no turns", held{err: transcript.ErrNoTranscripts}, nil, false, transcript.ErrPartial},
		{"not in the files", held{}, []transcript.Snapshot{heldTurn(t, "a")}, false, nil},
		{"neither in the files", held{}, nil, false, transcript.ErrNoSession},
		{"files that lack turns", held{turns: []transcript.Snapshot{heldTurn(t, "a")}, partial: true}, []transcript.Snapshot{heldTurn(t, "b")}, true, nil},
		{"files that lack turns, no turns in the stream", held{turns: []transcript.Snapshot{heldTurn(t, "a")}, partial: true}, nil, true, nil},
		{"not in files that lack turns", held{partial: true}, []transcript.Snapshot{heldTurn(t, "a")}, true, nil},
		{"neither in files that lack turns", held{partial: true}, nil, false, transcript.ErrPartial},
	} {
		v, err := newEither(&c.file, &held{turns: c.turns, partial: true}).View(t.Context(), "s")
		if !errors.Is(err, c.err) || err == nil && v.Partial != c.partial {
			t.Errorf("%s: %+v, %v", c.name, v, err)
		}
	}
	short := held{turns: []transcript.Snapshot{heldTurn(t, "b")}, partial: true}
	v, err := newEither(&short, &held{turns: []transcript.Snapshot{heldTurn(t, "a"), heldTurn(t, "b")}}).View(t.Context(), "s")
	if err != nil || v.Partial || v.Len() != 2 {
		t.Errorf("a whole stream beside files that lack turns: %+v, %v", v, err)
	}
}

func heldTurn(t *testing.T, id string) transcript.Snapshot {
	t.Helper()
	s, err := transcript.Decode([]byte(`{"session_id":"s","id":"`+id+`","timestamp":"2026-01-31T12:00:00Z","user":"u","assistant":"a"}`), 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What was shown from the stream is shown until the file has it, whatever the file has first.
func TestTranscriptShownFromTheStreamStays(t *testing.T) {
	a, b := heldTurn(t, "a"), heldTurn(t, "b")
	file, str := &held{}, &held{turns: []transcript.Snapshot{a}}
	e := newEither(file, str)
	want := func(ids string) {
		t.Helper()
		view, err := e.View(t.Context(), "s")
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		got := ""
		if err := view.Each(t.Context(), 0, view.Len(), func(_ int, s *transcript.Snapshot) error {
			got += s.ID
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got != ids {
			t.Fatalf("turns %q, want %q", got, ids)
		}
	}
	want("a")
	file.turns = []transcript.Snapshot{b}
	want("ab")
	str.err = errors.New("no stream")
	if _, err := e.View(t.Context(), "s"); err == nil {
		t.Fatal("less than before was shown")
	}
	str.err = nil
	file.turns = []transcript.Snapshot{b, a}
	want("ab")
	read := str.reads
	want("ab")
	if str.reads != read {
		t.Error("the stream is read although the file has everything")
	}
	file.err = errors.New("no disk")
	if _, err := e.View(t.Context(), "s"); err == nil {
		t.Error("the stream stands in for a file that cannot be read: it may hold less")
	}
}
