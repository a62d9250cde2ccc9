package consumer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

// How often a verdict is looked for: at first, and at the least.
const (
	verdictFirst = 20 * time.Millisecond
	verdictEvery = 500 * time.Millisecond
)

// verdicts are requeued letters of which it is not known yet what becomes of them.
type verdicts struct {
	of    map[uint64]Requeued // by the sequence of the message in the stream of turns
	after uint64              // of dead letters up to this sequence, none is of them
}

// await tells of each requeued letter when its group is done with it, and of the rest when
// the bound is over, or the server in trouble.
func (d DeadLetters) await(ctx context.Context, v *verdicts, bound time.Duration, done func(Requeued)) {
	end := time.Now().Add(bound)
	for wait := verdictFirst; bound > 0 && len(v.of) > 0; wait = min(2*wait, verdictEvery) {
		if d.look(ctx, v, done) != nil || time.Now().After(end) || !sleep(ctx, min(wait, time.Until(end))) {
			break
		}
	}
	for _, as := range slices.Sorted(maps.Keys(v.of)) {
		done(v.of[as])
	}
}

// look tells of the letters that groups are done with by now. Groups are asked first: a
// message is stored as a dead letter before it is acknowledged.
func (d DeadLetters) look(ctx context.Context, v *verdicts, done func(Requeued)) error {
	floors := make(map[string]uint64) // all messages up to it are acknowledged; 0 where nobody knows
	gone := make(map[string]bool)     // groups that there are not, whose verdict will not come
	for _, r := range v.of {
		if _, ok := floors[r.Group]; !ok {
			floors[r.Group], gone[r.Group] = d.floor(ctx, r.Group)
		}
	}
	err := d.Each(ctx, DeadFilter{After: v.after}, func(l DeadLetter) error {
		v.after = l.Seq
		if r, ok := v.of[l.StreamSeq]; ok && l.RequeuedFrom == r.Seq {
			back := []DeadLetter{l}
			if err := d.Compare(ctx, back); err != nil || back[0].Doubt != "" {
				return err // one that was made up says nothing of the message
			}
			r.Back = &l
			delete(v.of, r.As)
			done(r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, as := range slices.Sorted(maps.Keys(v.of)) {
		if r := v.of[as]; as <= floors[r.Group] || gone[r.Group] {
			r.Written = !gone[r.Group]
			delete(v.of, as)
			done(r)
		}
	}
	return nil
}

func (d DeadLetters) floor(ctx context.Context, group string) (upTo uint64, gone bool) {
	ctx, cancel := d.bound(ctx)
	defer cancel()
	c, err := d.JS.Consumer(ctx, stream.Turns, group)
	if err != nil {
		return 0, errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrInvalidConsumerName)
	}
	return c.CachedInfo().AckFloor.Stream, false
}
