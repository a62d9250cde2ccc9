package bench

import "time"

const lagSleep = time.Millisecond

// lag records how late a goroutine wakes that sleeps for a millisecond again and
// again: what everybody else in the process waits for the scheduler, too.
type lag struct {
	durations
	quit, done chan struct{}
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
		due := time.Now().Add(lagSleep)
		time.Sleep(lagSleep)
		g.since(due)
	}
}

func (g *lag) stop() {
	close(g.quit)
	<-g.done
}
