package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

const (
	readJob   kind = "read"
	replayJob kind = "replay"

	readAhead = 5000 // as the reader of afterword
)

// ReplayConfig says what [Replay] measures.
type ReplayConfig struct {
	Config
	// Source is the turns in the stream; sessions of 20 turns by default.
	Source Source
}

// Replay measures how fast transcripts are rebuilt from the stream into an empty
// folder, against reading the stream in order and doing nothing with it.
func Replay(ctx context.Context, cfg ReplayConfig) (*Result, error) {
	c, err := cfg.Source.open()
	if err != nil {
		return nil, err
	}
	size, err := c.shape()
	if err != nil {
		return nil, err
	}
	runs := int64(max(cfg.Runs, 1))
	l, err := openLab(cfg.Config, "replay", size.streamBytes(c.Turns)+runs*size.fileBytes())
	if err != nil {
		return nil, err
	}
	return l.finish(ctx, l.replay(ctx, c, size))
}

func (l *lab) replay(ctx context.Context, c *conversations, size shape) error {
	l.describe(c, size)
	servers, err := l.startNATS(ctx, 1)
	if err != nil {
		return err
	}
	if err := l.fill(ctx, servers, c); err != nil {
		return err
	}
	const raw, own, peak = "raw ordered read", "replay", "replay: peak memory"
	got := newCollected()
	base := job{URL: servers.url(), Turns: c.Turns}
	for run := -1; run < l.Runs; run++ { // the first read warms up and is not counted
		for _, step := range []struct {
			what string
			kind kind
		}{{raw, readJob}, {own, replayJob}} {
			if run < 0 && step.kind != readJob {
				continue
			}
			j := base
			j.Kind, j.Dir = step.kind, l.fresh("transcripts")
			o, err := l.work(ctx, l.step(step.what, run), j)
			if err != nil {
				return err
			}
			if run < 0 {
				continue
			}
			got.add(step.what, turnsPerSecond, o.rate(c.Turns))
			if step.kind == replayJob {
				got.add(peak, mebibytes, float64(o.Peak)/(1<<20))
			}
		}
	}
	l.result.Measures = []Measure{
		got.measure(raw), got.measure(own),
		ratio("replay / raw ordered read", got.measure(own), got.measure(raw)).atLeast(0.45),
		got.measure(peak).atMost(256),
	}
	l.result.Panels = []Panel{barsOf("Rebuilding transcripts from the stream", got.measure(raw), got.measure(own))}
	return nil
}

// readStream reads the stream in order.
func readStream(ctx context.Context, j job, progress func(int)) (outcome, error) {
	nc, js, err := connect(ctx, j.URL, 1)
	if err != nil {
		return outcome{}, err
	}
	defer nc.Close()
	began := time.Now()
	cons, err := js.OrderedConsumer(ctx, stream.Turns, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return outcome{}, err
	}
	iter, err := cons.Messages(jetstream.PullMaxMessages(readAhead))
	if err != nil {
		return outcome{}, err
	}
	defer iter.Stop()
	defer context.AfterFunc(ctx, iter.Stop)()
	for got := 1; got <= j.Turns; got++ {
		if _, err := iter.Next(); err != nil {
			return outcome{}, errors.Join(err, context.Cause(ctx))
		}
		if got%1024 == 0 {
			progress(got)
		}
	}
	return outcome{Seconds: time.Since(began).Seconds()}, nil
}

// replay rebuilds all transcripts; they are durable and folded at the end.
func replay(ctx context.Context, j job, progress func(int)) (outcome, error) {
	nc, js, err := connect(ctx, j.URL, 1)
	if err != nil {
		return outcome{}, err
	}
	defer nc.Close()
	store, err := transcript.Open(transcript.Config{Dir: j.Dir})
	if err != nil {
		return outcome{}, err
	}
	began := time.Now()
	res, err := consumer.Replay(ctx, consumer.ReplayConfig{JS: js, Store: store, Progress: func(p consumer.Progress) { progress(int(p.Done)) }})
	if err != nil {
		return outcome{}, err
	}
	o := outcome{Seconds: time.Since(began).Seconds(), Written: int64(res.Turns), Folds: store.Stats().Folds}
	if res.Turns != uint64(j.Turns) || res.Skipped > 0 {
		return o, fmt.Errorf("%d turns were merged and %d skipped, of %d", res.Turns, res.Skipped, j.Turns)
	}
	return o, store.Close(ctx)
}
