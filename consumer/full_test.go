package consumer

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

// TestFullSession: turns that a session has no room for become dead letters with a reason of
// their own, other sessions go on, and what is there comes again as ever.
func TestFullSession(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store := f.open(transcript.Config{Dir: dir, SessionMaxBytes: 2000})
	c, stop := f.start(Config{Store: store})
	var turns []transcript.Snapshot
	for i := range 40 {
		turns = append(turns, makeTurn(t, "chat/0", i, 1))
	}
	f.publish(turns...)
	f.publish(makeTurn(t, "chat/1", 1, 1))
	f.drained(DefaultGroup)
	full := func() int64 { return c.Stats().DeadOf[KindFull.index()] }
	dead := full()
	doc, err := store.Read(t.Context(), "chat/0")
	if err != nil {
		t.Fatal(err)
	}
	if doc.Len() == 0 || dead == 0 || doc.Len()+int(dead) != len(turns) || c.Stats().Dead != dead {
		t.Fatalf("%d turns and %d dead letters of %d turns", doc.Len(), dead, len(turns))
	}
	if _, err := store.Read(t.Context(), "chat/1"); err != nil {
		t.Error(err)
	}

	// The first turn again, and a later revision of it.
	f.publish(makeTurn(t, "chat/0", 0, 1), makeTurn(t, "chat/0", 0, 2))
	f.drained(DefaultGroup)
	servertest.Eventually(t, 30*time.Second, "the later revision", func() bool {
		turn, ok, err := store.Turn(t.Context(), "chat/0", makeTurn(t, "chat/0", 0, 1).ID)
		return err == nil && ok && turn.Rev == 2
	})
	if n := full(); n != dead {
		t.Errorf("%d dead letters more", n-dead)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	// A replay elsewhere says what it leaves out.
	other := f.open(transcript.Config{Dir: filepath.Join(t.TempDir(), "transcripts"), SessionMaxBytes: 2000})
	res, err := Replay(t.Context(), ReplayConfig{JS: f.js, Store: other})
	if err != nil || res.LeftOut == 0 {
		t.Fatalf("%+v %v", res, err)
	}
	rebuilt, err := other.Read(t.Context(), "chat/0")
	if err != nil || rebuilt.Len()+int(res.LeftOut) != len(turns) {
		t.Errorf("%d turns and %d left out of %d: %v", rebuilt.Len(), res.LeftOut, len(turns), err)
	}
}
