package transcript

import (
	"context"
	"sync/atomic"
	"time"
)

// spaceEvery is how often a store looks at the space of its file system for [Stats].
const spaceEvery = 10 * time.Second

// spaceLoop looks now and then, in the background, because the file system of a
// disk that hangs does not answer. While there is no answer it keeps what was known,
// and does not ask again: a look that hangs holds one operation.
func (s *Store) spaceLoop() {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // a stop does not wait for a disk that hangs
		<-s.closing
		cancel()
	}()
	var looking atomic.Bool
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		if !looking.Load() {
			_ = s.one(ctx, "statfs the transcripts folder", func() error {
				looking.Store(true)
				defer looking.Store(false)
				space, err := s.statfs()
				if err == nil {
					s.stats.space.Store(&space)
				}
				return err
			})
		}
		select {
		case <-s.closing:
			return
		case <-tick.C:
		}
	}
}
