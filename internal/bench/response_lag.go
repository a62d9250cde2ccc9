package bench

import (
	"sync"
	"time"
)

const lagSleep = time.Millisecond

// lag records how late a goroutine wakes that sleeps for a millisecond again and
// again: what everybody else in the process waits for the scheduler, too.
type lag struct {
	mu   sync.Mutex
	late []time.Duration
	quit chan struct{}
	done chan struct{}
}

func startLag() *lag {
	g := &lag{quit: make(chan struct{}), done: make(chan struct{})}
	go g.run()
	return g
}

func (g *lag) run() {
	defer close(g.done)
	for {
		select {
		case <-g.quit:
			return
		default:
		}
		began := time.Now()
		time.Sleep(lagSleep)
		late := time.Since(began) - lagSleep
		g.mu.Lock()
		g.late = append(g.late, late)
		g.mu.Unlock()
	}
}

// take returns what was recorded since the last time.
func (g *lag) take() Latencies {
	g.mu.Lock()
	late := g.late
	g.late = nil
	g.mu.Unlock()
	return Quantiles(late)
}

func (g *lag) stop() {
	close(g.quit)
	<-g.done
}
