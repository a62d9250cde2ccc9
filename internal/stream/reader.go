package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// ErrSkipped says that messages were lost on the way, as they are when a consumer moves to another server.
var ErrSkipped = errors.New("messages were lost on the way")

const (
	// readerInactive is after how long without a pull the server forgets a reader.
	readerInactive = time.Minute
	// readerPull is how long one of its pulls stands.
	readerPull = 30 * time.Second
	// readerBeat is how often the server says that it is there; after twice this it is gone.
	readerBeat = 2 * time.Second
)

// ReaderConfig says what a [Reader] reads.
type ReaderConfig struct {
	Description string
	Subject     string    // "" means all
	After       uint64    // only what has a higher sequence
	Since       time.Time // without After: only what was stored then or later
	HeadersOnly bool      // messages come without their payload
	Messages    int       // asked for at one time
	Bytes       int       // asked for at one time; 0 means no bound
	Request     time.Duration
}

// Reader reads a stream in its order with a consumer of its own, which nothing acknowledges. What it takes for a
// message is said at [Pull]. After an error it is of no more use: open another one behind what was read.
type Reader struct {
	// Pending is how many messages were there when it was opened.
	Pending uint64

	js      jetstream.JetStream
	cfg     ReaderConfig
	stream  string
	name    string // of the consumer
	inbox   string
	msgs    chan *nats.Msg
	sub     *nats.Subscription
	silence *time.Timer
	left    int    // messages that its pull may still bring
	room    int    // bytes that they may still have
	large   bool   // the next message is longer than all that is asked for at one time
	read    uint64 // messages delivered
}

// OpenReader opens a reader of a stream.
func OpenReader(ctx context.Context, js jetstream.JetStream, name string, cfg ReaderConfig) (*Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Request)
	defer cancel()
	of := jetstream.ConsumerConfig{
		Description: cfg.Description, FilterSubject: cfg.Subject, HeadersOnly: cfg.HeadersOnly,
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckNonePolicy,
		MemoryStorage: true, Replicas: 1, InactiveThreshold: readerInactive,
	}
	switch {
	case cfg.After > 0:
		of.DeliverPolicy, of.OptStartSeq = jetstream.DeliverByStartSequencePolicy, cfg.After+1
	case !cfg.Since.IsZero():
		of.DeliverPolicy, of.OptStartTime = jetstream.DeliverByStartTimePolicy, &cfg.Since
	}
	cons, err := js.CreateConsumer(ctx, name, of)
	if err != nil {
		return nil, ReadError(name, err)
	}
	info := cons.CachedInfo()
	r := &Reader{
		Pending: info.NumPending, js: js, cfg: cfg, stream: name, name: info.Name,
		inbox: js.Conn().NewInbox(), msgs: make(chan *nats.Msg, 2*cfg.Messages), silence: time.NewTimer(readerPull),
	}
	if r.sub, err = js.Conn().ChanSubscribe(r.inbox, r.msgs); err != nil {
		r.remove(cfg.Request)
		return nil, ReadError(name, err)
	}
	return r, nil
}

// Next returns the next message, when it comes.
func (r *Reader) Next(ctx context.Context) (jetstream.Msg, *jetstream.MsgMetadata, error) {
	for {
		m, err := r.receive(ctx)
		if err != nil {
			return nil, nil, ReadError(r.stream, err)
		}
		if !isDelivered(m) {
			over, err := pullStatus(m)
			if err != nil {
				return nil, nil, ReadError(r.stream, err)
			}
			if over {
				r.large = r.left == r.cfg.Messages && isTooLong(m)
				r.left = 0
			}
			continue
		}
		r.left--
		if r.room -= m.Size(); r.cfg.Bytes > 0 && r.room <= 0 { // the server says nothing when it fits exactly
			r.left = 0
		}
		d := delivered{r.js.Conn(), m}
		meta, err := d.Metadata()
		if err != nil {
			return nil, nil, ReadError(r.stream, err)
		}
		if r.read++; meta.Sequence.Consumer != r.read {
			return nil, nil, fmt.Errorf("read stream %s: %w", r.stream, ErrSkipped)
		}
		return d, meta, nil
	}
}

// receive returns what comes next, and asks for more when all has come.
func (r *Reader) receive(ctx context.Context) (*nats.Msg, error) {
	if r.left == 0 {
		if err := r.ask(); err != nil {
			return nil, err
		}
	}
	select { // a timer would cost a message as much as the rest
	case m := <-r.msgs:
		return m, nil
	default:
	}
	r.silence.Reset(2 * readerBeat)
	select {
	case m := <-r.msgs:
		return m, nil
	case <-r.silence.C:
		return nil, jetstream.ErrNoHeartbeat
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// ask begins a pull. A message that is too long for one comes alone.
func (r *Reader) ask() error {
	r.left, r.room = r.cfg.Messages, r.cfg.Bytes
	if r.large {
		r.left, r.room, r.large = 1, 0, false
	}
	request, err := json.Marshal(struct {
		Batch   int           `json:"batch"`
		Bytes   int           `json:"max_bytes,omitempty"`
		Expires time.Duration `json:"expires"`
		Beat    time.Duration `json:"idle_heartbeat"`
	}{r.left, r.room, readerPull, readerBeat})
	if err != nil {
		return err
	}
	return r.js.Conn().PublishRequest(apiPrefix(r.js)+"CONSUMER.MSG.NEXT."+r.stream+"."+r.name, r.inbox, request)
}

// Close has the server forget the consumer. It would do so by itself after a minute; until then each counts in
// what a stream may have, 1,000 by default, groups and event streams included.
func (r *Reader) Close() { r.CloseWithin(r.cfg.Request) }

// CloseWithin is Close that waits for the server no longer than that.
func (r *Reader) CloseWithin(bound time.Duration) {
	_ = r.sub.Unsubscribe()
	r.silence.Stop()
	r.remove(bound)
}

func (r *Reader) remove(bound time.Duration) {
	if !r.js.Conn().IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	_ = r.js.DeleteConsumer(ctx, r.stream, r.name)
}
