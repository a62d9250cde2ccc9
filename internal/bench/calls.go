package bench

import (
	"context"
	"errors"
	"time"

	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// warmUp is how long calls are made before they are timed.
const warmUp = 500 * time.Millisecond

// condition is what a call of Publish is timed under.
type condition struct {
	name      string
	saturated bool    // as fast as turns are stored, instead of at a rate
	target    float64 // of p99.9, in µs
	fault     func(*natsServers)
	mend      func(context.Context, *natsServers) error
}

func conditions() []condition {
	return []condition{
		{name: "Publish at a rate", target: 50},
		{name: "Publish, saturated", saturated: true, target: 100},
		{name: "Publish, NATS hangs", target: 1000,
			fault: func(s *natsServers) { s.each(func(n *natsNode) { n.hang() }) },
			mend: func(_ context.Context, s *natsServers) error {
				s.each(func(n *natsNode) { n.resume() })
				return nil
			}},
		{name: "Publish, NATS is down", target: 1000, fault: (*natsServers).kill, mend: func(ctx context.Context, s *natsServers) error { return s.restart(ctx) }},
	}
}

// encodingAlone is what the same goroutine takes for encoding a turn without
// publishing it: what the machine and its other work cost a call. It has moments of its
// own, halfway between two calls, after as long a sleep as they: right after a call it would
// find everything in the processor's caches.
const (
	encodingAlone = ", p99.9 of encoding alone"
	overEncoding  = ", p99.9 / encoding alone"
)

type quantile struct {
	name string
	of   func(Latencies) time.Duration
}

func quantiles() []quantile {
	return []quantile{
		{"p50", func(l Latencies) time.Duration { return l.P50 }},
		{"p99", func(l Latencies) time.Duration { return l.P99 }},
		{"p99.9", func(l Latencies) time.Duration { return l.P999 }},
		{"max", func(l Latencies) time.Duration { return l.Max }},
	}
}

// calls times Publish under a condition. What is published then is stored, or
// thrown away: only the calls count.
func (p *publishing) calls(ctx context.Context, run int, c condition) error {
	p.rounds++
	pub, err := publisher.New(publisher.Config{Conn: p.nc})
	if err != nil {
		return err
	}
	defer closeNow(pub)
	what := p.step(c.name, run)
	half := time.Second / time.Duration(2*p.cfg.Rate)
	took := make([]time.Duration, 0, 1<<20)
	encoding := make([]time.Duration, 0, cap(took))
	began := time.Now()
	measuring := false
	due := began
	for n := 0; time.Since(began) < warmUp+p.cfg.For; n++ {
		if !measuring && time.Since(began) >= warmUp {
			measuring = true
			if c.fault != nil {
				c.fault(p.servers)
			}
			due = time.Now()
		}
		wait := func() error {
			if c.saturated {
				return nil
			}
			due = due.Add(half)
			return pause(ctx, time.Until(due))
		}
		if err := wait(); err != nil {
			return err
		}
		t := p.turn(n % p.c.Turns)
		t.ID, t.Timestamp = "", time.Time{} // given by the publisher, as for a chat
		from := time.Now()
		_, err := pub.Publish(ctx, t)
		call := time.Since(from)
		if errors.Is(err, publisher.ErrOverflow) {
			if !c.saturated {
				return err
			}
			if err := pause(ctx, time.Millisecond); err != nil { // room for many again
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := wait(); err != nil {
			return err
		}
		t = p.turn(n % p.c.Turns)
		from = time.Now()
		if err := encode(&t); err != nil {
			return err
		}
		if measuring && len(took) < cap(took) {
			took, encoding = append(took, call), append(encoding, time.Since(from))
		}
		if n%256 == 0 {
			p.Progress(what, int(time.Since(began)/time.Millisecond), int((warmUp+p.cfg.For)/time.Millisecond))
		}
	}
	l := Quantiles(took)
	for _, q := range quantiles() {
		p.got.add(c.name+", "+q.name, microseconds, float64(q.of(l).Nanoseconds())/1000)
	}
	p.got.add(c.name+encodingAlone, microseconds, float64(Quantiles(encoding).P999.Nanoseconds())/1000)
	if c.mend != nil {
		return c.mend(ctx, p.servers)
	}
	return nil
}

// encode makes the payload of a turn, as Publish does.
func encode(t *transcript.Turn) error {
	d, err := t.Draft()
	if err != nil {
		return err
	}
	_, err = d.Snapshot(0)
	return err
}

func (s *natsServers) each(fn func(*natsNode)) {
	for _, n := range s.nodes {
		fn(n)
	}
}

// restart starts nodes again that were killed.
func (s *natsServers) restart(ctx context.Context) error {
	for _, n := range s.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	for _, n := range s.nodes {
		if err := n.proc.wait(ctx, n.ready); err != nil {
			return err
		}
	}
	return nil
}
