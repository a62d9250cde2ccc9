package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// DefaultPublishBatch is how many turns an atomic batch has, as many as the publisher sends at most.
	DefaultPublishBatch = 500
	batchesAtOnce       = 4 // in flight, as many as the publisher has
	ackTimeout          = 30 * time.Second
)

// publishBatches publishes n messages as atomic batches, several in flight, and
// returns when all are acknowledged.
func publishBatches(ctx context.Context, nc *nats.Conn, n, batch int, message func(i int) (*nats.Msg, error), progress func(done int)) error {
	inbox := nc.NewInbox()
	acks := make(chan *nats.Msg, batchesAtOnce)
	sub, err := nc.ChanSubscribe(inbox, acks)
	if err != nil {
		return fmt.Errorf("publish batches: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is closed
	flying, done := 0, 0
	acknowledged := func() error {
		timer := time.NewTimer(ackTimeout)
		defer timer.Stop()
		select {
		case m := <-acks:
			count, err := batchAck(m)
			flying, done = flying-1, done+count
			progress(done)
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return errors.New("publish batches: no acknowledgement")
		}
	}
	for from, number := 0, 1; from < n; from, number = from+batch, number+1 {
		if flying == batchesAtOnce {
			if err := acknowledged(); err != nil {
				return err
			}
		}
		to := min(n, from+batch)
		id := inbox[len(inbox)-22:] + "-" + strconv.Itoa(number)
		for i := from; i < to; i++ {
			m, err := message(i)
			if err != nil {
				return fmt.Errorf("turn %d: %w", i, err)
			}
			m.Header["Nats-Batch-Id"] = []string{id}
			m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i - from + 1)}
			if i == to-1 {
				m.Header["Nats-Batch-Commit"] = []string{"1"}
				m.Reply = inbox
			}
			if err := nc.PublishMsg(m); err != nil {
				return fmt.Errorf("publish turn %d: %w", i, err)
			}
		}
		flying++
	}
	for flying > 0 {
		if err := acknowledged(); err != nil {
			return err
		}
	}
	if done != n {
		return fmt.Errorf("publish batches: %d of %d turns are stored", done, n)
	}
	return nil
}

// batchAck returns how many messages an acknowledgement is for.
func batchAck(m *nats.Msg) (int, error) {
	var ack struct {
		Batch string `json:"batch"`
		Count int    `json:"count"`
		Error *struct {
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return 0, fmt.Errorf("publish batches: acknowledgement %q: %w", m.Data, err)
	}
	switch {
	case ack.Error != nil:
		return 0, fmt.Errorf("publish batches: %s", ack.Error.Description)
	case ack.Batch == "":
		return 0, errors.New("publish batches: the server does not know them: 2.12 or newer is needed")
	}
	return ack.Count, nil
}

// preload fills the stream with a source.
func (l *lab) preload(ctx context.Context, nc *nats.Conn, c *conversations) error {
	return publishBatches(ctx, nc, c.Turns, DefaultPublishBatch, c.message, func(done int) { l.Progress("filling the stream", done, c.Turns) })
}
