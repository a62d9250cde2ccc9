package consumer

import (
	"context"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

// stuckCache is a Refresher that does what none may: it does not return.
type stuckCache struct{ release chan struct{} }

func (s *stuckCache) Changed(...string)                            { <-s.release }
func (s *stuckCache) ChangedWait(context.Context, ...string) error { return nil }
func (s *stuckCache) Flush(context.Context) error                  { return nil }

// A watchdog sees a stage that hangs, however busy the other loops are, and nothing
// in a consumer that works or waits for turns.
func TestStalled(t *testing.T) {
	f := newFixture(t)
	stuck := &stuckCache{make(chan struct{})}
	c, stop := f.start(Config{Store: f.store(t.TempDir()), Cache: stuck})
	servertest.Eventually(t, 20*time.Second, "the consumer is ready", func() bool { return c.Ready() == nil })

	const limit = 3 * time.Second // a request for a first message stands for one
	began := time.Now()
	servertest.Eventually(t, 60*time.Second, "an idle consumer to move", func() bool { return time.Since(began) > limit+time.Second && c.Stalled() < limit })
	f.publish(conversation(t, 3, 6)...)
	servertest.Eventually(t, 30*time.Second, "the stall is seen", func() bool { return c.Stalled() > limit })
	close(stuck.release)
	servertest.Eventually(t, 30*time.Second, "it moves again", func() bool { return c.Stalled() < limit })
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if d := c.Stalled(); d != 0 {
		t.Errorf("stopped, and stalled for %s", d)
	}
}
