//go:build !race

package publisher_test

import (
	"testing"

	"github.com/afterword-io/afterword/publisher"
)

// TestPublishAllocates bounds what one call of a plain turn costs, encoding included.
func TestPublishAllocates(t *testing.T) {
	for name, spool := range map[string]string{"without a spool": "", "with a spool": spoolDir(t)} {
		t.Run(name, func(t *testing.T) { publishAllocates(t, spool) })
	}
}

func publishAllocates(t *testing.T, spool string) {
	w := newStreamWorld(t)
	// What the spool itself allocates is not the caller's, but counts here too.
	p := w.publisher(func(c *publisher.Config) { c.SettleTurns, c.SpoolDir = 1, spool })
	turn := benchTurn()
	turn.SessionID = "s"
	waitStored(t, must(t)(p.Publish(t.Context(), turn)))
	w.srv.Stop()
	if n := testing.AllocsPerRun(10_000, func() { must(t)(p.Publish(t.Context(), turn)) }); n > 3 {
		t.Errorf("%v allocations", n)
	}
}
