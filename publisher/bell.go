package publisher

import "sync/atomic"

// bell wakes the sender. Waking a goroutine that sleeps makes the runtime wake a
// thread, a system call after which the kernel often runs that thread in the
// caller's place: most of what a call of Publish took at its worst. So it rings only
// when somebody listens; a sender that is awake, or that will look by itself soon, does not.
type bell struct {
	rung      chan struct{}
	listening atomic.Bool
}

func newBell() *bell { return &bell{rung: make(chan struct{}, 1)} }

// listen says whether ring is to be heard. A listener calls it before it looks
// for what it would be woken for, so that nothing can come in between.
func (b *bell) listen(yes bool) { b.listening.Store(yes) }

// ring wakes the listener, if there is one; once for each listen.
func (b *bell) ring() {
	if b.listening.Load() && b.listening.CompareAndSwap(true, false) {
		b.insist()
	}
}

// insist rings whether somebody listens or not.
func (b *bell) insist() {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}
