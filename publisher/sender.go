package publisher

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

const (
	sendAtOnce     = 64               // turns sent before results are looked at again
	markAtOnce     = 256              // turns marked as stored under one hold of the buffer's lock
	statusEvery    = time.Second      // how often a lost connection is looked at if no event comes
	upkeepEvery    = 10 * time.Second // the most between two rounds of upkeep
	upkeepFraction = 8
)

// errNoAnswer is a try of which nats.go never reported how it ended.
var errNoAnswer = errors.New("no result was reported")

// sender brings turns from the buffer to the stream. Everything in it belongs
// to the one goroutine that runs it, but for what is atomic.
type sender struct {
	cfg     *Config
	log     *slog.Logger
	nc      *nats.Conn
	js      jetstream.JetStream // of its own: its handlers and its acknowledgement timeout
	status  chan nats.Status
	buffer  *buffer
	started time.Time
	results *results

	stop    chan struct{} // closed: end at once
	closing chan struct{} // closed: end when the buffer is empty
	ended   chan struct{} // closed by run

	connected   bool
	lost        time.Time // since when there is no connection; zero while there is
	draining    bool
	gate        gate
	retries     retries
	fresh       []*entry // taken from the buffer, never sent
	freshBuf    []*entry
	inFlight    map[*nats.Msg]*entry
	heard       bool // a result has come
	stored      []*entry
	spare       []result
	storedSoFar uint64
	nextUpkeep  time.Time

	maxPayload atomic.Int64 // what Publish may accept: the server's limit, as last heard
	counts     counts
}

// counts is what the sender tells Stats.
type counts struct {
	inFlight                      atomic.Int64
	blockedAt                     atomic.Int64 // when it was that nothing got through any more, in ns since started; -1 while turns do
	retries, duplicates, setAside atomic.Uint64
}

func newSender(cfg *Config, b *buffer) (*sender, error) {
	nc := cfg.JS.Conn()
	s := &sender{
		cfg: cfg, log: cfg.Logger, nc: nc, buffer: b, results: newResults(), started: time.Now(),
		stop: make(chan struct{}), closing: make(chan struct{}), ended: make(chan struct{}),
		gate:     gate{backoff: cfg.backoff()},
		inFlight: make(map[*nats.Msg]*entry, cfg.Window),
	}
	js, err := jetstream.New(nc,
		jetstream.WithPublishAsyncTimeout(cfg.AckTimeout),
		jetstream.WithPublishAsyncMaxPending(2*cfg.Window), // never reached: a full window would stall the sender
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, ack *jetstream.PubAck) {
			s.results.put(result{msg: m, duplicate: ack.Duplicate})
		}),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) {
			s.results.put(result{msg: m, err: err})
		}))
	if err != nil {
		return nil, fmt.Errorf("publisher: create publishing context: %w", err)
	}
	s.js = js
	s.hearMaxPayload()
	s.status = nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.CLOSED)
	return s, nil
}

// run is the sender's goroutine. It sends while the window has room, and takes
// in results, connection events and new turns as they come.
func (s *sender) run() {
	defer close(s.ended)
	defer s.nc.RemoveStatusListener(s.status)
	defer s.cleanup()
	timer := time.NewTimer(0)
	defer timer.Stop()
	closing := s.closing
	reconnected := false
	for {
		s.watch(reconnected)
		reconnected = false
		s.collect(time.Now())
		s.upkeep(time.Now())
		wait := s.send(time.Now())
		s.report()
		if s.finished() {
			return
		}
		timer.Reset(min(wait, time.Until(s.nextUpkeep)))
		select {
		case <-s.stop:
			s.collect(time.Now()) // what is stored already is not left
			return
		case <-closing:
			closing, s.draining = nil, true
			s.hurry()
		case st := <-s.status:
			reconnected = st == nats.CONNECTED
		case <-s.buffer.wake:
		case <-s.results.signal:
		case <-timer.C:
		}
	}
}

// cleanup ends what nats.go runs for the publishing context. Before the first
// result its goroutine may not have begun, and nats.go 1.55 would then leave it
// behind for ever; so in that case it is left to end with the connection.
func (s *sender) cleanup() {
	if s.heard {
		s.js.CleanupPublisher()
	}
}

// finished reports whether a draining sender has nothing left that it could do.
func (s *sender) finished() bool {
	if !s.draining {
		return false
	}
	turns, _ := s.buffer.left()
	return turns == 0 || s.nc.IsClosed()
}

// watch follows the state of the connection. After a reconnect nothing waits
// out a backoff that it earned before.
func (s *sender) watch(reconnected bool) {
	connected := s.nc.Status() == nats.CONNECTED
	if connected && (reconnected || !s.connected) {
		s.hearMaxPayload()
		s.hurry()
	}
	if s.connected = connected; connected {
		s.lost = time.Time{}
	} else if s.lost.IsZero() {
		s.lost = time.Now()
	}
}

// report tells Stats what the sender knows.
func (s *sender) report() {
	s.counts.inFlight.Store(int64(len(s.inFlight)))
	switch {
	case s.gate.closed && (s.lost.IsZero() || s.gate.since.Before(s.lost)):
		s.counts.blockedAt.Store(s.gate.since.Sub(s.started).Nanoseconds())
	case !s.lost.IsZero():
		s.counts.blockedAt.Store(s.lost.Sub(s.started).Nanoseconds())
	default:
		s.counts.blockedAt.Store(-1)
	}
}

func (s *sender) hurry() {
	s.gate.hurry()
	s.retries.release(true)
}

func (s *sender) hearMaxPayload() {
	s.maxPayload.Store(int64(max(1, min(s.cfg.MaxPayload, stream.PayloadLimit(s.nc.MaxPayload())))))
}

// send sends what the window, the gate and the backoffs allow, up to a bound,
// and returns how long nothing more can be sent unless something happens.
func (s *sender) send(now time.Time) (wait time.Duration) {
	if !s.connected {
		return statusEvery
	}
	for range sendAtOnce {
		n, wait := s.gate.allowed(now, s.cfg.Window-len(s.inFlight))
		if n == 0 {
			if wait == 0 {
				wait = upkeepEvery
			}
			return wait
		}
		e, wait := s.next(now)
		if e == nil {
			return wait
		}
		if s.gate.closed {
			s.gate.probe = e
		}
		s.transmit(e, now)
	}
	return 0
}

// next removes and returns the turn to send now. Those that wait only for the
// stream come first, in order; one that failed as a probe yields to new ones,
// so that no turn can keep the others from being tried.
func (s *sender) next(now time.Time) (e *entry, wait time.Duration) {
	retry := s.retries.first()
	if retry != nil && retry.due.IsZero() {
		s.retries.removeFirst()
		return retry, 0
	}
	if len(s.fresh) == 0 {
		s.freshBuf = s.buffer.take(s.freshBuf[:0], sendAtOnce)
		s.fresh = s.freshBuf
	}
	if len(s.fresh) > 0 {
		e, s.fresh[0] = s.fresh[0], nil
		s.fresh = s.fresh[1:]
		return e, 0
	}
	if retry == nil {
		return nil, upkeepEvery
	}
	if wait := retry.due.Sub(now); wait > 0 {
		return nil, wait
	}
	s.retries.removeFirst()
	return retry, 0
}

// transmit begins one try. To publish in atomic batches, hand a group of turns
// over here and put one result for each: nothing else knows how they travel.
func (s *sender) transmit(e *entry, now time.Time) {
	payload := e.snap.Payload()
	if e.header == nil {
		e.header = nats.Header{stream.HeaderMsgID: {stream.MsgID(payload)}}
		if e.traceparent != "" {
			e.header[stream.HeaderTraceparent] = []string{e.traceparent}
		}
	} else {
		s.counts.retries.Add(1)
	}
	// A message of its own for each try tells a late result of an earlier one apart.
	e.msg = &nats.Msg{Subject: stream.TurnSubject(e.snap.SessionID), Header: e.header, Data: payload}
	e.sent = now
	s.inFlight[e.msg] = e
	if _, err := s.js.PublishMsgAsync(e.msg, jetstream.WithRetryAttempts(0)); err != nil {
		s.end(result{msg: e.msg, err: err}, now)
	}
}

// collect takes in how tries ended.
func (s *sender) collect(now time.Time) {
	list := s.results.swap(s.spare)
	s.heard = s.heard || len(list) > 0
	for _, r := range list {
		s.end(r, now)
	}
	s.spare = list
	for group := range slices.Chunk(s.stored, markAtOnce) {
		s.buffer.markStored(group, now)
		for _, e := range group {
			e.receipt.raise(Stored)
			e.header, e.msg = nil, nil
			if s.cfg.OnStored != nil {
				s.cfg.OnStored(now.Sub(e.accepted))
			}
		}
	}
	clear(s.stored)
	s.stored = s.stored[:0]
}

// end takes in how one try ended. The first report of a try counts; nats.go may
// give two when the connection is lost in the middle of it.
func (s *sender) end(r result, now time.Time) {
	e := s.inFlight[r.msg]
	if e == nil {
		return
	}
	delete(s.inFlight, r.msg)
	if r.err != nil {
		s.failed(e, r.err, now)
		return
	}
	if r.duplicate {
		s.counts.duplicates.Add(1)
	}
	s.storedSoFar++
	s.stored = append(s.stored, e)
	if s.gate.closed {
		if s.gate.probes > 0 {
			s.log.Info("the stream takes turns again", "after", now.Sub(s.gate.since))
		}
		s.gate.open()
		s.retries.release(false)
	}
}

// failed decides when a turn is tried again.
func (s *sender) failed(e *entry, err error, now time.Time) {
	e.receipt.refused(err)
	probe := s.gate.probe == e
	switch {
	case errors.Is(err, nats.ErrDisconnected):
		// It says nothing about the stream: most of these were stored, and the
		// message id makes the server drop them.
		e.due = time.Time{}
		if probe {
			s.gate.probe = nil
		}
	case refusesTurn(err) || e.blame(s.storedSoFar):
		if e.own == nil {
			e.own = s.cfg.backoff()
			s.counts.setAside.Add(1)
			s.log.Error("a turn is refused while others are stored, trying it again by itself",
				"session_id", e.snap.SessionID, "turn_id", e.snap.ID, "bytes", e.size, "err", err)
		}
		e.due = now.Add(min(e.own.NextBackOff(), s.cfg.RetryMax))
		if probe { // the next one is the probe
			s.gate.probe = nil
		}
	default:
		s.gate.fail(e, now)
		e.due = time.Time{}
		if probe {
			e.due = s.gate.until
			if s.gate.probes == 1 {
				s.log.Warn("the stream takes no turns, keeping them and trying again", "err", err)
			}
		}
	}
	s.retries.add(e)
}

// refusesTurn reports whether err is about the turn itself, whatever the stream's state.
func refusesTurn(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, nats.ErrMaxPayload) ||
		errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum
}

// upkeep now and then forgets old turns of Pending, and ends tries of which
// nothing was heard long after their timeout.
func (s *sender) upkeep(now time.Time) {
	if now.Before(s.nextUpkeep) {
		return
	}
	s.nextUpkeep = now.Add(min(upkeepEvery, s.cfg.SettleFor/upkeepFraction+1, s.cfg.AckTimeout))
	if s.buffer.expire(now) {
		s.nextUpkeep = now
	}
	for m, e := range s.inFlight {
		if now.Sub(e.sent) > 2*s.cfg.AckTimeout {
			s.end(result{msg: m, err: errNoAnswer}, now)
		}
	}
}
