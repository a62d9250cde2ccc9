package publisher

import (
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// result is how one try ended, of a turn by itself or of a batch.
type result struct {
	msg       *nats.Msg // of the turn; nil for a batch
	batch     uint64
	err       error             // nil when the stream has it
	duplicate *jetstream.PubAck // of a message that it has under the same id; nil for none
	held      bool              // that message was read back, and is the turn
}

// results carries what nats.go reports to the sender. The handlers run on
// goroutines of nats.go, some with its locks held, so they only enqueue; a
// publish from one of them would deadlock.
type results struct {
	signal chan struct{}

	mu   sync.Mutex
	list []result
}

func newResults() *results { return &results{signal: make(chan struct{}, 1)} }

func (r *results) put(res result) {
	r.mu.Lock()
	r.list = append(r.list, res)
	r.mu.Unlock()
	select {
	case r.signal <- struct{}{}:
	default:
	}
}

// swap returns what has come, and keeps spare for what comes next.
func (r *results) swap(spare []result) []result {
	clear(spare)
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.list
	r.list = spare[:0]
	return list
}
