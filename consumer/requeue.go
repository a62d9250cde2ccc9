package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// maxTurnSubject bounds the subject that a dead letter is published to again, in
// bytes: a much longer one makes the server close the connection.
const maxTurnSubject = 512

// KeptError says why a dead letter cannot be requeued. It stays where it is, and
// others are not affected.
type KeptError struct {
	Seq    uint64
	Reason string
}

func (e *KeptError) Error() string {
	return fmt.Sprintf("dead letter %d cannot be requeued: %s", e.Seq, e.Reason)
}

// DefaultVerdict is how long [DeadLetters.Requeue] waits for what consumers make of
// the last message that it has published.
const DefaultVerdict = 10 * time.Second

// RequeueConfig says how dead letters are requeued.
type RequeueConfig struct {
	// Force requeues letters that are not known to be what they say they are: the message at
	// their sequence of the stream of turns.
	Force bool
	// Verdict is how long to wait for what consumers make of the last message; 0 is not at all.
	Verdict time.Duration
}

// Requeued is what became of one dead letter. Without Kept, Written and Back its message
// is stored, and the group has not said in time what becomes of it.
type Requeued struct {
	DeadLetter
	As      uint64      // its sequence in the stream of turns
	Kept    error       // why it stays a dead letter: a [*KeptError], or nil
	Written bool        // its group has acknowledged the message
	Back    *DeadLetter // what the message became again; nil when it did not
}

// Requeue publishes dead letters again, where they were published first, and removes
// each once the stream of turns has stored it. A crash in between leaves it in both,
// and the next requeue adds nothing, since turns merge. What still cannot be
// processed becomes a dead letter again, with a sequence of its own.
//
// A letter is published only if it equals the message of the stream of turns that it was made of, or with
// Force. done is told of each, one at a time, when it is known what became of it. One that has to stay does not stop the others;
// trouble with the server does. [ErrNoLetter] is as of [DeadLetters.Each].
func (d DeadLetters) Requeue(ctx context.Context, f DeadFilter, cfg RequeueConfig, done func(Requeued)) error {
	s, err := d.stream(ctx)
	if err != nil {
		return err
	}
	o, err := d.origins(ctx)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(deadWorkers)
	var mu sync.Mutex
	waiting := verdicts{after: s.CachedInfo().State.LastSeq, of: make(map[uint64]Requeued)}
	err = d.Each(gctx, f, func(l DeadLetter) error {
		g.Go(func() error {
			as, err := d.requeue(gctx, s, o, l.Seq, cfg.Force)
			var kept *KeptError
			switch {
			case errors.As(err, &kept):
			case errors.Is(err, ErrNoLetter): // somebody else was faster
				return nil
			case err != nil:
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			r := Requeued{DeadLetter: l, As: as, Kept: err}
			if err == nil && cfg.Verdict > 0 {
				waiting.of[as] = r
			} else {
				done(r)
			}
			return nil
		})
		return context.Cause(gctx)
	})
	if gerr := g.Wait(); gerr != nil {
		cfg.Verdict, err = 0, gerr
	}
	d.await(ctx, &waiting, cfg.Verdict, done)
	return err
}

func (d DeadLetters) requeue(ctx context.Context, s jetstream.Stream, o origins, seq uint64, force bool) (uint64, error) {
	m, err := d.get(ctx, seq)
	if err != nil {
		return 0, err
	}
	subject := m.Header.Get(stream.HeaderSubject)
	if token, ok := strings.CutPrefix(subject, stream.TurnPrefix); !ok || token == "" || len(subject) > maxTurnSubject || strings.ContainsAny(token, ". \t\r\n") {
		return 0, &KeptError{Seq: seq, Reason: fmt.Sprintf("its %s is no subject of turns", stream.HeaderSubject)}
	}
	payload, cut := m.Data, m.Header.Get(headerTruncated) != ""
	if cut || !force {
		whole, err := o.of(ctx, seq, m)
		if err != nil {
			return 0, err
		}
		payload = whole.Data
	}
	h := nats.Header{}
	for name, values := range m.Header {
		if !foreign(name) {
			h[name] = values
		}
	}
	h.Set(stream.HeaderMsgID, stream.RequeueMsgID(seq, m.Time))
	h.Set(stream.HeaderRequeuedFrom, strconv.FormatUint(seq, 10))
	ack, err := stream.PublishOnce(ctx, d.JS, &nats.Msg{Subject: subject, Header: h, Data: payload}, stream.RequestBound(d.Request, d.JS))
	switch {
	case tooLong(err), errors.Is(err, nats.ErrBadSubject):
		return 0, &KeptError{Seq: seq, Reason: err.Error()}
	case err != nil:
		return 0, fmt.Errorf("requeue dead letter %d, which stays: %w", seq, err)
	case ack.Stream != stream.Turns:
		return 0, fmt.Errorf("requeue dead letter %d, which stays: stream %s took it, not %s", seq, ack.Stream, stream.Turns)
	}
	return ack.Sequence, d.remove(ctx, s, seq)
}
