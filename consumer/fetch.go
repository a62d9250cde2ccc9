package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// waitForFirst is how long one request for a first message stands. A server
	// that restarts forgets it, so this is how late a reconnect is noticed; and a
	// stop lets it end, so that no message comes for nobody.
	waitForFirst = time.Second
	// fetchAgain is the longest wait before a fetch that failed, or joining the group, is tried again.
	fetchAgain = 2 * time.Second
	// firstChunk is how many messages are asked for before their size is known.
	firstChunk = 256
)

// pipeline is the way of batches: fetch and decode, write, sync and acknowledge,
// one batch in each stage.
type pipeline struct {
	*Consumer
	fetched chan *batch
	written chan *batch
	stop    context.CancelCauseFunc // ends fetching; a cause is what Run returns

	limit       int       // of the encoding of a turn in the batch that is fetched
	averageSize int       // of a message in the last batch
	looked      time.Time // when the durable consumer was looked at
	carry       *batch    // turns whose session was locked; they go with the next batch
}

// fetchLoop waits for one message and then takes what is there. Now and then it looks at the
// durable consumer: whoever deletes it, pauses it or changes its settings tells nobody.
func (p *pipeline) fetchLoop(ctx context.Context, cons jetstream.Consumer) {
	defer close(p.fetched)
	defer p.pulse.rest(fetching)
	wait := newBackoff(min(p.cfg.ProbeMax, fetchAgain))
	var failed repeated
	p.looked = time.Now()
	for ctx.Err() == nil {
		p.pulse.begin(fetching)
		if p.isUnwritable() { // the environment is at fault
			if err := p.waitUntilHealthy(ctx); err != nil {
				return
			}
		}
		b, err := p.fetch(ctx, cons)
		if len(b.items) > 0 {
			b.at = p.follower.now()
			p.track(b)
			p.pulse.rest(fetching)
			p.fetched <- b
			p.pulse.begin(fetching)
		}
		connected := p.cfg.JS.Conn().IsConnected() // else the connection says so, once
		if connected && time.Since(p.looked) >= p.cfg.LookEvery {
			again, looked := p.join(ctx)
			if p.looked = time.Now(); looked == nil {
				cons = again
			} else if err == nil && ctx.Err() == nil {
				err = looked
			}
		}
		switch {
		case err == nil:
			wait.Reset()
			failed.over(p.cfg.Logger, "turns are fetched again")
			p.setUnfetched(p.paused)
			continue
		case !p.worthWaiting(err):
			p.stop(err)
			return
		case errors.Is(err, jetstream.ErrConsumerDeleted), errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, nats.ErrNoResponders):
			failed.again(p.cfg.Logger, "the durable consumer is gone or has no leader; joining again", err)
			p.setUnfetched(fmt.Errorf("no turns come: the group is gone or has no leader: %w", err))
			if !sleep(ctx, wait.NextBackOff()) {
				return
			}
			p.pulse.rest(fetching)
			again, err := p.start(ctx) // the stream may be gone with it
			if err != nil {
				if ctx.Err() == nil {
					p.stop(err)
				}
				return
			}
			cons, p.looked = again, time.Now()
			continue
		case connected:
			failed.again(p.cfg.Logger, "fetch failed", err)
			p.setUnfetched(fmt.Errorf("no turns come: %w", err))
		}
		if !sleep(ctx, wait.NextBackOff()) {
			return
		}
	}
}

// fetch returns one batch, decoded. It may return a batch and an error.
func (p *pipeline) fetch(ctx context.Context, cons jetstream.Consumer) (*batch, error) {
	b := &batch{}
	p.limit = p.payloadLimit()
	size, count := 0, 0
	take := func(m jetstream.Msg) {
		count++
		size += len(m.Data())
		p.take(ctx, cons, b, m)
	}
	if err := stream.Pull(p.cfg.JS, cons, 1, waitForFirst, take); err != nil || count == 0 {
		return b, err
	}
	for count < p.cfg.BatchTurns && size < p.cfg.BatchBytes && ctx.Err() == nil {
		n := p.cfg.BatchTurns - count
		average := p.averageSize
		if count > 1 {
			average = size / count
		} else {
			n = min(n, firstChunk)
		}
		if average > 0 {
			n = min(n, max(1, (p.cfg.BatchBytes-size)/average))
		}
		before := count
		if err := stream.Pull(p.cfg.JS, cons, n, 0, take); err != nil {
			return b, err
		}
		if count-before < n {
			break
		}
	}
	p.averageSize = size / count
	return b, nil
}

// take decodes a message into the batch, or hands it to the dead letters.
func (p *pipeline) take(ctx context.Context, cons jetstream.Consumer, b *batch, m jetstream.Msg) {
	p.stats.fetched.Add(1)
	it := item{msg: m, at: time.Now()}
	if meta, err := m.Metadata(); err == nil {
		it.stored = meta.Timestamp
		p.stats.pending.Store(int64(meta.NumPending))
		p.follower.saw(meta.Sequence.Stream, meta.Sequence.Consumer, meta.NumPending)
		if meta.NumDelivered > 1 {
			p.stats.redelivered.Add(1)
		}
	}
	if m.Headers().Get(msgSize) != "" && len(m.Data()) == 0 && p.headersOnly(ctx, cons) {
		p.looked = time.Time{} // a look repairs that, and the message comes again
		return
	}
	var err error
	if it.turn, err = decode(m, it.stored, p.limit); err != nil {
		p.bury(m, err.Error())
		return
	}
	b.items = append(b.items, it)
}

// msgSize is the header that the server gives a message whose payload it leaves out.
const msgSize = "Nats-Msg-Size"

// headersOnly reports whether the durable consumer leaves out what messages say, or may do so.
func (p *pipeline) headersOnly(ctx context.Context, cons jetstream.Consumer) bool {
	if p.looked.IsZero() {
		return true // that has just been seen
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Request)
	defer cancel()
	info, err := cons.Info(ctx)
	return err != nil || info.Config.HeadersOnly
}

// decode reads the turn of a message, which the stream stored at a time. Its error is the
// reason of a dead letter. Whoever reads the stream decides with it, so that all decide the same.
func decode(m jetstream.Msg, stored time.Time, limit int) (transcript.Snapshot, error) {
	if err := checkType(m); err != nil {
		return transcript.Snapshot{}, err
	}
	return decodeTurn(m.Data(), strings.TrimPrefix(m.Subject(), stream.TurnPrefix), stored, limit)
}

func checkType(m jetstream.Msg) error {
	if kind := m.Headers().Get(stream.HeaderType); kind != "" && kind != "turn" {
		return errors.New("unknown " + stream.HeaderType)
	}
	return nil
}

// decodeTurn reads a payload that came under the token of a session.
func decodeTurn(payload []byte, token string, stored time.Time, limit int) (transcript.Snapshot, error) {
	if len(payload) > limit+stream.PayloadReserve { // it was stored by a server that took longer ones
		limit = math.MaxInt
	}
	turn, err := transcript.Decode(payload, limit)
	var said *transcript.RedactionError
	if errors.As(err, &said) {
		return transcript.Snapshot{}, fmt.Errorf("%s%w", redacted, err)
	}
	if err != nil {
		return transcript.Snapshot{}, err
	}
	if token != transcript.Token(turn.SessionID) {
		return transcript.Snapshot{}, errors.New("subject of another session: the session_id of the payload belongs on another one")
	}
	if err := turn.CheckAhead(stored); err != nil {
		return transcript.Snapshot{}, fmt.Errorf("%s%w", future, err)
	}
	return turn, nil
}
