package main

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
)

// defaultStall is how long a command that publishes goes on while the stream takes nothing.
const defaultStall = 30 * time.Second

// feedOptions are the flags of commands that publish what they read.
type feedOptions struct {
	nats      natsOptions
	limits    streamOptions
	publisher publisherOptions
	logs      logOptions
	stall     time.Duration
}

func (o *feedOptions) add(f flags) {
	f.wait(&o.stall, defaultStall, "stall-timeout", "give up when the stream has taken nothing for so long")
	o.nats.add(f, ownNATS)
	o.publisher.add(f)
	o.limits.add(f, "stream-")
	o.logs.add(f, "error") // it says itself what went wrong
}

// fed is what became of turns that were published.
type fed struct {
	stored, duplicates uint64
	took               time.Duration
}

// feed connects, and publishes the turns that run feeds. estimate makes a guess of how many there
// are; watched says that somebody sees it. Without a connection there is no result.
func (c *cli) feed(ctx context.Context, o feedOptions, name string, estimate func(watched bool) func() uint64, run func(f *feed) error) (*fed, error) {
	log, err := c.logger(o.logs)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	nc, js, err := connectOnce(ctx, o.nats, name, log)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	if err := stream.Ensure(ctx, js, o.limits.config()); err != nil {
		return nil, err
	}
	pub, err := newFeeder(ctx, js, o.publisher)
	if err != nil {
		return nil, err
	}
	m := c.meter("turns stored")
	defer m.stop()
	guess := estimate(m != nil)
	f := &feed{pub: pub, stall: o.stall, onStep: func() { m.set(pub.Stats().Stored, guess()) }}
	if err = run(f); err == nil {
		err = f.drain(ctx)
	}
	m.stop()
	end := ctx
	if err != nil { // what is in flight is not waited for
		var cancel context.CancelFunc
		end, cancel = context.WithCancel(ctx)
		cancel()
	}
	if left := pub.Close(end); err == nil {
		err = left
	}
	st := pub.Stats()
	return &fed{st.Stored, st.Duplicates, time.Since(began)}, err
}

func newFeeder(ctx context.Context, js jetstream.JetStream, o publisherOptions) (*publisher.Publisher, error) {
	size, err := stream.MaxMsgSize(ctx, js)
	if err != nil {
		return nil, err
	}
	cfg := o.config()
	cfg.MaxMsgSize = func() int64 { return size }
	cfg.Conn, cfg.JetStream = js.Conn(), js
	cfg.SettleTurns, cfg.SettleBytes = 1, 1 // nobody reads what is pending
	return publisher.New(cfg)
}
