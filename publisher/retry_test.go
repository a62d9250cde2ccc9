package publisher

import (
	"testing"
	"time"
)

func newTestGate(minWait, maxWait time.Duration) gate {
	cfg := Config{RetryMin: minWait, RetryMax: maxWait}
	return gate{backoff: cfg.backoff()}
}

func TestGateLetsOneThroughWithGrowingDelay(t *testing.T) {
	const minWait, maxWait = 100 * time.Millisecond, 30 * time.Second
	g := newTestGate(minWait, maxWait)
	now := time.Now()
	if n, _ := g.allowed(now, 512); n != 512 {
		t.Fatalf("an open gate lets %d through", n)
	}
	e := &entry{}
	g.fail(e, now)
	first := g.until
	g.fail(&entry{}, now) // the others of the window fail too
	if g.until != first {
		t.Error("failures of what was sent before it closed delay the probe")
	}
	longest := time.Duration(0)
	for range 50 {
		n, wait := g.allowed(now, 512)
		if n != 0 || wait < minWait/2 || wait > maxWait {
			t.Fatalf("%d allowed, wait %s", n, wait)
		}
		longest = max(longest, wait)
		now = now.Add(wait)
		if n, _ := g.allowed(now, 512); n != 1 {
			t.Fatalf("%d probes", n)
		}
		g.probe = e
		if n, _ := g.allowed(now, 512); n != 0 {
			t.Fatalf("%d sent beside the probe", n)
		}
		g.fail(e, now)
	}
	if longest < maxWait/2 {
		t.Errorf("the delay grew to %s only", longest)
	}
	g.hurry()
	if n, _ := g.allowed(now, 512); n != 1 {
		t.Error("no probe at once after a reconnect")
	}
	g.probe = e
	g.fail(e, now)
	if _, wait := g.allowed(now, 512); wait > 2*minWait {
		t.Errorf("after a reconnect the delay is %s", wait)
	}
	g.open()
	if n, _ := g.allowed(now, 512); n != 512 {
		t.Error("the gate did not open")
	}
}

func TestRetriesComeInOrder(t *testing.T) {
	now := time.Now()
	var r retries
	for _, e := range []*entry{
		{seq: 5, due: now.Add(time.Second)}, {seq: 3}, {seq: 4, due: now.Add(time.Minute)}, {seq: 1}, {seq: 2},
	} {
		r.add(e)
	}
	var got []uint64
	for r.first() != nil {
		got = append(got, r.first().seq)
		r.removeFirst()
		if len(got) == 3 {
			r.release(false)
		}
	}
	for i, want := range []uint64{1, 2, 3, 4, 5} {
		if got[i] != want {
			t.Fatalf("got %v", got)
		}
	}
}

func TestBlame(t *testing.T) {
	// A stream that takes nothing is no turn's fault.
	e := &entry{}
	for range 100 {
		if e.blame(7) {
			t.Fatal("blamed for the stream")
		}
	}
	// A turn that fails while others are stored is at fault in the end.
	e = &entry{}
	n := 0
	for ; n < 10 && !e.blame(uint64(n)); n++ {
	}
	if n != overtakenLimit {
		t.Errorf("blamed after %d failures", n)
	}
	e.forgive()
	if e.blame(100) {
		t.Error("not forgiven")
	}
}
