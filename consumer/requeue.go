package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

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

// Requeued is what became of one dead letter.
type Requeued struct {
	DeadLetter
	As   uint64 // its sequence in the stream of turns
	Kept error  // why it stays a dead letter: a [*KeptError], or nil
}

// Requeue publishes dead letters again, where they were published first, and removes
// each once the stream of turns has stored it. A crash in between leaves it in both,
// and the next requeue adds nothing, since turns merge. What still cannot be
// processed becomes a dead letter again, with a sequence of its own.
//
// done is told of each, one at a time. One that has to stay does not stop the others;
// trouble with the server does. [ErrNoLetter] is as of [DeadLetters.Each].
func (d DeadLetters) Requeue(ctx context.Context, f DeadFilter, done func(Requeued)) error {
	s, err := d.stream(ctx)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(deadWorkers)
	var mu sync.Mutex
	err = d.Each(gctx, f, func(l DeadLetter) error {
		g.Go(func() error {
			as, err := d.requeue(gctx, s, l.Seq)
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
			done(Requeued{l, as, err})
			return nil
		})
		return context.Cause(gctx)
	})
	if gerr := g.Wait(); gerr != nil {
		return gerr
	}
	return err
}

func (d DeadLetters) requeue(ctx context.Context, s jetstream.Stream, seq uint64) (uint64, error) {
	m, err := d.get(ctx, s, seq)
	if err != nil {
		return 0, err
	}
	subject := m.Header.Get(stream.HeaderSubject)
	if token, ok := strings.CutPrefix(subject, stream.TurnPrefix); !ok || token == "" || len(subject) > maxTurnSubject || strings.ContainsAny(token, ". \t\r\n") {
		return 0, &KeptError{seq, fmt.Sprintf("its %s is no subject of turns", stream.HeaderSubject)}
	}
	payload := m.Data
	if cut := m.Header.Get(headerTruncated); cut != "" {
		if payload, err = d.original(ctx, seq, m, cut); err != nil {
			return 0, err
		}
	}
	h := nats.Header{}
	for name, values := range m.Header {
		switch name {
		case stream.HeaderReason, stream.HeaderStreamSeq, stream.HeaderSubject, stream.HeaderTime, headerTruncated:
		default:
			if !strings.HasPrefix(name, "Nats-") {
				h[name] = values
			}
		}
	}
	h.Set(stream.HeaderMsgID, stream.RequeueMsgID(seq, m.Time))
	h.Set(stream.HeaderRequeuedFrom, strconv.FormatUint(seq, 10))
	rctx, cancel := d.bound(ctx)
	defer cancel()
	ack, err := d.JS.PublishMsg(rctx, &nats.Msg{Subject: subject, Header: h, Data: payload})
	switch {
	case errors.Is(err, nats.ErrMaxPayload), errors.Is(err, nats.ErrBadSubject):
		return 0, &KeptError{seq, err.Error()}
	case err != nil:
		return 0, fmt.Errorf("requeue dead letter %d, which stays: %w", seq, err)
	case ack.Stream != stream.Turns:
		return 0, fmt.Errorf("requeue dead letter %d, which stays: stream %s took it, not %s", seq, ack.Stream, stream.Turns)
	}
	return ack.Sequence, d.remove(ctx, s, seq)
}

// original finds the whole payload of a dead letter that was cut.
func (d DeadLetters) original(ctx context.Context, seq uint64, m *jetstream.RawStreamMsg, length string) ([]byte, error) {
	at, err := strconv.ParseUint(m.Header.Get(stream.HeaderStreamSeq), 10, 64)
	if err != nil || at == 0 {
		return nil, &KeptError{seq, "its payload was cut, and where the whole one is it does not say"}
	}
	rctx, cancel := d.bound(ctx)
	defer cancel()
	s, err := d.JS.Stream(rctx, stream.Turns)
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", stream.Turns, err)
	}
	whole, err := s.GetMsg(rctx, at)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
	case err != nil:
		return nil, fmt.Errorf("read message %d of stream %s: %w", at, stream.Turns, err)
	case whole.Subject == m.Header.Get(stream.HeaderSubject) && strconv.Itoa(len(whole.Data)) == length && bytes.HasPrefix(whole.Data, m.Data):
		return whole.Data, nil
	}
	return nil, &KeptError{seq, fmt.Sprintf("its payload was cut, and stream %s does not hold the whole one any more", stream.Turns)}
}
