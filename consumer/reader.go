package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// readAhead is how many messages a reader of the stream asks for at one time.
	readAhead = 5000
	// readStall is how long a reader waits for the next message before it asks
	// the stream whether there still is one.
	readStall = 5 * time.Second
)

// read calls fn with every message that was in a stream when it began, in order:
// those of one subject, or all with "". It stops at fn's first error. It returns
// the sequence it read up to.
func read(ctx context.Context, js jetstream.JetStream, name, subject string, request time.Duration, fn func(m jetstream.Msg, meta *jetstream.MsgMetadata) error) (last uint64, err error) {
	rctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	s, err := js.Stream(rctx, name)
	if err != nil {
		return 0, fmt.Errorf("read stream %s: %w", name, err)
	}
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, InactiveThreshold: time.Minute}
	if subject == "" {
		state := s.CachedInfo().State
		if last = state.LastSeq; state.Msgs == 0 {
			return last, nil
		}
	} else {
		m, err := s.GetLastMsgForSubject(rctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read subject %s: %w", subject, err)
		}
		last = m.Sequence
		cfg.FilterSubjects = []string{subject}
	}
	cons, err := s.OrderedConsumer(rctx, cfg)
	if err != nil {
		return 0, fmt.Errorf("read stream %s: %w", name, err)
	}
	iter, err := cons.Messages(jetstream.PullMaxMessages(readAhead))
	if err != nil {
		return 0, fmt.Errorf("read stream %s: %w", name, err)
	}
	defer iter.Stop()
	for {
		nctx, cancel := context.WithTimeout(ctx, readStall)
		m, err := iter.Next(jetstream.NextContext(nctx))
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return 0, context.Cause(ctx)
			}
			if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
				err = fmt.Errorf("no message for %v", readStall)
			}
			return 0, fmt.Errorf("read stream %s: %w", name, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return 0, err
		}
		if meta.Sequence.Stream <= last {
			if err := fn(m, meta); err != nil {
				return 0, err
			}
		}
		if meta.Sequence.Stream >= last || meta.NumPending == 0 {
			return last, nil
		}
	}
}

// decodeAny is a payload limit that no turn in a message exceeds: an encoding
// grows at most by the members that were left out.
func decodeAny(m jetstream.Msg) int { return 2*len(m.Data()) + 4096 }

// StreamReader reads transcripts from the stream itself, for programs that have
// no transcripts at hand. It sees what the stream still holds.
type StreamReader struct {
	JS jetstream.JetStream
	// Request bounds each request to the server; zero means [DefaultRequest].
	Request time.Duration
}

// Read returns the transcript that a session's events in the stream make. It is
// [transcript.ErrNoSession] when there are none; every other error means that
// the answer is not known.
func (r StreamReader) Read(ctx context.Context, session string) (*transcript.Document, error) {
	if err := transcript.CheckSessionID(session); err != nil {
		return nil, err
	}
	request := r.Request
	if request == 0 {
		request = DefaultRequest
	}
	var turns []transcript.Snapshot
	_, err := read(ctx, r.JS, stream.Turns, stream.TurnSubject(session), request, func(m jetstream.Msg, _ *jetstream.MsgMetadata) error {
		if turn, err := decode(m, decodeAny(m)); err == nil { // what is malformed is a dead letter
			turns = append(turns, turn)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(turns) == 0 {
		return nil, transcript.ErrNoSession
	}
	return transcript.MergeAll(session, turns...)
}

// Turn returns the winning snapshot of a turn that the stream holds.
func (r StreamReader) Turn(ctx context.Context, session, id string) (s transcript.Snapshot, ok bool, err error) {
	doc, err := r.Read(ctx, session)
	if errors.Is(err, transcript.ErrNoSession) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	return doc.Turn(id)
}

// Recent returns the last n answered turns. Errors are those of Read.
func (r StreamReader) Recent(ctx context.Context, session string, n int) (transcript.Recent, error) {
	doc, err := r.Read(ctx, session)
	if err != nil {
		return transcript.Recent{}, err
	}
	return doc.Recent(n)
}
