package publisher

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
)

// readBackTries is how often reading one back is tried, each time for as long as an acknowledgement may take. After
// an outage answers are late; too few tries store turns twice.
const readBackTries = 5

// repeatsAtOnce is how many messages are read back at one time. More delay other requests, fewer the end of an outage.
const repeatsAtOnce = 16

// errDecoy is that the stream took a turn for the repetition of a message that is another one, is gone, or cannot be read.
var errDecoy = errors.New("the stream holds another message under the id of this turn")

// repeats reads back what the stream says it has already. The id of a turn can be computed by whoever knows or
// guesses it, and a message of any session that was published under it makes the server drop the turn.
type repeats struct {
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}
	denied atomic.Bool // the stream may not be read, as it was found; until the next connection
	work   sync.WaitGroup
}

func newRepeats() *repeats {
	r := &repeats{slots: make(chan struct{}, repeatsAtOnce)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// check reads one back, and puts what it finds among the results. A publisher that may not read the stream publishes the
// turn again: it is then stored twice, which does no harm.
func (r *repeats) check(s *sender, res result) {
	r.work.Go(func() {
		select {
		case r.slots <- struct{}{}:
		case <-r.ctx.Done():
			return
		}
		defer func() { <-r.slots }()
		var err error
		for try := 0; try < readBackTries && !r.denied.Load(); try++ {
			if res.held, err = stream.Holds(r.ctx, s.reader, res.duplicate, res.msg, s.cfg.AckTimeout, stream.HeaderTraceparent); err == nil || !s.nc.IsConnected() {
				break
			}
			if stream.Denied(err) {
				r.denied.Store(true)
			}
			select {
			case <-time.After(s.cfg.RetryMin << try):
			case <-r.ctx.Done():
				return
			}
		}
		if r.ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && !s.nc.IsConnected():
			res.err = err // try again later
		case err != nil, !res.held:
			res.err = errDecoy
		}
		s.results.put(res)
	})
}

func (r *repeats) close() {
	r.cancel()
	r.work.Wait()
}
