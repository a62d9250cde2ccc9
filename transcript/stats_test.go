package transcript

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

// What a store does is counted, and whoever asked is told how long it took.
func TestStats(t *testing.T) {
	var synced, folded atomic.Int64
	s := openStore(t, Config{
		OnSync: func(took time.Duration) { synced.Add(1) },
		OnFold: func(took time.Duration) { folded.Add(1) },
	})
	b := s.Write(t.Context(), []Group{{SessionID: "s", Turns: []Snapshot{snap(t, "s", 1)}}})
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, 30*time.Second, "a fold and a look at the disk", func() bool {
		st := s.Stats()
		return st.Folds == 1 && folded.Load() > 0 && st.Space.Bytes > 0 // told after it is counted
	})
	st := s.Stats()
	if synced.Load() != 1 || st.Syncs != 1 || st.Failed {
		t.Errorf("told of %d syncs and %d folds; %+v", synced.Load(), folded.Load(), st)
	}
	if st.Space.FreeBytes > st.Space.Bytes || st.Space.FreeInodes > st.Space.Inodes {
		t.Errorf("more is free than there is: %+v", st.Space)
	}
}

// An operation that is late is counted once, under its kind.
// In time of its own: nothing is late but what hangs.
func TestLateOperationsAreCounted(t *testing.T) { synctest.Test(t, lateOperations) }

func lateOperations(t *testing.T) {
	s := openStore(t, Config{FileTimeout: 30 * time.Millisecond})
	hang := make(chan struct{})
	defer close(hang)
	for _, op := range []string{"append", "read session a", "read session b", "juggle session a"} {
		if err := s.one(t.Context(), op, func() error { <-hang; return nil }); !errors.Is(err, ErrLate) {
			t.Fatalf("%s: %v", op, err)
		}
	}
	for _, l := range s.Stats().Late {
		want := map[string]int64{"append": 1, "read": 2, "other": 1}[l.Op]
		if l.N != want {
			t.Errorf("%s was late %d times, not %d", l.Op, l.N, want)
		}
	}
}
