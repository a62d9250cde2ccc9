package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Message reads a message of a stream, [jetstream.ErrMsgNotFound] when it is not there. A publisher can give
// a message headers that cannot be parsed, a status, or names that the server adds to its answer: nats.go cannot
// read such a message. Of one whose headers cannot be parsed only sequence and payload are known; see [OnSubject].
func Message(ctx context.Context, js jetstream.JetStream, name string, seq uint64) (*jetstream.RawStreamMsg, error) {
	return get(ctx, js, name, fmt.Sprintf(`{"seq":%d}`, seq), seq, func(s jetstream.Stream) (*jetstream.RawStreamMsg, error) {
		return s.GetMsg(ctx, seq)
	})
}

// Newest reads the newest message of a stream on a subject, as [Message] does. The sequence is 0 where its headers
// cannot be parsed.
func Newest(ctx context.Context, js jetstream.JetStream, name, subject string) (*jetstream.RawStreamMsg, error) {
	return get(ctx, js, name, fmt.Sprintf(`{"last_by_subj":%q}`, subject), 0, func(s jetstream.Stream) (*jetstream.RawStreamMsg, error) {
		return s.GetLastMsgForSubject(ctx, subject)
	})
}

// next reads the first message of a stream from a sequence on.
func next(ctx context.Context, js jetstream.JetStream, name string, seq uint64) (*jetstream.RawStreamMsg, error) {
	const all = ">" // only this wildcard costs nothing
	return get(ctx, js, name, fmt.Sprintf(`{"seq":%d,"next_by_subj":%q}`, seq, all), seq, func(s jetstream.Stream) (*jetstream.RawStreamMsg, error) {
		return s.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(all))
	})
}

// get reads a message. other does so where the stream has no direct access.
func get(ctx context.Context, js jetstream.JetStream, name, request string, seq uint64, other func(jetstream.Stream) (*jetstream.RawStreamMsg, error)) (*jetstream.RawStreamMsg, error) {
	m, err := direct(ctx, js, name, request, seq)
	if !errors.Is(err, nats.ErrNoResponders) {
		return m, err
	}
	s, err := js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	return other(s)
}

// OnSubject reports whether the next message of a stream on a subject, from a sequence on, has headers
// that cannot be parsed.
func OnSubject(ctx context.Context, js jetstream.JetStream, name string, seq uint64, subject string) (bool, error) {
	if !isSubject(subject) {
		return false, nil
	}
	m, err := direct(ctx, js, name, fmt.Sprintf(`{"seq":%d,"next_by_subj":%q}`, seq, subject), seq)
	return err == nil && len(m.Header) == 0, err
}

func direct(ctx context.Context, js jetstream.JetStream, name, request string, seq uint64) (*jetstream.RawStreamMsg, error) {
	subject := apiPrefix(js) + "DIRECT.GET." + name
	r, err := js.Conn().RequestWithContext(ctx, subject, []byte(request))
	if errors.Is(err, nats.ErrNoResponders) { // or the message has that status
		r, err = answer(ctx, js.Conn(), subject, request)
	}
	if err != nil {
		return nil, err
	}
	m := &jetstream.RawStreamMsg{Sequence: seq, Header: r.Header, Data: r.Data}
	if len(r.Header) == 0 { // the server adds some, so these could not be parsed
		return m, nil
	}
	if lastOf(r.Header, jetstream.SequenceHeader) == "" {
		if r.Header.Get("Status") == "404" {
			return nil, jetstream.ErrMsgNotFound
		}
		if r.Header.Get("Status") == "503" {
			return nil, nats.ErrNoResponders
		}
		return nil, fmt.Errorf("nats: %s %s", r.Header.Get("Status"), r.Header.Get("Description"))
	}
	m.Subject = lastOf(r.Header, jetstream.SubjectHeader)
	if m.Sequence, err = strconv.ParseUint(lastOf(r.Header, jetstream.SequenceHeader), 10, 64); err != nil {
		return nil, err
	}
	m.Time, err = time.Parse(time.RFC3339Nano, lastOf(r.Header, jetstream.TimeStampHeaer))
	return m, err
}

// answer requests with a subscription of its own, of which nats.go passes on whatever comes.
func answer(ctx context.Context, nc *nats.Conn, subject, request string) (*nats.Msg, error) {
	msgs, inbox := make(chan *nats.Msg, 1), nc.NewInbox()
	sub, err := nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return nil, err
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(subject, inbox, []byte(request)); err != nil {
		return nil, err
	}
	select {
	case m := <-msgs:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// lastOf is the value that the server added: it comes after those of the publisher.
func lastOf(h nats.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}
