package live

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

const (
	// The server forgets a reader that nobody has asked for so long.
	inactiveFor = time.Minute
	// A server that says nothing for twice this is gone.
	beatEvery = 2 * time.Second
	pullFor   = 30 * time.Second

	// How much is asked for at one time: of all that comes, and of the past for one client.
	liveBytes = 8 << 20
	pastBytes = 2 << 20
)

// errSkipped says that the server left messages out, as it does when a consumer moved.
var errSkipped = errors.New("messages were lost on the way")

// tape reads the stream in its order from a sequence on. After an error it is of no
// more use: open another one behind what was read.
type tape struct {
	js      jetstream.JetStream
	name    string
	iter    jetstream.MessagesContext
	read    uint64 // messages delivered
	pending uint64 // messages that were there when it was opened
	request time.Duration
}

// openTape begins behind a sequence. subject is that of one session, or "" for all.
func (f *Feed) openTape(ctx context.Context, after uint64, subject string, bytes int) (*tape, error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Request)
	defer cancel()
	cons, err := f.cfg.JS.CreateConsumer(ctx, stream.Turns, jetstream.ConsumerConfig{
		Description:   "afterword: live turns",
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
		AckPolicy: jetstream.AckNonePolicy, FilterSubject: subject,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: inactiveFor,
	})
	if err != nil {
		return nil, stream.ReadError(stream.Turns, err)
	}
	info := cons.CachedInfo()
	t := &tape{js: f.cfg.JS, name: info.Name, pending: info.NumPending, request: f.cfg.Request}
	// A message alone may be as long as the server allows.
	bytes = max(bytes, 2*int(f.cfg.JS.Conn().MaxPayload()))
	t.iter, err = cons.Messages(jetstream.PullMaxBytes(bytes), jetstream.PullExpiry(pullFor), jetstream.PullHeartbeat(beatEvery))
	if err != nil {
		t.remove()
		return nil, stream.ReadError(stream.Turns, err)
	}
	return t, nil
}

// next returns the next message, when it comes.
func (t *tape) next(ctx context.Context) (jetstream.Msg, *jetstream.MsgMetadata, error) {
	m, err := t.iter.Next(jetstream.NextContext(ctx))
	if err != nil {
		return nil, nil, stream.ReadError(stream.Turns, err)
	}
	meta, err := m.Metadata()
	if err != nil {
		return nil, nil, stream.ReadError(stream.Turns, err)
	}
	if t.read++; meta.Sequence.Consumer != t.read {
		return nil, nil, fmt.Errorf("read stream %s: %w", stream.Turns, errSkipped)
	}
	return m, meta, nil
}

func (t *tape) close() {
	t.iter.Stop()
	t.remove()
}

// remove spares the server a reader that is of no more use. It would forget it by itself.
func (t *tape) remove() {
	if !t.js.Conn().IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), t.request)
	defer cancel()
	_ = t.js.DeleteConsumer(ctx, stream.Turns, t.name)
}

// state asks the server for what the stream has.
func (f *Feed) state(ctx context.Context) (state jetstream.StreamState, created time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Request)
	defer cancel()
	s, err := f.cfg.JS.Stream(ctx, stream.Turns)
	if err != nil {
		return state, created, stream.ReadError(stream.Turns, err)
	}
	info := s.CachedInfo()
	return info.State, info.Created, nil
}
