package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// readAhead is how many messages a reader of the stream asks for at one time.
	readAhead = 5000
	// readAgain is how long it waits before it begins again after a failure.
	readAgain = 100 * time.Millisecond
	// sessionBytes is how much one of the many readers of a service asks for: it is in memory beside what readers
	// hold, and the server ends a connection that it has more than 64 MiB to send to.
	sessionBytes = 4 << 20
)

// span is the part of a stream that is read; its zero value is all of it.
type span struct {
	after   uint64    // only what has a higher sequence
	since   time.Time // only what was stored then or later
	headers bool      // messages come without their payload
	ahead   int       // messages asked for at one time; 0 means readAhead
	bytes   int       // asked for at one time; 0 means no bound
}

// open begins to read behind a sequence, with 0 where the part begins.
func (p span) open(ctx context.Context, js jetstream.JetStream, name, subject string, after uint64, request time.Duration) (*stream.Reader, error) {
	return stream.OpenReader(ctx, js, name, stream.ReaderConfig{
		Subject: subject, After: max(p.after, after), Since: p.since, HeadersOnly: p.headers, Messages: cmp.Or(p.ahead, readAhead), Bytes: p.bytes, Request: request,
	})
}

// readFunc is given each message in turn.
type readFunc func(m jetstream.Msg, meta *jetstream.MsgMetadata) error

// read calls fn with every message that was in a stream when it began, in order:
// those of one subject, or all with "". It stops at fn's first error. It returns
// the sequence it read up to.
func read(ctx context.Context, js jetstream.JetStream, name, subject string, request time.Duration, fn readFunc) (last uint64, err error) {
	return readSpan(ctx, js, name, subject, span{}, request, fn)
}

// readSpan is read for a part of the stream.
func readSpan(ctx context.Context, js jetstream.JetStream, name, subject string, part span, request time.Duration, fn readFunc) (last uint64, err error) {
	rctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	s, err := js.Stream(rctx, name)
	if err != nil {
		return 0, stream.ReadError(name, err)
	}
	if subject != "" {
		return readSubject(ctx, js, name, subject, part, request, fn)
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return state.LastSeq, nil
	}
	return readTo(ctx, js, name, state.LastSeq, "", part, request, fn)
}

// readSubject is read for one subject, with a stream that was looked up before:
// that costs the server more than all the rest.
func readSubject(ctx context.Context, js jetstream.JetStream, name, subject string, part span, request time.Duration, fn readFunc) (last uint64, err error) {
	rctx, cancel := context.WithTimeout(ctx, request)
	defer cancel()
	m, err := stream.Newest(rctx, js, name, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err == nil && m.Sequence == 0 {
		err = latest(rctx, js, name, m)
	}
	if err != nil {
		return 0, stream.ReadError(name, err)
	}
	return readTo(ctx, js, name, m.Sequence, subject, part, request, fn)
}

// latest gives a message, of which nothing is known, the sequence of the newest one in the stream.
func latest(ctx context.Context, js jetstream.JetStream, name string, m *jetstream.RawStreamMsg) error {
	s, err := js.Stream(ctx, name)
	if err == nil {
		m.Sequence = s.CachedInfo().State.LastSeq
	}
	return err
}

// readTo reads up to a sequence that is known to be there, or was. A reader that fails is opened again behind what
// was read, until no message has come for the bound of a request.
func readTo(ctx context.Context, js jetstream.JetStream, name string, last uint64, subject string, part span, request time.Duration, fn readFunc) (_ uint64, err error) {
	if part.after >= last {
		return last, nil
	}
	r, err := part.open(ctx, js, name, subject, 0, request)
	if err != nil {
		return 0, err
	}
	defer func() {
		r.CloseWithin(request / 20) // what was read is not kept waiting for it
	}()
	if r.Pending == 0 { // nothing that is so new, or it was removed since
		return last, nil
	}
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	watch := watchStall(stop, request)
	defer watch.stop()
	var at uint64 // that was read
	for ctx.Err() == nil {
		watch.enter()
		m, meta, err := r.Next(waiting)
		for err != nil && waiting.Err() == nil && sleep(waiting, readAgain) {
			var again *stream.Reader
			if again, err = part.open(waiting, js, name, subject, at, request); err == nil {
				r.CloseWithin(request / 20)
				r = again
				m, meta, err = r.Next(waiting)
			}
		}
		watch.leave()
		switch {
		case ctx.Err() != nil:
		case watch.stalled():
			return 0, stream.ReadError(name, fmt.Errorf("no message for %v", request))
		case err != nil:
			return 0, err
		default:
			if meta.Sequence.Stream <= last && !meta.Timestamp.Before(part.since) {
				if err := fn(m, meta); err != nil {
					return 0, err
				}
			}
			if at = meta.Sequence.Stream; at >= last || meta.NumPending == 0 {
				return last, nil
			}
		}
	}
	return 0, context.Cause(ctx)
}

// stallWatch stops a reader that waits for a message for the bound of a request at least,
// and at most twice that. It looks now and then: a timer of its own, or a context, would cost a message as much as the rest.
type stallWatch struct {
	timer *time.Timer
	state atomic.Uint64 // odd while the reader waits; each wait has a state of its own
	gone  atomic.Bool
}

func watchStall(stop func(), bound time.Duration) *stallWatch {
	w := &stallWatch{}
	last := uint64(0)
	first := make(chan struct{})
	w.timer = time.AfterFunc(bound, func() {
		<-first
		now := w.state.Load()
		if now%2 == 1 && now == last {
			w.gone.Store(true)
			stop()
			return
		}
		last = now
		w.timer.Reset(bound)
	})
	close(first)
	return w
}

// enter and leave say that the reader waits from here, to there.
func (w *stallWatch) enter() { w.state.Add(1) }
func (w *stallWatch) leave() { w.state.Add(1) }

func (w *stallWatch) stalled() bool { return w.gone.Load() }

func (w *stallWatch) stop() { w.timer.Stop() }

// decodeAny is a payload limit that no turn in a message exceeds: an encoding
// grows at most by the members that were left out.
func decodeAny(m jetstream.Msg) int { return 2*len(m.Data()) + 4096 }

// TurnOf reads the turn of a message of the stream of turns. Its error says why it is
// none: such a message becomes a dead letter.
func TurnOf(m jetstream.Msg, meta *jetstream.MsgMetadata) (transcript.Snapshot, error) {
	return decode(m, meta.Timestamp, decodeAny(m))
}

// StreamReader reads transcripts from the stream itself, for programs that have
// no transcripts at hand. It sees what the stream still holds.
type StreamReader struct {
	// Memory is what it shares with the other readers of the process; nil means no bound.
	Memory *transcript.Memory

	js      jetstream.JetStream
	request time.Duration
	stream  atomic.Pointer[jetstream.Stream] // looked up once; nil again when it is gone
	made    atomic.Pointer[time.Time]        // when the stream was made that was seen first: another one has lost what that had
	begin   beginnings
}

// messageOverhead is about what a turn takes in memory beside its bytes.
const messageOverhead = 1 << 10

// NewStreamReader makes a reader. request bounds each request to the server; 0
// means what js was made with.
func NewStreamReader(js jetstream.JetStream, request time.Duration) *StreamReader {
	return &StreamReader{js: js, request: stream.RequestBound(request, js)}
}

// turns returns the winning turns of a session that the stream holds, and the sequence of the first event, with the
// memory that all of its events take from held.
func (r *StreamReader) turns(ctx context.Context, session string, held *transcript.Held) (turns []transcript.Snapshot, first uint64, err error) {
	at := make(map[string]int) // by id
	err = r.subject(ctx, stream.TurnSubject(session), func(turn transcript.Snapshot, seq uint64) error {
		i, ok := at[turn.ID]
		switch {
		case !ok:
			at[turn.ID] = len(turns)
			turns = append(turns, turn)
		case turn.Beats(&turns[i]):
			turns[i] = turn
		}
		if first == 0 {
			first = seq
		}
		return held.Grow(ctx, int64(turn.Size())+messageOverhead)
	})
	return turns, first, err
}

// Newest returns the newest event of a session in the stream, in one request. It is [transcript.ErrNoSession] when
// there is none.
func (r *StreamReader) Newest(ctx context.Context, session string) (transcript.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, r.request)
	defer cancel()
	if _, err := r.handle(ctx); err != nil {
		return transcript.Snapshot{}, err
	}
	m, err := stream.Newest(ctx, r.js, stream.Turns, stream.TurnSubject(session))
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return transcript.Snapshot{}, transcript.ErrNoSession
	case err != nil:
		r.stream.Store(nil)
		return transcript.Snapshot{}, stream.ReadError(stream.Turns, err)
	}
	return transcript.Decode(m.Data, math.MaxInt)
}

// handle is the stream, looked up once.
func (r *StreamReader) handle(ctx context.Context) (*jetstream.Stream, error) {
	if s := r.stream.Load(); s != nil {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.request)
	defer cancel()
	s, err := r.js.Stream(ctx, stream.Turns)
	if err != nil {
		return nil, stream.ReadError(stream.Turns, err)
	}
	r.stream.Store(&s)
	return &s, nil
}

// subject calls fn with every event of the subject of a session. What is malformed is a dead letter.
func (r *StreamReader) subject(ctx context.Context, subject string, fn func(turn transcript.Snapshot, seq uint64) error) error {
	if _, err := r.handle(ctx); err != nil {
		return err
	}
	// A message alone may be as long as the server allows.
	part := span{bytes: max(sessionBytes, 2*int(r.js.Conn().MaxPayload()))}
	_, err := readSubject(ctx, r.js, stream.Turns, subject, part, r.request, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		turn, err := TurnOf(m, meta)
		if err != nil {
			return nil
		}
		return fn(turn, meta.Sequence.Stream)
	})
	if err != nil && !errors.Is(err, transcript.ErrMemory) {
		r.stream.Store(nil)
	}
	return err
}

// View returns the transcript that a session's events in the stream make. It is
// [transcript.ErrNoSession] when there are none and never were, and [transcript.ErrPartial]
// when the stream may have had some; every other error means that the answer is not
// known. A view of which turns may be missing is Partial. It is in memory until it is closed.
func (r *StreamReader) View(ctx context.Context, session string) (*transcript.View, error) {
	if err := transcript.CheckSessionID(session); err != nil {
		return nil, err
	}
	held := r.Memory.Hold()
	turns, partial, _, err := r.known(ctx, session, held)
	if err != nil {
		held.Release()
		return nil, err
	}
	v, err := transcript.NewView(ctx, session, turns, held)
	if err == nil {
		v.Partial = partial
	}
	return v, err
}

// known returns what the stream holds of a session, and whether turns may be missing because of what it has removed.
func (r *StreamReader) known(ctx context.Context, session string, held *transcript.Held) (turns []transcript.Snapshot, partial bool, gone removed, err error) {
	turns, first, err := r.turns(ctx, session, held)
	if err == nil {
		gone, err = r.removed(ctx)
	}
	switch {
	case err != nil:
	case len(turns) > 0:
		partial = !r.begin.whole(session, first, gone)
	case gone.nothing:
		err = transcript.ErrNoSession
	default:
		err = transcript.ErrPartial
	}
	return turns, partial, gone, err
}

// Read is View for commands: in memory for good, and without the bound. A document of which
// turns may be missing comes with [transcript.ErrPartial].
func (r *StreamReader) Read(ctx context.Context, session string) (*transcript.Document, error) {
	if err := transcript.CheckSessionID(session); err != nil {
		return nil, err
	}
	turns, partial, _, err := r.known(ctx, session, nil)
	if err != nil {
		return nil, err
	}
	doc, err := transcript.MergeAll(session, turns...)
	if err == nil && partial {
		err = transcript.ErrPartial
	}
	return doc, err
}

// Turn returns the winning snapshot of a turn that the stream holds. That it may have been
// there, and is not any more, is [transcript.ErrPartial].
func (r *StreamReader) Turn(ctx context.Context, session, id string) (s transcript.Snapshot, ok bool, err error) {
	v, err := r.View(ctx, session)
	if errors.Is(err, transcript.ErrNoSession) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	defer v.Close()
	if s, ok, err = v.Turn(ctx, id); err == nil && !ok && v.Partial {
		err = transcript.ErrPartial
	}
	return s, ok, err
}

// Recent returns the last n turns of the recent history. Errors are those of View.
func (r *StreamReader) Recent(ctx context.Context, session string, n int) (transcript.Recent, error) {
	return r.Path(ctx, session, transcript.PathQuery{Limit: n})
}

// Path returns a part of a path. Errors are those of View, and [transcript.ErrNoTurn].
func (r *StreamReader) Path(ctx context.Context, session string, q transcript.PathQuery) (rec transcript.Recent, err error) {
	held := r.Memory.HoldIn(ctx)
	defer func() { held.Return(ctx, rec.Turns) }()
	turns, partial, gone, err := r.known(ctx, session, held)
	if err != nil {
		return transcript.Recent{}, err
	}
	doc, err := transcript.MergeAll(session, turns...)
	if err != nil {
		return transcript.Recent{}, err
	}
	if partial && gone.oldest {
		if rec, ok := doc.PathAfter(q, gone.until); ok {
			rec.Partial, rec.Known = true, true
			return rec, nil
		}
	}
	rec, err = doc.Path(q)
	if rec.Partial = partial; partial && errors.Is(err, transcript.ErrNoTurn) {
		err = transcript.ErrPartial
	}
	return rec, err
}
