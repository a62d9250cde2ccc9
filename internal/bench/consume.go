package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/afterword-io/afterword/consumer"
)

// Defaults of a [ConsumeConfig].
const (
	DefaultReplaceTurns = 10_000
)

// ConsumeConfig says what [Consume] measures.
type ConsumeConfig struct {
	Config
	// Source is the turns in the stream.
	Source Source
	// Batch is how many turns go through the pipeline together; zero means
	// [consumer.DefaultBatchTurns].
	Batch int
	// ReplaceTurns is how many turns are drained by replacing the file for every one;
	// it is slow. Zero means [DefaultReplaceTurns], negative leaves it out.
	ReplaceTurns int
	// TailRate and DocumentRate are how many turns a second are followed until they are
	// durable, and until their document has them; zero means [DefaultTailRate] and [DefaultDocumentRate].
	TailRate, DocumentRate int
	// For is how long turns are followed, and how long the burst is; zero means
	// [DefaultEndToEndFor], negative leaves both out.
	For time.Duration
}

// consumeTargets are figures to reach; zero means that there is none.
type consumeTargets struct {
	fetch, replace, floor float64 // at least so many times (a), (b) and (c)
	folded                float64 // at most so many seconds until all is folded
	peak                  float64 // at most so many MiB of memory
}

// manySessions is from when on a source counts as one of many sessions.
const manySessions = 50_000

func consumeTargetsOf(c *conversations) consumeTargets {
	switch {
	case len(c.lines) > 0:
		return consumeTargets{fetch: 0.4, folded: 30}
	case c.Sessions >= manySessions:
		return consumeTargets{fetch: 0.22, folded: 30, peak: 200}
	}
	return consumeTargets{fetch: 0.35, replace: 10, floor: 0.6, folded: 30}
}

// Names of what is measured.
const (
	ownConsumer = "afterword, folding on"
	fetchAck    = "(a) fetch and ack, nothing written"
	replaceEach = "(b) replacing the file for every turn"
	fileFloor   = "(c) files alone: append and one sync a batch"
	allFolded   = "until all documents are folded, after the drain"
	consumePeak = "consumer's peak memory"
	batchSync   = "making a batch durable, beside folds"
)

// trials are the numbers of workers among which the best is chosen.
func trials() []int { return []int{2, 4, 8, 16, 32, 64} }

// Consume measures how fast a full stream is drained until everything is durable
// and acknowledged.
func Consume(ctx context.Context, cfg ConsumeConfig) (*Result, error) {
	cfg.Batch = cmp.Or(cfg.Batch, consumer.DefaultBatchTurns)
	cfg.ReplaceTurns = cmp.Or(cfg.ReplaceTurns, DefaultReplaceTurns)
	cfg.TailRate = cmp.Or(cfg.TailRate, DefaultTailRate)
	cfg.DocumentRate = cmp.Or(cfg.DocumentRate, DefaultDocumentRate)
	cfg.For = cmp.Or(cfg.For, DefaultEndToEndFor)
	if cfg.TailRate < 1 || cfg.DocumentRate < 1 {
		return nil, errors.New("bench: rates are positive")
	}
	if cfg.Batch < 1 || cfg.Batch > consumer.DefaultMaxAckPending {
		return nil, fmt.Errorf("bench: a batch has 1 to %d turns", consumer.DefaultMaxAckPending)
	}
	c, err := cfg.Source.open()
	if err != nil {
		return nil, err
	}
	cfg.ReplaceTurns = min(cfg.ReplaceTurns, c.Turns)
	size, err := c.shape()
	if err != nil {
		return nil, err
	}
	runs := int64(max(cfg.Runs, 1))
	need := size.streamBytes(c.Turns) + runs*2*size.fileBytes()
	if cfg.For > 0 { // of a burst: in the stream, in tails and in documents
		perTurn := size.bytes/int64(c.Turns) + stored
		need += runs * int64(cfg.For.Seconds()*saturated+1) * 3 * perTurn
	}
	l, err := openLab(cfg.Config, "consume", need)
	if err != nil {
		return nil, err
	}
	return l.finish(ctx, l.consume(ctx, cfg, c, size))
}

func (l *lab) consume(ctx context.Context, cfg ConsumeConfig, c *conversations, size shape) error {
	l.describe(c, size)
	l.set("batch", cfg.Batch)
	servers, err := l.startNATS(ctx, 1)
	if err != nil {
		return err
	}
	if err := l.fill(ctx, servers, c); err != nil {
		return err
	}
	group := 0
	do := func(what string, run int, j job) (outcome, error) {
		group++
		j.URL, j.Group, j.Batch, j.Source = servers.url(), fmt.Sprintf("bench%d", group), cfg.Batch, c.Source
		j.Dir = l.fresh("transcripts")
		return l.work(ctx, l.step(what, run), j)
	}
	got := newCollected()
	if _, err := do("warming up", 0, job{Kind: drainJob, Turns: c.Turns}); err != nil {
		return err
	}
	for run := range l.Runs {
		for _, step := range []struct {
			name string
			kind kind
		}{{fetchAck, drainJob}, {ownConsumer, consumeJob}, {fileFloor, appendJob}} {
			o, err := do(step.name, run, job{Kind: step.kind, Turns: c.Turns})
			if err != nil {
				return err
			}
			got.add(step.name, turnsPerSecond, o.rate(c.Turns))
			if step.kind == consumeJob {
				got.add(allFolded, seconds, o.After)
				got.add(consumePeak, mebibytes, float64(o.Peak)/(1<<20))
				got.add(batchSync, milliseconds, o.Sync*1000)
			}
		}
	}
	if cfg.For > 0 {
		l.set("end to end", fmt.Sprintf("%d and %d turns a second, %v", cfg.TailRate, cfg.DocumentRate, cfg.For))
		for run := range l.Runs {
			if err := l.endToEnd(ctx, cfg, c, run, got); err != nil {
				return err
			}
		}
	}
	// Replacing files comes last: it frees inodes, which slows down who creates files after it.
	if cfg.ReplaceTurns > 0 {
		workers, err := bestWorkers(func(workers int) (outcome, error) {
			return do(fmt.Sprintf("looking for the best number of workers, %d", workers), 0, job{Kind: replaceJob, Turns: max(1, cfg.ReplaceTurns/4), Workers: workers})
		}, max(1, cfg.ReplaceTurns/4))
		if err != nil {
			return err
		}
		l.set("workers replacing files", workers)
		l.set("turns replacing files", cfg.ReplaceTurns)
		for run := range l.Runs {
			o, err := do(replaceEach, run, job{Kind: replaceJob, Turns: cfg.ReplaceTurns, Workers: workers})
			if err != nil {
				return err
			}
			got.add(replaceEach, turnsPerSecond, o.rate(cfg.ReplaceTurns))
		}
	}
	l.consumed(cfg, consumeTargetsOf(c), got)
	return nil
}

// consumed makes the result of what was collected.
func (l *lab) consumed(cfg ConsumeConfig, targets consumeTargets, got *collected) {
	own := got.measure(ownConsumer)
	list := []Measure{own, got.measure(fetchAck)}
	bars := []Measure{own, got.measure(fetchAck)}
	ratios := []Measure{target(ratio("afterword / (a)", own, got.measure(fetchAck)), targets.fetch)}
	if cfg.ReplaceTurns > 0 {
		b := got.measure(replaceEach)
		list, bars = append(list, b), append(bars, b)
		ratios = append(ratios, target(ratio("afterword / (b)", own, b), targets.replace))
	}
	floor := got.measure(fileFloor)
	list, bars = append(list, floor), append(bars, floor)
	ratios = append(ratios, target(ratio("afterword / (c)", own, floor), targets.floor))
	list = append(list, ratios...)
	for _, m := range []struct {
		name  string
		value float64
	}{{allFolded, targets.folded}, {consumePeak, targets.peak}, {batchSync, 0}} {
		figure := got.measure(m.name)
		if m.value > 0 {
			figure = figure.atMost(m.value)
		}
		list = append(list, figure)
	}
	if cfg.For > 0 {
		list = append(list, endToEndMeasures(got)...)
	}
	l.result.Measures = list
	l.result.Panels = []Panel{barsOf("Draining a full stream until everything is durable and acknowledged", bars...)}
}

func target(m Measure, value float64) Measure {
	if value > 0 {
		return m.atLeast(value)
	}
	return m
}

// bestWorkers tries numbers of workers and returns the fastest.
func bestWorkers(try func(workers int) (outcome, error), turns int) (best int, err error) {
	rate := 0.0
	for _, workers := range trials() {
		o, err := try(workers)
		if err != nil {
			return 0, err
		}
		if r := o.rate(turns); r > rate {
			best, rate = workers, r
		}
	}
	if best == 0 {
		return 0, errors.New("no number of workers got anything done")
	}
	return best, nil
}

// fill makes the streams and fills them.
func (l *lab) fill(ctx context.Context, servers *natsServers, c *conversations) error {
	nc, _, err := connect(ctx, servers.url(), len(servers.nodes))
	if err != nil {
		return err
	}
	defer nc.Close()
	return l.preload(ctx, nc, c)
}
