package consumer

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// A turn dated more than a day ahead of the time at which the stream stored it is a dead
// letter for all who read the stream; a document that has one from before keeps it.
func TestTurnsOfTheFuture(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	good := makeTurn(t, "s", 1, 1)
	second, third := makeTurn(t, "s", 2, 1), makeTurn(t, "s", 3, 1)
	at := func(d time.Duration) transcript.Snapshot {
		s, err := transcript.Decode(dated(t, second.Payload(), second.Timestamp, time.Now().Add(d)), 0)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	soon, far := at(transcript.MaxAhead-time.Hour), at(transcript.MaxAhead+time.Hour)
	poison, err := transcript.Decode(bytes.Replace(third.Payload(), []byte("2026-"), []byte("2199-"), 1), 0)
	if err != nil {
		t.Fatal(err)
	}
	finished := makeTurn(t, "s", 4, 1) // in the future, it says
	payload := bytes.Replace(finished.Payload(), []byte(`"user"`), fmt.Appendf(nil, `"completed_at":%q,"user"`, time.Now().Add(transcript.MaxAhead+time.Hour).Format(time.RFC3339Nano)), 1)
	if finished, err = transcript.Decode(payload, 0); err != nil || finished.CompletedAt == 0 {
		t.Fatal(err)
	}
	f.publish(poison, far, good, finished)
	f.publish(soon)

	dir := filepath.Join(t.TempDir(), "transcripts")
	store := f.store(dir)
	_, stop := f.start(Config{Store: store})
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	letters := f.lettersOf(DeadFilter{})
	if len(letters) != 3 || slices.ContainsFunc(letters, func(l DeadLetter) bool { return l.Kind != KindFuture }) {
		t.Fatalf("letters %+v, want three of kind %s", letters, KindFuture)
	}
	doc, err := store.Read(ctx, "s")
	if err != nil || doc.Len() != 2 {
		t.Fatalf("the transcript has %d turns (%v), want 2", doc.Len(), err)
	}
	want, err := doc.Bytes()
	if err != nil {
		t.Fatal(err)
	}

	replayed := f.store(filepath.Join(t.TempDir(), "transcripts"))
	res, err := Replay(ctx, ReplayConfig{JS: f.js, Store: replayed})
	if err != nil || res.Skipped != 3 {
		t.Errorf("replay: %+v (%v), want three skipped", res, err)
	}
	for name, read := range map[string]func() (*transcript.Document, error){
		"replayed":    func() (*transcript.Document, error) { return replayed.Read(ctx, "s") },
		"from stream": func() (*transcript.Document, error) { return NewStreamReader(f.js, 0).Read(ctx, "s") },
	} {
		doc, err := read()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if got, err := doc.Bytes(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s (%v):\n%s\nwant\n%s", name, err, got, want)
		}
	}

	// A document of an older version may hold such turns.
	if err := replayed.Append(ctx, poison, finished); err != nil {
		t.Fatal(err)
	}
	if _, err := Replay(ctx, ReplayConfig{JS: f.js, Store: replayed}); err != nil {
		t.Fatal(err)
	}
	if doc, err := replayed.Read(ctx, "s"); err != nil || doc.Len() != 4 {
		t.Errorf("a replay onto an old document leaves %d turns (%v), want 4", doc.Len(), err)
	}
	if res, err := Verify(ctx, VerifyConfig{JS: f.js, Store: replayed, Scratch: t.TempDir(), Settle: time.Millisecond}); err != nil || res.Differing != 0 {
		t.Errorf("verify: %+v (%v)", res, err)
	}

	// Stored again when the date is near enough, it is a turn.
	if turn, err := decodeTurn(poison.Payload(), transcript.Token("s"), poison.Timestamp.Time().Add(-transcript.MaxAhead), 1<<20); err != nil || turn.ID != poison.ID {
		t.Errorf("a day before its time: %v", err)
	}
	if _, err := decodeTurn(poison.Payload(), transcript.Token("s"), poison.Timestamp.Time().Add(-transcript.MaxAhead-time.Microsecond), 1<<20); err == nil {
		t.Error("more than a day before its time it is a turn")
	}
}
