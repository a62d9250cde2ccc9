package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

const (
	drainJob   kind = "drain"
	consumeJob kind = "consume"

	foldBound   = 10 * time.Minute
	ackedBound  = time.Minute
	waitForMore = 5 * time.Second
)

// durable joins a group that nobody used before.
func durable(ctx context.Context, js jetstream.JetStream, group string) (jetstream.Consumer, error) {
	return js.CreateConsumer(ctx, stream.Turns, jetstream.ConsumerConfig{
		Durable: group, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: consumer.DefaultMaxAckPending, MaxDeliver: -1,
	})
}

// fetchBatch takes what is there, up to n messages, and waits for the first.
func fetchBatch(cons jetstream.Consumer, n int) ([]jetstream.Msg, error) {
	for deadline := time.Now().Add(waitForMore); ; {
		got, err := cons.FetchNoWait(n)
		if err != nil {
			return nil, err
		}
		var list []jetstream.Msg
		for m := range got.Messages() {
			list = append(list, m)
		}
		if err := got.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) && !errors.Is(err, jetstream.ErrNoMessages) {
			return nil, err
		}
		if len(list) > 0 {
			return list, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no turn came for %v", waitForMore)
		}
	}
}

// allAcked waits until the server has taken in every acknowledgement.
func allAcked(ctx context.Context, js jetstream.JetStream, group string, turns int) error {
	for deadline := time.Now().Add(ackedBound); ; {
		cons, err := js.Consumer(ctx, stream.Turns, group)
		if err != nil {
			return err
		}
		info := cons.CachedInfo()
		if info.NumAckPending == 0 && int(info.AckFloor.Consumer) >= turns {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d turns are not acknowledged after %v", info.NumAckPending, ackedBound)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// drain fetches and acknowledges, and writes nothing.
func drain(ctx context.Context, j job, progress func(int)) (outcome, error) {
	nc, js, err := connect(ctx, j.URL, 1)
	if err != nil {
		return outcome{}, err
	}
	defer nc.Close()
	cons, err := durable(ctx, js, j.Group)
	if err != nil {
		return outcome{}, err
	}
	began := time.Now()
	for got := 0; got < j.Turns; progress(got) {
		if ctx.Err() != nil {
			return outcome{}, context.Cause(ctx)
		}
		batch, err := cons.FetchNoWait(j.Batch)
		if err != nil {
			return outcome{}, err
		}
		before := got
		for m := range batch.Messages() {
			if err := m.Ack(); err != nil {
				return outcome{}, err
			}
			got++
		}
		if got == before && time.Since(began) > foldBound {
			return outcome{}, fmt.Errorf("%d of %d turns came", got, j.Turns)
		}
	}
	if err := allAcked(ctx, js, j.Group, j.Turns); err != nil {
		return outcome{}, err
	}
	return outcome{Seconds: time.Since(began).Seconds()}, nil
}

// consume drains with the consumer of afterword, folding on, and then waits until
// every document has all of its turns.
func consume(ctx context.Context, j job, progress func(int)) (o outcome, err error) {
	nc, js, err := connect(ctx, j.URL, 1)
	if err != nil {
		return o, err
	}
	defer nc.Close()
	store, err := transcript.Open(transcript.Config{Dir: j.Dir})
	if err != nil {
		return o, err
	}
	c, err := consumer.New(consumer.Config{JS: js, Store: store, Group: j.Group, BatchTurns: j.Batch})
	if err != nil {
		return o, err
	}
	rctx, stop := context.WithCancel(ctx)
	defer stop()
	began, done := time.Now(), make(chan error, 1)
	go func() { done <- c.Run(rctx) }()
	for acked := int64(0); acked < int64(j.Turns); acked = c.Stats().Acked {
		select {
		case err := <-done:
			return o, fmt.Errorf("the consumer ended: %w", errors.Join(err, context.Cause(ctx)))
		case <-time.After(time.Millisecond):
		}
		progress(int(acked))
	}
	if err := allAcked(ctx, js, j.Group, j.Turns); err != nil {
		return o, err
	}
	o.Seconds = time.Since(began).Seconds()
	if s := store.Stats(); s.Syncs > 0 {
		o.Sync = s.SyncTime.Seconds() / float64(s.Syncs)
	}

	folding := time.Now()
	for {
		asked := time.Now()
		left := store.Stats().Dirty // looks at every session, so it is not asked often
		if left == 0 {
			break
		}
		if time.Since(folding) > foldBound {
			return o, fmt.Errorf("%d sessions are not folded after %v", left, foldBound)
		}
		if err := pause(ctx, max(20*time.Millisecond, 100*time.Since(asked))); err != nil {
			return o, err
		}
	}
	o.After = time.Since(folding).Seconds()
	stats := store.Stats()
	o.Folds, o.Written = stats.Folds, stats.Appended
	stop()
	if err := <-done; err != nil {
		return o, err
	}
	if s := c.Stats(); s.Dead > 0 || o.Written < int64(j.Turns) {
		return o, fmt.Errorf("%d turns were written and %d are dead letters", o.Written, s.Dead)
	}
	return o, store.Close(ctx)
}
