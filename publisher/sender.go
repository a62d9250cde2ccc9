package publisher

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

const (
	sendAtOnce     = 64               // turns sent before results are looked at again
	markAtOnce     = 16               // turns marked as stored under one hold of the buffer's lock
	statusEvery    = time.Second      // how often a lost connection is looked at if no event comes
	upkeepEvery    = 10 * time.Second // the most between two rounds of upkeep
	upkeepFraction = 8

	// While turns come, the sender looks for them every lookEvery instead of being woken
	// for each; when none came for lookFor it has Publish wake it.
	lookEvery = 2 * time.Millisecond
	lookFor   = 20 * time.Millisecond
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
	reader  jetstream.JetStream // reads the stream back
	status  chan nats.Status
	buffer  *buffer
	started time.Time
	results *results

	stop    chan struct{} // closed: end at once
	closing chan struct{} // closed: end when the buffer is empty
	ended   chan struct{} // closed by run

	connected   bool
	reconnects  uint64    // how often the connection had been made anew when it was last looked at
	lost        time.Time // since when there is no connection; zero while there is
	draining    bool
	gate        gate
	retries     retries
	fresh       []*entry // taken from the buffer, never sent
	freshBuf    []*entry
	came        time.Time            // when the buffer last had something
	sated       bool                 // more in the buffer would change nothing
	alone       int                  // the most turns in flight by themselves
	inFlight    map[*nats.Msg]*entry // by themselves
	batches     *batches
	repeats     *repeats
	heard       bool // a result of a turn by itself has come
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
	acks, late, malformed         atomic.Uint64
	aside                         atomic.Int64 // of setAside, those that are not stored yet
	asideWhy                      atomic.Pointer[error]
}

func newSender(cfg *Config, b *buffer) (*sender, error) {
	nc := cfg.Conn
	s := &sender{
		cfg: cfg, log: cfg.Logger, nc: nc, buffer: b, results: newResults(), started: time.Now(),
		stop: make(chan struct{}), closing: make(chan struct{}), ended: make(chan struct{}),
		gate:     gate{backoff: cfg.backoff()},
		alone:    max(1, cfg.Window/batchesAtOnce),
		inFlight: make(map[*nats.Msg]*entry),
	}
	s.batches = newBatches(cfg, s.results)
	s.repeats = newRepeats()
	js, err := jetstream.New(nc,
		jetstream.WithPublishAsyncTimeout(cfg.AckTimeout),
		jetstream.WithPublishAsyncMaxPending(2*cfg.Window), // never reached: a full window would stall the sender
		jetstream.WithPublishAsyncAckHandler(func(_ jetstream.JetStream, m *nats.Msg, ack *jetstream.PubAck) {
			r := result{msg: m}
			if ack.Duplicate {
				r.duplicate = ack
			}
			s.results.put(r)
		}),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, m *nats.Msg, err error) {
			s.results.put(result{msg: m, err: err})
		}))
	if err != nil {
		return nil, fmt.Errorf("publisher: create publishing context: %w", err)
	}
	s.js, s.reader = js, cfg.JetStream
	if s.reader == nil {
		s.reader = js
	}
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
	for {
		s.watch()
		s.collect(time.Now())
		s.endLate(time.Now())
		s.upkeep(time.Now())
		wait := s.look(time.Now())
		s.report()
		if s.finished() {
			return
		}
		timer.Reset(min(wait, s.batches.late(s.cfg.AckTimeout), time.Until(s.nextUpkeep)))
		select {
		case <-s.stop:
			s.collect(time.Now()) // what is stored already is not left
			return
		case <-closing:
			closing, s.draining = nil, true
			s.hurry()
		case <-s.status:
		case <-s.buffer.wake.rung:
		case <-s.results.signal:
		case <-timer.C:
		}
	}
}

// cleanup ends what nats.go runs for the publishing context. Before the first
// result its goroutine may not have begun, and nats.go 1.55 would then leave it
// behind for ever; so in that case it is left to end with the connection.
func (s *sender) cleanup() {
	s.batches.close()
	s.repeats.close()
	if s.heard {
		s.js.CleanupPublisher()
	}
}

// finished reports whether a draining sender has nothing left that it could do.
func (s *sender) finished() bool {
	if !s.draining {
		return false
	}
	if s.nc.IsClosed() {
		return true
	}
	if spool := s.buffer.spool; spool != nil && spool.counts.unread.Load() > 0 {
		return false
	}
	turns, _, _ := s.buffer.left()
	return turns == 0
}

// watch follows the state of the connection. After a reconnect nothing waits
// out a backoff that it earned before.
func (s *sender) watch() {
	connected := s.nc.Status() == nats.CONNECTED
	reconnects := s.nc.Stats().Reconnects
	another := reconnects != s.reconnects
	s.reconnects = reconnects
	if another || !connected { // nobody will acknowledge what was sent before
		s.endFlying(nats.ErrDisconnected, time.Now())
	}
	if connected && (another || !s.connected) {
		s.hearMaxPayload()
		s.repeats.denied.Store(false) // permissions may be others now
		s.batches.reset()
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
	s.counts.inFlight.Store(int64(len(s.inFlight) + s.batches.turns))
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

// hearMaxPayload asks anew how long a turn may be: the server may be another one, or have
// another configuration, and so may the streams.
func (s *sender) hearMaxPayload() {
	var size int64
	if s.cfg.MaxMsgSize != nil {
		size = s.cfg.MaxMsgSize()
	}
	most := min(int64(stream.PayloadLimit(s.nc.MaxPayload(), size)), s.cfg.BufferBytes)
	if s.cfg.MaxPayload > 0 {
		most = min(most, int64(s.cfg.MaxPayload))
	}
	if s.cfg.SpoolDir != "" {
		most = min(most, s.cfg.SpoolMaxBytes/2)
	}
	s.maxPayload.Store(max(1, most))
}

// look sends what there is, and returns how long there is nothing to do unless
// something happens.
func (s *sender) look(now time.Time) (wait time.Duration) {
	listening := now.Sub(s.came) > lookFor
	s.buffer.wake.listen(listening)
	wait = s.send(now)
	switch {
	case s.sated: // what comes now has to wait for something else
		s.buffer.wake.listen(false)
	case !listening:
		wait = min(wait, lookEvery)
	}
	return wait
}

// send sends what the window, the gate and the backoffs allow, up to a bound,
// and returns how long nothing more can be sent unless something happens.
func (s *sender) send(now time.Time) (wait time.Duration) {
	s.sated = true
	if !s.connected {
		return statusEvery
	}
	for range sendAtOnce {
		free, wait := s.gate.allowed(now, s.alone-len(s.inFlight))
		if free == 0 && s.gate.closed {
			return cmp.Or(wait, upkeepEvery)
		}
		s.fill(now)
		retry := s.retries.first()
		if retry != nil && (s.first(retry, now) || len(s.fresh) == 0) {
			if wait := retry.due.Sub(now); wait > 0 {
				return wait
			}
			if free == 0 {
				return upkeepEvery
			}
			s.retries.removeFirst()
			s.transmit(retry, now)
			continue
		}
		n, together, wait := s.group(now)
		switch {
		case n == 0:
			if retry != nil {
				wait = min(wait, retry.due.Sub(now))
			}
			return wait
		case together:
			s.transmitBatch(n, now)
			return 0 // look at results first
		case free == 0:
			return upkeepEvery
		}
		for _, e := range s.fresh[:min(n, free)] {
			s.transmit(e, now)
		}
		s.drop(min(n, free))
	}
	return 0
}

// first reports whether a failed turn goes before those that were never sent.
// One that failed as a probe yields to them, so that no turn can keep the others from being tried.
func (s *sender) first(retry *entry, now time.Time) bool {
	return retry.due.IsZero() || !s.gate.closed && !now.Before(retry.due)
}

// fill takes turns from the buffer, as many as a batch may have.
func (s *sender) fill(now time.Time) {
	had, most := len(s.fresh), max(s.batches.limit, sendAtOnce)
	if had < most {
		s.freshBuf = s.buffer.take(append(s.freshBuf[:0], s.fresh...), most-had)
		s.fresh = s.freshBuf
	}
	if len(s.fresh) > had {
		s.came = now
	}
	s.sated = len(s.fresh) >= most
}

// drop forgets the first n fresh turns.
func (s *sender) drop(n int) {
	clear(s.fresh[:n])
	s.fresh = s.fresh[n:]
}

// group returns how many of the fresh turns to send now, and whether as one
// batch; with none, how long to wait for more of them. While nothing is in
// flight it never waits.
func (s *sender) group(now time.Time) (n int, together bool, wait time.Duration) {
	switch {
	case len(s.fresh) == 0:
		return 0, false, upkeepEvery
	case s.gate.closed:
		return 1, false, 0
	case !s.batches.usable(now):
		return min(len(s.fresh), sendAtOnce), false, 0
	}
	n, full := s.fitting()
	if !full && !s.draining && len(s.inFlight)+s.batches.turns > 0 {
		if wait := gatherFor - now.Sub(s.fresh[0].accepted); wait > 0 {
			return 0, false, wait
		}
	}
	switch {
	case n < minBatch && len(s.inFlight) >= aloneAtOnce:
		return 0, false, upkeepEvery // until results come, or enough turns for a batch
	case n < minBatch:
		return min(max(n, 1), aloneAtOnce-len(s.inFlight)), false, 0
	case len(s.batches.flying) >= batchesAtOnce:
		return 0, false, upkeepEvery
	}
	return n, true, 0
}

// fitting returns how many of the fresh turns fit into one batch, and whether it
// gains nothing by waiting.
func (s *sender) fitting() (n int, full bool) {
	bytes, longest := int64(0), s.maxPayload.Load()
	for i, e := range s.fresh {
		bytes += e.size
		if i == s.batches.size || i > 0 && bytes > maxBatchBytes || e.size > longest {
			return i, true
		}
	}
	return len(s.fresh), len(s.fresh) >= s.batches.size
}

// transmit begins one try of a turn by itself.
func (s *sender) transmit(e *entry, now time.Time) {
	if s.gate.closed {
		s.gate.probe = e
	}
	if e.msgID != "" {
		s.counts.retries.Add(1)
	}
	// A message of its own for each try tells a late result of an earlier one apart.
	m := &nats.Msg{
		Subject: stream.TurnSubject(e.snap.SessionID),
		Header:  nats.Header{stream.HeaderMsgID: {e.messageID()}},
		Data:    e.snap.Payload(),
	}
	if e.traceparent != "" {
		m.Header[stream.HeaderTraceparent] = []string{e.traceparent}
	}
	e.sent = now
	s.inFlight[m] = e
	if _, err := s.js.PublishMsgAsync(m, jetstream.WithRetryAttempts(0)); err != nil {
		s.end(result{msg: m, err: err}, now)
	}
}

// transmitBatch begins one try of the first n fresh turns together.
func (s *sender) transmitBatch(n int, now time.Time) {
	b, err := s.batches.send(s.fresh[:n], now)
	s.drop(n)
	if err != nil {
		s.endBatch(b, err, now)
	}
}

// upkeep now and then forgets old turns of Pending, and ends tries of which
// nothing was heard long after their timeout.
func (s *sender) upkeep(now time.Time) {
	if now.Before(s.nextUpkeep) {
		return
	}
	s.hearMaxPayload()
	s.nextUpkeep = now.Add(min(upkeepEvery, s.cfg.SettleFor/upkeepFraction+1, s.cfg.AckTimeout))
	if s.buffer.expire(now) {
		s.nextUpkeep = now
	}
	if s.buffer.spool != nil {
		s.buffer.spool.notice()
	}
	for m, e := range s.inFlight {
		if !e.sent.IsZero() && now.Sub(e.sent) > 2*s.cfg.AckTimeout {
			s.end(result{msg: m, err: errNoAnswer}, now)
		}
	}
}
