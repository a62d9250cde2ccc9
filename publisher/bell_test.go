package publisher_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// TestEveryTurnIsNoticed publishes while the sender looks for turns by itself, while it sleeps, and
// around the moment at which it falls asleep. Nobody asks a receipt, which would wake it.
func TestEveryTurnIsNoticed(t *testing.T) {
	const prompt = 6 * time.Second // below the upkeep that would find a forgotten turn
	w := newStreamWorld(t)
	stored := make(chan struct{}, 16)
	p := w.publisher(func(c *publisher.Config) {
		c.OnStored = func(time.Duration) { stored <- struct{}{} }
		c.AckTimeout = time.Minute // upkeep is as often, or every 10 s
	})
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range 100 {
		for range i % 50 { // up to more than twice as long as it looks by itself
			<-tick.C
		}
		must(t)(p.Publish(t.Context(), transcript.Turn{SessionID: fmt.Sprint("s", i), User: "q"}))
		select {
		case <-stored:
		case <-time.After(prompt):
			t.Fatalf("turn %d is not stored after %v", i, prompt)
		}
	}
	closeNow(t, p)
}
