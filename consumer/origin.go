package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

// letterHeaders are what a dead letter has beside the headers of its message.
var letterHeaders = []string{stream.HeaderReason, stream.HeaderStreamSeq, stream.HeaderSubject, stream.HeaderTime, headerTruncated}

// origin reads the message of the stream of turns that dead letter seq says it is. Anybody who
// may publish dead letters can have made the letter up, so it is a [*KeptError] when
// the stream does not hold that message any more, or another one.
func (d DeadLetters) origin(ctx context.Context, seq uint64, m *jetstream.RawStreamMsg) (*jetstream.RawStreamMsg, error) {
	at, err := strconv.ParseUint(m.Header.Get(stream.HeaderStreamSeq), 10, 64)
	if err != nil || at == 0 {
		return nil, &KeptError{Seq: seq, Reason: "it does not say which message it was"}
	}
	rctx, cancel := d.bound(ctx)
	defer cancel()
	s, err := d.JS.Stream(rctx, stream.Turns)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, &KeptError{Seq: seq, Reason: fmt.Sprintf("there is no stream %s with which it has to be compared", stream.Turns)}
	}
	if err != nil {
		return nil, fmt.Errorf("look up stream %s: %w", stream.Turns, err)
	}
	whole, err := s.GetMsg(rctx, at)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, &KeptError{Seq: seq, Reason: fmt.Sprintf("stream %s does not hold message %d any more, with which it has to be compared", stream.Turns, at), Gone: true}
	case err != nil:
		return nil, fmt.Errorf("read message %d of stream %s: %w", at, stream.Turns, err)
	case !isLetterOf(m, whole):
		return nil, &KeptError{Seq: seq, Reason: fmt.Sprintf("it is not message %d of stream %s: somebody may have made it up", at, stream.Turns)}
	}
	return whole, nil
}

// isLetterOf reports whether a dead letter holds a message: its payload, as much of it as
// fitted, and its headers.
func isLetterOf(letter, m *jetstream.RawStreamMsg) bool {
	data := m.Data
	if cut := letter.Header.Get(headerTruncated); cut != "" {
		if strconv.Itoa(len(data)) != cut || len(letter.Data) > len(data) {
			return false
		}
		data = data[:len(letter.Data)]
	}
	return m.Subject == letter.Header.Get(stream.HeaderSubject) && bytes.Equal(data, letter.Data) && stream.SameHeaders(m.Header, letter.Header, letterHeaders...)
}
