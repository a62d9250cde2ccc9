package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// Defaults of the end-to-end figures of a [ConsumeConfig].
const (
	DefaultTailRate     = 1000
	DefaultDocumentRate = 200
	DefaultEndToEndFor  = 5 * time.Second
)

const (
	tailJob     kind = "tail"
	documentJob kind = "document"
	burstJob    kind = "burst"

	lookAtFiles   = 2 * time.Millisecond // how exactly the moment is known at which a document has a turn
	endToEndBound = time.Minute

	endToEndSessions = 3000 // take turns
)

// Names of what is measured.
const (
	untilTail     = "Publish until durable in the tail"
	diskFloor     = "the disk alone: the same turns synced twice"
	untilDocument = "Publish until in the document"
	burstFolded   = "after a burst, until every document has all of it"
	burstTurns    = "turns of the burst"
)

// endToEnd measures, on servers of their own, how long a turn takes from the call
// of Publish until it is durable, and until its document has it, each at a rate; and
// how long documents lag behind after a burst.
func (l *lab) endToEnd(ctx context.Context, cfg ConsumeConfig, c *conversations, run int, got *collected) error {
	for _, step := range []struct {
		name string
		kind kind
		rate int
	}{{diskFloor, syncsJob, cfg.TailRate}, {untilTail, tailJob, cfg.TailRate}, {untilDocument, documentJob, cfg.DocumentRate}, {burstFolded, burstJob, 0}} {
		servers, err := l.startNATS(ctx, 1) // an empty stream
		if err != nil {
			return err
		}
		o, err := l.work(ctx, l.step(step.name, run), job{
			Kind: step.kind, URL: servers.url(), Group: "endtoend", Dir: l.fresh("transcripts"), Source: c.Source, Rate: step.rate, For: cfg.For, Turns: int(cfg.For / time.Millisecond),
		})
		servers.kill()
		if err != nil {
			return err
		}
		if step.kind == burstJob {
			got.add(burstTurns, "", float64(o.Written))
			got.add(burstFolded, seconds, o.After)
			continue
		}
		got.add(step.name+", p50", milliseconds, o.P50*1000)
		got.add(step.name+", p99", milliseconds, o.P99*1000)
	}
	return nil
}

func endToEndMeasures(got *collected) []Measure {
	return []Measure{
		got.measure(untilTail + ", p50"), got.measure(untilTail + ", p99").atMost(50),
		got.measure(diskFloor + ", p50"), got.measure(diskFloor + ", p99"),
		ratio(untilTail+" / the disk alone, p99", got.measure(untilTail+", p99"), got.measure(diskFloor+", p99")),
		got.measure(untilDocument + ", p50"), got.measure(untilDocument + ", p99").atMost(250),
		got.measure(burstTurns), got.measure(burstFolded).atMost(30),
	}
}

// pipeline is a publisher and a consumer in one process, as in `afterword serve`.
type pipeline struct {
	c     *conversations
	pub   *publisher.Publisher
	store *transcript.Store
	cons  *consumer.Consumer
	dir   string

	mu      sync.Mutex
	waiting map[string]published // by session: one turn at a time
	took    []time.Duration
	burstOf map[string]int // turns of the burst, by session
}

type published struct {
	id string
	at time.Time
}

// endToEndWorker runs one of the three jobs.
func endToEndWorker(ctx context.Context, j job, progress func(int)) (o outcome, err error) {
	nc, js, err := connect(ctx, j.URL, 1)
	if err != nil {
		return o, err
	}
	defer nc.Close()
	c, err := j.Source.open()
	if err != nil {
		return o, err
	}
	store, err := transcript.Open(transcript.Config{Dir: j.Dir})
	if err != nil {
		return o, err
	}
	p := &pipeline{c: c, store: store, dir: j.Dir, waiting: make(map[string]published), burstOf: make(map[string]int)}
	cfg := consumer.Config{JS: js, Store: store, Group: j.Group}
	if j.Kind == tailJob {
		cfg.Cache = durableTurns{p}
	}
	if p.cons, err = consumer.New(cfg); err != nil {
		return o, err
	}
	if p.pub, err = publisher.New(publisher.Config{Conn: nc}); err != nil {
		return o, err
	}
	defer closeNow(p.pub)
	rctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- p.cons.Run(rctx) }()
	switch j.Kind {
	case burstJob:
		o, err = p.burst(ctx, j, progress)
	default:
		o, err = p.paced(ctx, j, progress)
	}
	stop()
	return o, errors.Join(err, <-done, store.Close(context.WithoutCancel(ctx)))
}

// paced publishes at the rate and times every turn of it.
func (p *pipeline) paced(ctx context.Context, j job, progress func(int)) (o outcome, err error) {
	wctx, stop := context.WithCancel(ctx)
	watched := make(chan error, 1)
	if j.Kind == documentJob {
		go func() { watched <- p.watchDocuments(wctx) }()
	} else {
		watched <- nil
	}
	defer func() {
		stop()
		err = errors.Join(err, <-watched)
	}()
	every := time.Second / time.Duration(j.Rate)
	began := time.Now()
	due := began
	warm := 0
	for n := 0; time.Since(began) < warmUp+j.For; n++ {
		due = due.Add(every)
		if err := pause(ctx, time.Until(due)); err != nil {
			return o, err
		}
		if warm == 0 && time.Since(began) >= warmUp {
			warm = n
		}
		if err := p.publish(ctx, n); err != nil {
			return o, err
		}
		progress(int(time.Since(began) / time.Millisecond))
	}
	for deadline := time.Now().Add(endToEndBound); p.left() > 0; {
		if time.Now().After(deadline) {
			return o, fmt.Errorf("%d turns did not arrive within %v", p.left(), endToEndBound)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return o, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l := Quantiles(p.took[min(warm, len(p.took)-1):])
	o.P50, o.P99, o.Written = l.P50.Seconds(), l.P99.Seconds(), int64(len(p.took))
	return o, nil
}

// publish publishes turn n. Of each session one turn is under way at a time.
func (p *pipeline) publish(ctx context.Context, n int) error {
	t := p.c.turn(n % p.c.Turns)
	t.ID, t.Timestamp = "", time.Time{}
	t.SessionID = fmt.Sprint("session-", n%endToEndSessions)
	p.mu.Lock()
	if _, busy := p.waiting[t.SessionID]; busy {
		t.SessionID = fmt.Sprint("another-", n)
	}
	p.waiting[t.SessionID] = published{at: time.Now()} // before the call: the turn may arrive before it returns
	p.mu.Unlock()
	r, err := p.pub.Publish(ctx, t)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w, ok := p.waiting[t.SessionID]; ok {
		w.id = r.ID
		p.waiting[t.SessionID] = w
	}
	return nil
}

func (p *pipeline) left() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// arrived notes that the turns of sessions are where they should be.
func (p *pipeline) arrived(sessions ...string) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range sessions {
		if w, ok := p.waiting[s]; ok {
			p.took = append(p.took, now.Sub(w.at))
			delete(p.waiting, s)
		}
	}
}

// durableTurns is told by the consumer which sessions have turns that were made
// durable and acknowledged.
type durableTurns struct{ p *pipeline }

func (d durableTurns) Changed(sessions ...string) { d.p.arrived(sessions...) }
func (d durableTurns) ChangedWait(_ context.Context, sessions ...string) error {
	d.p.arrived(sessions...)
	return nil
}
func (d durableTurns) Flush(context.Context) error { return nil }

// watchDocuments looks into the documents of the sessions that wait.
func (p *pipeline) watchDocuments(ctx context.Context) error {
	for pause(ctx, lookAtFiles) == nil {
		p.mu.Lock()
		look := make(map[string]string, len(p.waiting))
		for s, w := range p.waiting {
			if w.id != "" {
				look[s] = w.id
			}
		}
		p.mu.Unlock()
		for session, id := range look {
			data, err := os.ReadFile(filepath.Join(p.dir, transcript.DocumentPath(transcript.Sharded, session)))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			if bytes.Contains(data, []byte(`{"id":"`+id+`"`)) {
				p.arrived(session)
			}
		}
	}
	return nil
}

// burst publishes as fast as turns are stored, and waits until every document has
// all of its turns.
func (p *pipeline) burst(ctx context.Context, j job, progress func(int)) (o outcome, err error) {
	began := time.Now()
	n := 0
	for ; time.Since(began) < j.For; n++ {
		t := p.c.turn(n % p.c.Turns)
		t.ID, t.Timestamp = "", time.Time{}
		if err := publishTurn(ctx, p.pub, t); err != nil {
			return o, err
		}
		p.burstOf[t.SessionID]++
		progress(int(time.Since(began) / time.Millisecond))
	}
	last := time.Now()
	for {
		asked := time.Now()
		// A turn is written before its session counts as dirty, and acknowledged after.
		if p.cons.Stats().Acked >= int64(n) && p.store.Stats().Dirty == 0 {
			break
		}
		if time.Since(last) > foldBound {
			return o, fmt.Errorf("the documents do not have all %d turns after %v", n, foldBound)
		}
		if err := pause(ctx, max(20*time.Millisecond, 100*time.Since(asked))); err != nil {
			return o, err
		}
	}
	o.After, o.Written = time.Since(last).Seconds(), int64(n)
	for session, want := range p.burstOf {
		data, err := os.ReadFile(filepath.Join(p.dir, transcript.DocumentPath(transcript.Sharded, session)))
		if err != nil {
			return o, err
		}
		if got := bytes.Count(data, []byte("\n{\"id\":")); got != want {
			return o, fmt.Errorf("the document of %s has %d turns of %d", session, got, want)
		}
	}
	return o, nil
}
