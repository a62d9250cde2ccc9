package publisher

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/transcript"
)

// stopWait bounds how long Close waits, after its context has ended, for a
// publishing goroutine that is in the middle of a write to a stuck connection, and
// then for a spool whose disk is slow or hung.
const stopWait = time.Second

// Publisher accepts turns in memory and brings them to the stream. It is safe
// for concurrent use.
type Publisher struct {
	cfg    Config
	clock  *clock
	buffer *buffer
	sender *sender
	spool  *spool // nil without one

	closeOnce, stopOnce sync.Once
}

// New starts a publisher. The connection need not be up yet. The caller closes
// the publisher, then the connection.
func New(cfg Config) (*Publisher, error) {
	p := &Publisher{cfg: cfg.withDefaults()}
	if err := p.cfg.validate(); err != nil {
		return nil, err
	}
	var err error
	if p.clock, err = newClock(p.cfg.Now, p.cfg.ClockSessions); err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	p.buffer = newBuffer(&p.cfg)
	if p.cfg.SpoolDir != "" {
		p.spool = newSpool(&p.cfg, p.buffer, p.clock.observe)
		if err := p.spool.start(); err != nil {
			return nil, fmt.Errorf("publisher: %w", err)
		}
	}
	if p.sender, err = newSender(&p.cfg, p.buffer); err != nil {
		if p.spool != nil {
			p.spool.close(context.Background())
		}
		return nil, err
	}
	go p.sender.run()
	return p, nil
}

// MaxPayload is how long the encoding of a turn may be now, in bytes.
func (p *Publisher) MaxPayload() int { return int(p.sender.maxPayload.Load()) }

// Publish accepts a whole turn and returns. See the package comment for what
// its error can be. ctx serves [Config.Trace] only.
func (p *Publisher) Publish(ctx context.Context, t transcript.Turn) (*Receipt, error) {
	d, err := t.Draft()
	if err != nil {
		p.sender.counts.malformed.Add(1)
		return nil, err
	}
	return p.PublishDraft(ctx, &d)
}

// PublishDraft is Publish for a turn that came as JSON: members that this
// version does not know are kept. It sets the draft's id and timestamp if they are absent.
func (p *Publisher) PublishDraft(ctx context.Context, d *transcript.Draft) (*Receipt, error) {
	r, err := p.accept(ctx, d)
	if err != nil && transcript.Malformed(err) {
		p.sender.counts.malformed.Add(1)
	}
	return r, err
}

func (p *Publisher) accept(ctx context.Context, d *transcript.Draft) (*Receipt, error) {
	if err := transcript.CheckSessionID(d.SessionID); err != nil {
		return nil, err
	}
	if err := d.CheckAhead(p.cfg.Now()); err != nil {
		return nil, err
	}
	at, given := d.Timestamp()
	switch {
	case given:
	case d.ID != "":
		return nil, &transcript.RuleError{Member: "timestamp", Rule: "is missing: a turn that brings its own id brings its timestamp too"}
	default:
		var err error
		if at, err = p.Stamp(d.SessionID); err != nil {
			return nil, err
		}
		d.SetTimestamp(at)
	}
	if d.ID == "" {
		d.ID = p.cfg.NewID()
	}
	snap, err := d.Snapshot(p.MaxPayload())
	if err != nil {
		return nil, err
	}
	if given {
		p.clock.observe(d.SessionID, at)
	}
	e := &entry{
		receipt:  Receipt{ID: snap.ID, Timestamp: snap.Timestamp, Rev: snap.Rev, ended: p.sender.ended, wake: p.buffer.wake},
		snap:     snap,
		size:     int64(snap.Size()),
		accepted: time.Now(),
	}
	if p.cfg.Trace != nil {
		e.traceparent, e.traced = p.cfg.Trace(ctx)
	}
	traced := e.traced // the entry is the sender's once it is in the buffer
	if err := p.buffer.add(e); err != nil {
		if traced != nil {
			traced(err)
		}
		return nil, err
	}
	return &e.receipt, nil
}

// Stamp returns the timestamp that a turn of the session would be given now, later than
// all before it. It is for who gives turns their ids.
func (p *Publisher) Stamp(session string) (transcript.Instant, error) {
	at, err := p.clock.stamp(session)
	if err != nil {
		return 0, fmt.Errorf("publish: %w", err)
	}
	return at, nil
}

// Observe says that a turn of the session has this timestamp, so that every
// turn stamped later comes after it, unless it is more than an hour ahead of the clock. Call it with history that was loaded before answering.
func (p *Publisher) Observe(session string, at transcript.Instant) {
	p.clock.observe(session, at)
}

// Close stops accepting turns and returns when all that were accepted are
// stored, when ctx ends, or when the connection is closed for good. If turns are
// left by then, the error is a [*LeftError]: those that are not spooled are lost with the
// process. A second Close waits too.
func (p *Publisher) Close(ctx context.Context) error {
	p.closeOnce.Do(func() {
		p.buffer.close()
		close(p.sender.closing)
	})
	cause := nats.ErrConnectionClosed
	select {
	case <-p.sender.ended:
	case <-ctx.Done():
		cause = ctx.Err()
		p.stopOnce.Do(func() { close(p.sender.stop) })
		timer := time.NewTimer(stopWait)
		defer timer.Stop()
		select {
		case <-p.sender.ended:
		case <-timer.C:
		}
	}
	if p.spool != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWait)
		defer cancel()
		p.spool.close(ctx)
	}
	if turns, bytes, spooled := p.buffer.left(); turns > 0 {
		return &LeftError{Turns: turns, Bytes: bytes, Spooled: spooled, Cause: cause}
	}
	return nil
}
