//go:build !race

package publisher_test

import (
	"testing"

	"github.com/afterword-io/afterword/publisher"
)

// TestPublishAllocates bounds what one call of a plain turn costs, encoding included.
func TestPublishAllocates(t *testing.T) {
	w := newStreamWorld(t)
	p := w.publisher(func(c *publisher.Config) { c.SettleTurns = 1 })
	turn := benchTurn()
	turn.SessionID = "s"
	waitStored(t, must(t)(p.Publish(t.Context(), turn)))
	w.srv.Stop()
	if n := testing.AllocsPerRun(10_000, func() { must(t)(p.Publish(t.Context(), turn)) }); n > 3 {
		t.Errorf("%v allocations", n)
	}
}
