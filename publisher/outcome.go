package publisher

import (
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// collect takes in how tries ended.
func (s *sender) collect(now time.Time) {
	list := s.results.swap(s.spare)
	for _, r := range list {
		if r.msg != nil {
			s.heard = true
			s.end(r, now)
		} else if b := s.batches.take(r.batch); b != nil {
			s.endBatch(b, r.err, now)
		}
	}
	s.spare = list
	for group := range slices.Chunk(s.stored, markAtOnce) {
		s.buffer.markStored(group, now)
		for _, e := range group {
			e.raise(Stored)
			if e.traced != nil {
				e.traced(nil)
				e.traced = nil // it may stay in Pending
			}
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
	if errors.Is(r.err, errDecoy) { // under an id that nobody can know before
		e.msgID = e.messageID() + "/" + uuid.NewString()
		e.due = time.Time{}
		s.retries.add(e)
		return
	}
	if r.err != nil {
		if errors.Is(r.err, jetstream.ErrAsyncPublishTimeout) || errors.Is(r.err, errNoAnswer) {
			s.counts.late.Add(1)
		}
		s.failed(e, r.err, now)
		return
	}
	s.counts.acks.Add(1)
	if r.duplicate != nil && !r.held {
		s.inFlight[r.msg], e.sent = e, time.Time{} // until it was read back, which has bounds of its own
		s.repeats.check(s, r)
		return
	}
	if r.duplicate != nil {
		s.counts.duplicates.Add(1)
	}
	s.taken(e, now)
}

// endBatch takes in how a batch ended. What is about the batch is found out by
// sending its turns one by one.
func (s *sender) endBatch(b *batch, err error, now time.Time) {
	if !errors.Is(err, nats.ErrDisconnected) {
		s.batches.learn(err, now)
	}
	var api *jetstream.APIError
	alone := errors.As(err, &api) || errors.Is(err, errNotOneBatch)
	if err == nil {
		s.counts.acks.Add(1)
	}
	for _, e := range b.entries {
		switch {
		case err == nil:
			s.taken(e, now)
		case alone:
			e.due = time.Time{}
			s.retries.add(e)
		default:
			s.failed(e, err, now)
		}
	}
}

// endFlying ends every batch in flight.
func (s *sender) endFlying(err error, now time.Time) {
	for len(s.batches.flying) > 0 {
		s.endBatch(s.batches.take(s.batches.flying[0].number), err, now)
	}
}

// endLate ends the batches whose acknowledgement is late.
func (s *sender) endLate(now time.Time) {
	for f := s.batches.flying; len(f) > 0 && now.Sub(f[0].sent) >= s.cfg.AckTimeout; f = s.batches.flying {
		s.counts.late.Add(1)
		s.endBatch(s.batches.take(f[0].number), jetstream.ErrAsyncPublishTimeout, now)
	}
}

// taken notes that the stream has e.
func (s *sender) taken(e *entry, now time.Time) {
	s.storedSoFar++
	s.stored = append(s.stored, e)
	if e.aside {
		s.counts.aside.Add(-1)
	}
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
	e.refused(err)
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
				"session", transcript.Token(e.snap.SessionID), "turn", e.snap.ID, "bytes", e.size, "error", err)
		}
		s.counts.asideWhy.Store(&err)
		if !e.aside {
			e.aside = true
			s.counts.aside.Add(1)
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
			if s.gate.probes == 1 && stream.CheckDenied(s.nc, 2*s.cfg.AckTimeout, `Publish to "`+stream.TurnPrefix) == nil { // which the connection names
				s.log.Warn("the stream takes no turns, keeping them and trying again", "error", err)
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
