package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// feedPoll is how often a feed that waits looks again.
const feedPoll = 50 * time.Millisecond

// feed publishes turns no faster than the stream takes them, and knows which
// turns are not stored yet.
type feed struct {
	pub   *publisher.Publisher
	stall time.Duration // without any turn stored for so long it gives up

	sent   []sent // accepted, in order; some of them are stored already
	settle int    // length of sent at which those are dropped
	onStep func() // called while it waits
}

// place is where a turn stands in the input.
type place struct {
	file   string // "" where there is one only
	number int    // of the line, or of the message in a document
}

func (p place) String() string {
	if p.file == "" {
		return fmt.Sprintf("line %d", p.number)
	}
	return fmt.Sprintf("%s:%d", p.file, p.number)
}

// sent is a turn that the publisher has accepted.
type sent struct {
	at      place
	receipt *publisher.Receipt
}

// publish hands a turn over, and waits for room when there is none.
func (f *feed) publish(ctx context.Context, d *transcript.Draft, at place) error {
	full := false
	ready := func() (bool, error) {
		r, err := f.pub.PublishDraft(ctx, d)
		if full = errors.Is(err, publisher.ErrOverflow); full {
			return false, nil
		}
		if err == nil {
			f.sent = append(f.sent, sent{at, r})
		}
		return true, err
	}
	if err := f.wait(ctx, ready); err != nil {
		return err
	}
	if len(f.sent) >= f.settle {
		f.drop()
	}
	return nil
}

// drain waits until every turn is stored.
func (f *feed) drain(ctx context.Context) error {
	return f.wait(ctx, func() (bool, error) {
		f.drop()
		return len(f.sent) == 0, nil
	})
}

// wait polls ready until it is true, ctx ends or nothing is stored any more.
func (f *feed) wait(ctx context.Context, ready func() (bool, error)) error {
	ok, err := ready()
	if ok || err != nil {
		return err
	}
	tick := time.NewTicker(feedPoll)
	defer tick.Stop()
	stored, since := f.pub.Stats().Stored, time.Now()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		f.onStep()
		if ok, err := ready(); ok || err != nil {
			return err
		}
		if n := f.pub.Stats().Stored; n != stored {
			stored, since = n, time.Now()
		}
		if time.Since(since) >= f.stall {
			return f.stalled()
		}
	}
}

// stalled says why nothing is stored any more.
func (f *feed) stalled() error {
	f.drop()
	why, at := errors.New("no acknowledgement came"), place{}
	for _, s := range f.sent {
		if err := s.receipt.Err(); err != nil {
			why, at = err, s.at
			break
		}
	}
	if at.number > 0 {
		return fmt.Errorf("nothing was stored for %s (%s: %w)", shortDuration(f.stall), at, why)
	}
	return fmt.Errorf("nothing was stored for %s: %w", shortDuration(f.stall), why)
}

// drop forgets what is stored.
func (f *feed) drop() {
	const atLeast = 1024 // so that the walk over sent costs little per turn
	kept := f.sent[:0]
	for _, s := range f.sent {
		if s.receipt.Level() < publisher.Stored {
			kept = append(kept, s)
		}
	}
	clear(f.sent[len(kept):])
	f.sent = kept
	f.settle = 2*len(kept) + atLeast
}
