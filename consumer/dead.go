package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go/jetstream"
)

// DeadReader looks turns up among the dead letters.
type DeadReader struct {
	JS jetstream.JetStream
	// Request bounds each request to the server; zero means what JS was made with.
	Request time.Duration
}

// Turn returns the newest dead letter that is a turn with this id of this
// session. Dead letters that cannot be decoded, or came on the subject of another
// session, are nobody's. One that does not equal the message of the stream of turns that it says it is may have
// been made up, and does not count. It reads all dead letters, of which there should be few; ctx bounds it.
func (r DeadReader) Turn(ctx context.Context, session, id string) (s transcript.Snapshot, ok bool, err error) {
	request := stream.RequestBound(r.Request, r.JS)
	o, err := DeadLetters{JS: r.JS, Request: request}.origins(ctx)
	if err != nil {
		return s, false, err
	}
	subject := stream.TurnSubject(session)
	_, err = read(ctx, r.JS, stream.Dead, "", request, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		if m.Headers().Get(stream.HeaderSubject) != subject {
			return nil
		}
		turn, err := transcript.Decode(m.Data(), decodeAny(m))
		if err != nil || turn.SessionID != session || turn.ID != id || ok && !turn.Beats(&s) {
			return nil
		}
		doubt, err := o.doubt(ctx, meta.Sequence.Stream, &jetstream.RawStreamMsg{Subject: m.Subject(), Header: m.Headers(), Data: m.Data()})
		if err != nil || doubt != "" {
			return err
		}
		s, ok = turn, true
		return nil
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("look through the dead letters: %w", err)
	}
	return s, ok, nil
}
