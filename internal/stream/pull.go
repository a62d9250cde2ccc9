package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pullGrace is how much longer than the server waits for messages the client waits for its answer.
const pullGrace = time.Second

// Pull calls fn with up to n messages of a durable consumer. With wait it waits so long for the first ones;
// without it takes those that are there. That there are none is no error.
//
// A publisher can give a message without a payload a header Status. nats.go takes such a message for an
// answer of the server about the pull and drops it, so that it would never be acknowledged. Here a message
// is what has a subject for its acknowledgement.
func Pull(js jetstream.JetStream, cons jetstream.Consumer, n int, wait time.Duration, fn func(jetstream.Msg)) error {
	nc, info := js.Conn(), cons.CachedInfo()
	request, err := json.Marshal(struct {
		Batch   int           `json:"batch"`
		Expires time.Duration `json:"expires,omitempty"`
		NoWait  bool          `json:"no_wait,omitempty"`
	}{n, wait, wait == 0})
	if err != nil {
		return err
	}
	msgs := make(chan *nats.Msg, 2*n)
	inbox := nc.NewInbox()
	sub, err := nc.ChanSubscribe(inbox, msgs)
	if err != nil {
		return err
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(apiPrefix(js)+"CONSUMER.MSG.NEXT."+info.Stream+"."+info.Name, inbox, request); err != nil {
		return err
	}
	silence := time.NewTimer(wait + pullGrace)
	defer silence.Stop()
	for n > 0 {
		select {
		case m := <-msgs:
			silence.Reset(wait + pullGrace)
			if isDelivered(m) {
				fn(delivered{nc, m})
				n--
			} else if over, err := pullStatus(m); over {
				return err
			}
		case <-silence.C:
			return nil
		}
	}
	return nil
}

// isDelivered tells a message from an answer of the server.
func isDelivered(m *nats.Msg) bool { return strings.HasPrefix(m.Reply, "$JS.ACK.") }

// pullTrouble are the conflicts that mean more than that this pull has ended, by the words of the server.
var pullTrouble = map[string]error{
	"consumer deleted": jetstream.ErrConsumerDeleted, "leadership change": jetstream.ErrConsumerLeadershipChanged, "server shutdown": jetstream.ErrServerShutdown,
}

// pullStatus reports whether an answer of the server ends a pull, and why unless nothing is wrong.
func pullStatus(m *nats.Msg) (over bool, err error) {
	said := strings.ToLower(m.Header.Get("Description"))
	switch status := m.Header.Get("Status"); status {
	case "100":
		return false, nil
	case "404", "408":
		return true, nil
	case "503":
		return true, nats.ErrNoResponders
	default:
		for words, known := range pullTrouble {
			if strings.Contains(said, words) {
				return true, known
			}
		}
		if isTooLong(m) {
			return true, nil
		}
		return true, fmt.Errorf("nats: %s %s", status, said)
	}
}

// isTooLong reports whether the server says that the next message does not fit into a pull.
func isTooLong(m *nats.Msg) bool {
	return strings.Contains(strings.ToLower(m.Header.Get("Description")), "exceeds maxbytes")
}

// apiPrefix is what begins the subjects of the API.
func apiPrefix(js jetstream.JetStream) string {
	switch o := js.Options(); {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}

// delivered is a message of a consumer.
type delivered struct {
	nc *nats.Conn
	m  *nats.Msg
}

func (d delivered) Data() []byte         { return d.m.Data }
func (d delivered) Headers() nats.Header { return d.m.Header }
func (d delivered) Subject() string      { return d.m.Subject }
func (d delivered) Reply() string        { return d.m.Reply }

func (d delivered) Metadata() (*jetstream.MsgMetadata, error) {
	meta, err := d.m.Metadata()
	if err != nil {
		return nil, err
	}
	return &jetstream.MsgMetadata{
		Sequence:     jetstream.SequencePair{Stream: meta.Sequence.Stream, Consumer: meta.Sequence.Consumer},
		NumDelivered: meta.NumDelivered, NumPending: meta.NumPending, Timestamp: meta.Timestamp,
		Stream: meta.Stream, Consumer: meta.Consumer, Domain: meta.Domain,
	}, nil
}

func (d delivered) say(what string) error { return d.nc.Publish(d.m.Reply, []byte(what)) }

func (d delivered) Ack() error                         { return d.say("+ACK") }
func (d delivered) Nak() error                         { return d.say("-NAK") }
func (d delivered) InProgress() error                  { return d.say("+WPI") }
func (d delivered) Term() error                        { return d.say("+TERM") }
func (d delivered) TermWithReason(reason string) error { return d.say("+TERM " + reason) }

func (d delivered) NakWithDelay(delay time.Duration) error {
	return d.say(fmt.Sprintf(`-NAK {"delay": %d}`, delay.Nanoseconds()))
}

func (d delivered) DoubleAck(ctx context.Context) error {
	_, err := d.nc.RequestWithContext(ctx, d.m.Reply, []byte("+ACK"))
	return err
}

var _ jetstream.Msg = delivered{}
