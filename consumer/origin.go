package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/afterword-io/afterword/internal/stream"
)

// origins are the messages of the stream of turns, of which dead letters say that they were made.
type origins struct {
	letters DeadLetters
	turns   bool // there is a stream of turns
}

func (d DeadLetters) origins(ctx context.Context) (origins, error) {
	rctx, cancel := d.bound(ctx)
	defer cancel()
	_, err := d.JS.Stream(rctx, stream.Turns)
	if err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return origins{}, fmt.Errorf("look up stream %s: %w", stream.Turns, err)
	}
	return origins{d, err == nil}, nil
}

// of reads the message that dead letter seq says it is. Anybody who
// may publish dead letters can have made the letter up, so it is a [*KeptError] when
// the stream does not hold that message any more, or another one.
func (o origins) of(ctx context.Context, seq uint64, m *jetstream.RawStreamMsg) (*jetstream.RawStreamMsg, error) {
	at, err := strconv.ParseUint(m.Header.Get(stream.HeaderStreamSeq), 10, 64)
	if err != nil || at == 0 {
		return nil, &KeptError{Seq: seq, Reason: "it does not say which message it was"}
	}
	if !o.turns {
		return nil, &KeptError{Seq: seq, Reason: fmt.Sprintf("there is no stream %s with which it has to be compared", stream.Turns)}
	}
	rctx, cancel := o.letters.bound(ctx)
	defer cancel()
	whole, err := stream.Message(rctx, o.letters.JS, stream.Turns, at)
	if err == nil && len(whole.Header) == 0 { // its headers cannot be parsed: consumers have not seen them either
		subject, ok := m.Header.Get(stream.HeaderSubject), false
		if ok, err = stream.OnSubject(rctx, o.letters.JS, stream.Turns, at, subject); ok {
			whole.Subject = subject
		}
	}
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, &KeptError{Seq: seq, Reason: fmt.Sprintf("stream %s does not hold message %d any more, with which it has to be compared", stream.Turns, at)}
	case err != nil:
		return nil, fmt.Errorf("read message %d of stream %s: %w", at, stream.Turns, err)
	case !isLetterOf(m, whole):
		return nil, &KeptError{Seq: seq, Reason: fmt.Sprintf("it is not message %d of stream %s: somebody may have made it up", at, stream.Turns)}
	}
	return whole, nil
}

// doubt says why dead letter seq is not known to be the message that it says it is; "" when it is.
func (o origins) doubt(ctx context.Context, seq uint64, m *jetstream.RawStreamMsg) (string, error) {
	_, err := o.of(ctx, seq, m)
	var kept *KeptError
	if errors.As(err, &kept) {
		return kept.Reason, nil
	}
	return "", err
}

// Compare fills in what is in doubt about listed dead letters. It reads each of them, and the
// message that it was made of, a few at a time. One that was removed meanwhile stays as it is.
func (d DeadLetters) Compare(ctx context.Context, list []DeadLetter) error {
	if len(list) == 0 {
		return nil
	}
	o, err := d.origins(ctx)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(deadWorkers)
	for i := range list {
		g.Go(func() error {
			m, err := d.get(gctx, list[i].Seq)
			if errors.Is(err, ErrNoLetter) {
				return nil
			}
			if err == nil {
				list[i].Doubt, err = o.doubt(gctx, list[i].Seq, m)
			}
			return err
		})
	}
	return g.Wait()
}

// isLetterOf reports whether a dead letter holds a message: its payload, as much of it as
// fitted, and its headers, as many of them as it can carry.
func isLetterOf(letter, m *jetstream.RawStreamMsg) bool {
	data := m.Data
	if cut := letter.Header.Get(headerTruncated); cut != "" {
		if strconv.Itoa(len(data)) != cut || len(letter.Data) > len(data) {
			return false
		}
		data = data[:len(letter.Data)]
	}
	return m.Subject == letter.Header.Get(stream.HeaderSubject) && bytes.Equal(data, letter.Data) && carries(letter.Header, m.Header)
}
