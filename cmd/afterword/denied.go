package main

import (
	"fmt"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
)

// deniedFor is how long after NATS refused to let a consumer fetch or acknowledge that counts: it
// tries again at least that often.
const deniedFor = 20 * time.Second

// mayConsume is an error while a permission is missing without which turns cannot be fetched or acknowledged. Such
// requests get no answer, which looks like a stream without new turns.
func (b *builder) mayConsume() error {
	if err := stream.CheckDenied(b.nc, deniedFor, ".CONSUMER.MSG.NEXT."+stream.Turns+".", "$JS.ACK."); err != nil {
		return fmt.Errorf("turns cannot be fetched or acknowledged: %w", err)
	}
	return nil
}

// mayPublish is an error while the one is missing without which turns cannot be published.
func (b *builder) mayPublish() error {
	return stream.CheckDenied(b.nc, b.o.publisher.retryMax+deniedFor, `Publish to "`+stream.TurnPrefix)
}
