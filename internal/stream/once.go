package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// PublishOnce publishes m under its message id, and returns when the stream holds m. That the
// stream has the id already does not prove it: an id that can be predicted lets whoever may
// publish store another message under it, and the server then drops m as its repetition. So
// what the stream holds is read back, and m is published under a longer id if it is not m, and
// under none at last. request bounds each request to the server. Headers in changing may
// differ between two tries.
func PublishOnce(ctx context.Context, js jetstream.JetStream, m *nats.Msg, request time.Duration, changing ...string) (*jetstream.PubAck, error) {
	id := m.Header.Get(HeaderMsgID)
	for _, id := range [...]string{id, id + "/" + MsgID(m.Data), ""} {
		if m.Header.Set(HeaderMsgID, id); id == "" {
			m.Header.Del(HeaderMsgID)
		}
		ack, err := publish(ctx, js, m, request)
		if err != nil || !ack.Duplicate {
			return ack, err
		}
		held, err := Holds(ctx, js, ack, m, request, changing...)
		if err != nil {
			return nil, err
		}
		if held {
			return ack, nil
		}
	}
	return nil, fmt.Errorf("publish to %s: the stream drops the message as a repetition, though it has no id", m.Subject)
}

// Holds reports whether the message of which the stream says that m repeats it is m: its subject, its payload and
// its headers but those in changing. One that was removed since is not.
func Holds(ctx context.Context, js jetstream.JetStream, ack *jetstream.PubAck, m *nats.Msg, request time.Duration, changing ...string) (bool, error) {
	held, err := message(ctx, js, ack.Stream, ack.Sequence, request)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return false, nil
	case err != nil:
		return false, Explain(js, fmt.Sprintf("read back message %d of stream %s", ack.Sequence, ack.Stream), err)
	}
	return held.Subject == m.Subject && bytes.Equal(held.Data, m.Data) && SameHeaders(held.Header, m.Header, changing...), nil
}

func publish(ctx context.Context, js jetstream.JetStream, m *nats.Msg, request time.Duration) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	return js.PublishMsg(ctx, m)
}

func message(ctx context.Context, js jetstream.JetStream, name string, seq uint64, request time.Duration) (*jetstream.RawStreamMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	return Message(ctx, js, name, seq)
}

// SameHeaders compares what two messages say of themselves: all headers but those for the server
// or from it, which begin with Nats-, and those in but.
func SameHeaders(a, b nats.Header, but ...string) bool {
	own := func(h nats.Header) nats.Header {
		h = maps.Clone(h)
		maps.DeleteFunc(h, func(name string, _ []string) bool {
			return strings.HasPrefix(name, "Nats-") || slices.Contains(but, name)
		})
		return h
	}
	return maps.EqualFunc(own(a), own(b), func(x, y []string) bool {
		return slices.EqualFunc(x, y, func(p, q string) bool { return strings.TrimSpace(p) == strings.TrimSpace(q) })
	})
}
