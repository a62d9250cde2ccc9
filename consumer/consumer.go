package consumer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go/jetstream"
)

// Consumer is one member of a group. It is used once.
type Consumer struct {
	cfg     Config
	rebound bool  // this folder took the group over
	joined  bool  // the group was joined once
	paused  error // that the group is paused, as last seen; nil when it is not

	mu         sync.Mutex
	unwritable error // why the folder cannot be written; fetching stops
	unfetched  error // why no turns come
	inFlight   map[*batch]struct{}

	dead     chan deadLetter
	unburied repeated // of those that cannot be stored
	walkNow  chan struct{}
	walkAll  atomic.Bool // the next walk is about all that the cache can hold
	repairs  repairs
	pulse    pulse

	follower follower
	stats    counters
	member   member
}

// New checks the configuration. Nothing happens before [Consumer.Run].
func New(cfg Config) (*Consumer, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Machine == "" {
		cfg.Machine = machineID()
	}
	if cfg.Host == "" {
		cfg.Host, _ = os.Hostname()
	}
	return &Consumer{
		cfg:       cfg,
		unfetched: errors.New("not started"),
		inFlight:  make(map[*batch]struct{}),
		dead:      make(chan deadLetter, deadQueue),
		walkNow:   make(chan struct{}, 1),
		repairs:   newRepairs(cfg.ProbeMax),
		member:    newMember(),
	}, nil
}

// Ready returns nil while turns are taken, or why they are not.
func (c *Consumer) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unwritable != nil {
		return c.unwritable
	}
	return c.unfetched
}

func (c *Consumer) setUnfetched(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unfetched = err
}

// Run consumes until ctx ends, and then drains: what was fetched is made durable
// and acknowledged within the drain bound. It returns nil after a clean drain.
// An unreachable server is waited for. Errors are those that waiting cannot mend:
// [ErrOtherFolder], [stream.ErrMisconfigured], a failed sync ([transcript.ErrFailed]).
func (c *Consumer) Run(ctx context.Context) error {
	defer c.startRepairs(ctx)() // before all else: a replay folds, too
	defer c.introduce()()
	cons, err := c.start(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	c.joined = true
	c.setUnfetched(c.paused)
	c.cfg.Logger.Info("consuming", "group", c.cfg.Group, "folder", c.cfg.Store.Identity().ID, "host", c.cfg.Host)

	// Fetching ends with ctx; the work on what was fetched has a context of its
	// own, so that a stop does not cancel it half-way.
	fetchCtx, stopFetch := context.WithCancelCause(ctx)
	defer stopFetch(nil)
	workCtx, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(nil)
	stopDrain := context.AfterFunc(fetchCtx, func() {
		time.AfterFunc(c.cfg.Drain, func() { stopWork(errors.New("the drain bound is over")) })
	})
	defer stopDrain()

	p := &pipeline{Consumer: c, fetched: make(chan *batch), written: make(chan *batch), stop: stopFetch}
	var background, stages sync.WaitGroup
	for range deadWorkers {
		background.Go(func() { c.deadLoop(workCtx) })
	}
	done := make(chan struct{})
	background.Go(func() { c.keepAlive(done) })
	background.Go(func() { p.watchStore(done) })
	background.Go(func() { c.walkLoop(fetchCtx) })
	stages.Go(func() { p.fetchLoop(fetchCtx, cons) })
	stages.Go(func() { p.writeLoop(workCtx) })
	stages.Go(func() { p.syncLoop(workCtx) })
	stages.Wait()
	close(c.dead)
	close(done)
	background.Wait()
	c.keepPosition(workCtx)
	c.setUnfetched(errors.New("stopped"))

	if nc := c.cfg.JS.Conn(); nc.IsConnected() { // acknowledgements are on their way
		fctx, cancel := context.WithTimeout(workCtx, c.cfg.Request)
		defer cancel()
		if err := nc.FlushWithContext(fctx); err != nil {
			c.cfg.Logger.Warn("acknowledgements may be lost; the turns come again, which does no harm", "error", err)
		}
	}
	if cause := context.Cause(fetchCtx); ctx.Err() == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// start waits for the server, checks the streams, takes the group over if asked,
// and joins it.
func (c *Consumer) start(ctx context.Context) (jetstream.Consumer, error) {
	said := false
	for wait := newBackoff(min(c.cfg.ProbeMax, fetchAgain)); ; {
		cons, err := c.tryStart(ctx)
		if err == nil || !c.worthWaiting(err) || ctx.Err() != nil {
			return cons, err
		}
		c.setUnfetched(fmt.Errorf("waiting for the stream: %w", err))
		if !said && !stream.Denied(err) { // the connection names a missing permission
			c.cfg.Logger.Warn("waiting for the stream", "error", err)
			said = true
		}
		if !sleep(ctx, wait.NextBackOff()) {
			return nil, ctx.Err()
		}
	}
}

func (c *Consumer) tryStart(ctx context.Context) (jetstream.Consumer, error) {
	rctx, cancel := context.WithTimeout(ctx, c.cfg.Request)
	defer cancel()
	if err := c.cfg.Streams(rctx); err != nil {
		return nil, err
	}
	if c.cfg.Rebind && !c.rebound {
		c.setUnfetched(errors.New("replaying the stream into this folder"))
		if _, err := Replay(ctx, ReplayConfig{
			JS: c.cfg.JS, Store: c.cfg.Store, PayloadLimit: c.cfg.PayloadLimit, Logger: c.cfg.Logger,
			Progress: func(p Progress) {
				c.stats.rebound[0].Store(p.Done)
				c.stats.rebound[1].Store(p.Total)
			},
		}); err != nil {
			return nil, fmt.Errorf("rebind: %w", err)
		}
		c.rebound = true
	}
	return c.join(ctx)
}

// payloadLimit bounds the encoding of a turn by what the server allows now: after a reconnect
// it may be another one.
func (c *Consumer) payloadLimit() int {
	if c.cfg.PayloadLimit > 0 {
		return c.cfg.PayloadLimit
	}
	return stream.PayloadLimit(c.cfg.JS.Conn().MaxPayload())
}

// worthWaiting says whether the error can pass by itself. Settings of the stream keep a consumer
// from starting; one that runs waits until they are repaired.
func (c *Consumer) worthWaiting(err error) bool {
	return !errors.Is(err, ErrOtherFolder) && !errors.Is(err, transcript.ErrFailed) && (c.joined || !errors.Is(err, stream.ErrMisconfigured))
}

// Walk walks the folder soon, without waiting for the next time; for when the cache lost
// track of what changed. With all it is about all sessions that the cache can hold, not only those that
// have changed since the last walk; for when the cache has lost what it had.
func (c *Consumer) Walk(all bool) {
	if all {
		c.walkAll.Store(true)
	}
	select {
	case c.walkNow <- struct{}{}:
	default:
	}
}

// counters count what a consumer did.
type counters struct {
	fetched, redelivered, acked, naked, batches, deadFailed, pauses, walks, pending atomic.Int64
	repaired, repairsFailed, lostTurns, lostLines, deadLate                         atomic.Int64
	rebound                                                                         [2]atomic.Uint64 // done and total of the replay of a rebind

	dead [len(ReasonKinds)]atomic.Int64 // published, by kind of their reason
}

// Stats counts turns since the consumer was made.
type Stats struct {
	Fetched       int64                   // messages delivered here
	Redelivered   int64                   // of those, not for the first time
	Acked         int64                   // durable and acknowledged
	Naked         int64                   // given back
	Batches       int64                   // made durable
	Dead          int64                   // put into the dead-letter stream
	DeadOf        [len(ReasonKinds)]int64 // of those, by ReasonKinds
	DeadFailed    int64                   // attempts at that which failed
	DeadLate      int64                   // of those, the ones without an answer in time
	Pauses        int64                   // times the environment was at fault
	Walks         int64                   // complete walks
	Repaired      int64                   // sessions whose damaged files were set aside and rebuilt
	RepairsFailed int64                   // attempts at that which failed
	LostTurns     int64                   // turns that only damaged files had
	LostLines     int64                   // lines of damaged files of which nobody knows the turn
	InFlight      int                     // messages between fetch and acknowledgement
	Pending       int64                   // in the stream and not delivered to the group yet, as of the last message
	Rebind        Progress                // of the replay that takes a group over; zeros without one
}

// Stats returns the counts so far.
func (c *Consumer) Stats() Stats {
	s := Stats{
		Fetched: c.stats.fetched.Load(), Redelivered: c.stats.redelivered.Load(), Acked: c.stats.acked.Load(),
		Naked: c.stats.naked.Load(), Batches: c.stats.batches.Load(),
		DeadFailed: c.stats.deadFailed.Load(), Pauses: c.stats.pauses.Load(), Walks: c.stats.walks.Load(),
		Repaired: c.stats.repaired.Load(), RepairsFailed: c.stats.repairsFailed.Load(),
		LostTurns: c.stats.lostTurns.Load(), LostLines: c.stats.lostLines.Load(),
		Pending: c.stats.pending.Load(), DeadLate: c.stats.deadLate.Load(),
		Rebind: Progress{Done: c.stats.rebound[0].Load(), Total: c.stats.rebound[1].Load()},
	}
	for i := range c.stats.dead {
		s.DeadOf[i] = c.stats.dead[i].Load()
		s.Dead += s.DeadOf[i]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for b := range c.inFlight {
		s.InFlight += len(b.items)
	}
	return s
}
