package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// Defaults of a [PublishConfig].
const (
	DefaultPublishTurns = 50_000
	DefaultCallRate     = 1000
	DefaultCallsFor     = 5 * time.Second
)

// saturated is how many turns a second may be stored.
const saturated = 60_000

// PublishConfig says what [Publish] measures.
type PublishConfig struct {
	Config
	// Source is the turns of one round. Every round publishes them anew.
	Source Source
	// Nodes is how many NATS servers there are, all of which store every turn; zero means 1.
	Nodes int
	// Batch is how many turns a raw atomic batch has; zero means [DefaultPublishBatch].
	Batch int
	// Rate is at how many calls a second Publish is timed; zero means [DefaultCallRate].
	Rate int
	// For is how long it is timed in each condition; zero means [DefaultCallsFor].
	For time.Duration
}

// Publish measures how fast turns become stored, against raw nats.go with the same
// payloads, and how long a call of Publish takes.
func Publish(ctx context.Context, cfg PublishConfig) (*Result, error) {
	cfg.Nodes = cmp.Or(cfg.Nodes, 1)
	cfg.Batch = cmp.Or(cfg.Batch, DefaultPublishBatch)
	cfg.Rate = cmp.Or(cfg.Rate, DefaultCallRate)
	cfg.For = cmp.Or(cfg.For, DefaultCallsFor)
	switch {
	case cfg.Nodes != 1 && cfg.Nodes != 3:
		return nil, errors.New("bench: 1 or 3 nodes")
	case cfg.Batch < 2 || cfg.Batch > 1000:
		return nil, errors.New("bench: an atomic batch has 2 to 1,000 turns")
	case cfg.Rate < 1 || cfg.Rate > 100_000 || cfg.For <= 0:
		return nil, errors.New("bench: 1 to 100,000 calls a second, for longer than 0")
	}
	c, err := cfg.Source.open()
	if err != nil {
		return nil, err
	}
	size, err := c.shape()
	if err != nil {
		return nil, err
	}
	calls := shape{bytes: int64(saturated*cfg.For.Seconds()) * (size.bytes/int64(c.Turns) + stored)}
	runs := int64(max(cfg.Runs, 1))
	need := int64(cfg.Nodes) * (runs*3*size.streamBytes(c.Turns) + runs*calls.bytes)
	l, err := openLab(cfg.Config, "publish", need)
	if err != nil {
		return nil, err
	}
	return l.finish(ctx, l.publish(ctx, cfg, c, size))
}

// publishing is one run after the other against the same servers.
type publishing struct {
	*lab
	cfg     PublishConfig
	c       *conversations
	servers *natsServers
	nc      *nats.Conn
	got     *collected
	rounds  int
}

// Names of what is measured.
const (
	rawAsync     = "raw nats.go, asynchronous"
	rawBatches   = "raw nats.go, atomic batches"
	ownPublisher = "afterword"
)

func (l *lab) publish(ctx context.Context, cfg PublishConfig, c *conversations, size shape) error {
	l.describe(c, size)
	l.set("nodes", cfg.Nodes)
	l.set("batch", cfg.Batch)
	l.set("calls a second", cfg.Rate)
	l.set("calls timed for", cfg.For.String())
	servers, err := l.startNATS(ctx, cfg.Nodes)
	if err != nil {
		return err
	}
	nc, _, err := connect(ctx, servers.url(), cfg.Nodes)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := l.profileSelf("publish"); err != nil {
		return err
	}
	p := &publishing{lab: l, cfg: cfg, c: c, servers: servers, nc: nc, got: newCollected()}
	for run := range l.Runs {
		for _, step := range []struct {
			name string
			rate func(context.Context, string) (float64, error)
		}{{rawAsync, p.rawAsync}, {rawBatches, p.rawBatches}, {ownPublisher, p.own}} {
			rate, err := step.rate(ctx, l.step(step.name, run))
			if err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
			p.got.add(step.name, turnsPerSecond, rate)
		}
	}
	for run := range l.Runs { // faults come last: what they leave behind disturbs nobody
		for _, c := range conditions() {
			if err := p.calls(ctx, run, c); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	p.published()
	return nil
}

// published makes the result of what was collected.
func (p *publishing) published() {
	own, async, batches := p.got.measure(ownPublisher), p.got.measure(rawAsync), p.got.measure(rawBatches)
	overAsync, overBatches := ratio("afterword / asynchronous", own, async), ratio("afterword / atomic batches", own, batches)
	if p.cfg.Nodes == 1 {
		overAsync, overBatches = overAsync.atLeast(6), overBatches.atLeast(0.9)
	} else {
		overAsync = overAsync.atLeast(0.9)
	}
	list := []Measure{own, async, batches, overAsync, overBatches}
	var bars []Measure
	for _, c := range conditions() {
		for _, q := range quantiles() {
			m := p.got.measure(c.name + ", " + q.name)
			if q.name == "p99.9" {
				m = m.atMost(c.target)
				bars = append(bars, m)
			}
			list = append(list, m)
		}
		alone := p.got.measure(c.name + encodingAlone)
		list = append(list, alone, ratio(c.name+overEncoding, p.got.measure(c.name+", p99.9"), alone))
	}
	p.result.Measures = list
	p.result.Panels = []Panel{
		barsOf(fmt.Sprintf("Turns stored and synced, NATS nodes: %d", p.cfg.Nodes), own, async, batches),
		barsOf("How long a call of Publish takes: p99.9", bars...),
	}
}

// turn is turn n of this round, which no other round published.
func (p *publishing) turn(n int) transcript.Turn {
	t := p.c.turn(n)
	t.ID = fmt.Sprintf("%d-%s", p.rounds, t.ID)
	return t
}

// messages are the turns of one round, made before the time is taken.
func (p *publishing) messages() ([]*nats.Msg, error) {
	p.rounds++
	list := make([]*nats.Msg, p.c.Turns)
	for n := range list {
		t := p.turn(n)
		d, err := t.Draft()
		if err != nil {
			return nil, err
		}
		s, err := d.Snapshot(0)
		if err != nil {
			return nil, err
		}
		list[n] = messageOf(&s)
	}
	return list, nil
}

// rawAsync publishes as nats.go does without settings.
func (p *publishing) rawAsync(ctx context.Context, what string) (float64, error) {
	list, err := p.messages()
	if err != nil {
		return 0, err
	}
	var failed atomic.Pointer[error]
	js, err := jetstream.New(p.nc, jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) { failed.Store(&err) }))
	if err != nil {
		return 0, err
	}
	defer js.CleanupPublisher()
	began := time.Now()
	for n, m := range list {
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(ackTimeout)); err != nil {
			return 0, err
		}
		if n%256 == 0 {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			p.Progress(what, n, len(list))
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	took := time.Since(began)
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(len(list)) / took.Seconds(), nil
}

func (p *publishing) rawBatches(ctx context.Context, what string) (float64, error) {
	list, err := p.messages()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = publishBatches(ctx, p.nc, len(list), p.cfg.Batch, func(i int) (*nats.Msg, error) { return list[i], nil },
		func(done int) { p.Progress(what, done, len(list)) })
	return float64(len(list)) / time.Since(began).Seconds(), err
}

// own publishes with afterword's publisher; making the payloads is in its time.
func (p *publishing) own(ctx context.Context, what string) (float64, error) {
	p.rounds++
	turns := make([]transcript.Turn, p.c.Turns)
	for n := range turns {
		turns[n] = p.turn(n)
	}
	var stored atomic.Int64
	all := make(chan struct{})
	pub, err := publisher.New(publisher.Config{Conn: p.nc, OnStored: func(time.Duration) {
		if stored.Add(1) == int64(len(turns)) {
			close(all)
		}
	}})
	if err != nil {
		return 0, err
	}
	defer closeNow(pub)
	began := time.Now()
	for n := range turns {
		if err := publishTurn(ctx, pub, turns[n]); err != nil {
			return 0, err
		}
		if n%256 == 0 {
			p.Progress(what, int(stored.Load()), len(turns))
		}
	}
	for {
		select {
		case <-all:
			return float64(len(turns)) / time.Since(began).Seconds(), nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(reportEvery):
			p.Progress(what, int(stored.Load()), len(turns))
		}
	}
}

// publishTurn publishes, and waits while the buffer is full.
func publishTurn(ctx context.Context, pub *publisher.Publisher, t transcript.Turn) error {
	for {
		_, err := pub.Publish(ctx, t)
		if !errors.Is(err, publisher.ErrOverflow) {
			return err
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
}

// closeNow ends a publisher; what it could not store does not matter any more.
func closeNow(pub *publisher.Publisher) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = pub.Close(ctx)
}
