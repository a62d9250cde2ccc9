package transcript

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
)

// The journal of the file system fails between the write and the sync, which ext4 then
// calls a success.
func TestLostJournalIsNoSuccess(t *testing.T) {
	for _, how := range []Durability{SyncFS, SyncFiles} {
		t.Run(string(how), func(t *testing.T) {
			disk := faults.NewThin(t)
			dir := filepath.Join(disk.Dir(), "transcripts")
			s, err := Open(Config{Dir: dir, Layout: Flat, Durability: how, QuietAfter: time.Hour}) // tails are not emptied
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.Append(t.Context(), snap(t, "s", 1)), s.FoldAll(t.Context())); err != nil {
				t.Fatal(err)
			}
			disk.Exhaust()
			b := s.Write(t.Context(), GroupBySession([]Snapshot{snap(t, "s", 2)}))
			if err := b.Err(0); err != nil {
				t.Fatal(err)
			}
			disk.LoseJournal(filepath.Join(dir, Token("s")+tailSuffix))
			if err := b.Sync(t.Context()); !errors.Is(err, ErrFailed) {
				t.Errorf("the sync says %v", err)
			}
			s.Close(context.Background())
			disk.Mend()
			again := openStore(t, Config{Dir: dir})
			got, err := again.Recent(t.Context(), "s", 10)
			if err != nil || len(got.Turns) != 1 {
				t.Errorf("%d turns are there, %v: what is tested here did not happen", len(got.Turns), err)
			}
			if err := again.Close(t.Context()); err != nil { // before the disk goes
				t.Fatal(err)
			}
		})
	}
}
