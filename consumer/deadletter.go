package consumer

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	deadQueue   = 4096 // dead letters waiting to be published
	deadWorkers = 8    // publishing at one time
	deadRetry   = 5 * time.Second
	maxReason   = 1024 // bytes of a reason that are kept
)

// headerTruncated says how long the payload of a dead letter was that did not fit
// whole; the original stays in the stream at its sequence.
const headerTruncated = "Afterword-Truncated"

// deadLetter is a message that cannot be processed.
type deadLetter struct {
	msg    jetstream.Msg
	reason string
	full   []item // instead of both: turns of a session that has no room for them
}

// bury hands a message to the dead letters without waiting; when too many are on
// their way already, it comes again later.
func (c *Consumer) bury(m jetstream.Msg, reason string) {
	select {
	case c.dead <- deadLetter{msg: m, reason: cleanReason(reason)}:
	default:
		c.stats.naked.Add(1)
		_ = m.NakWithDelay(deadRetry)
	}
}

// cleanReason makes a reason fit for a header.
func cleanReason(reason string) string {
	reason = strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, reason), "?")
	return reason[:min(len(reason), maxReason)]
}

// deadLoop publishes dead letters first and terminates their originals then, so
// that a message is always in one of the two.
func (c *Consumer) deadLoop(ctx context.Context) {
	for d := range c.dead {
		if d.full != nil {
			c.takeFull(ctx, d.full)
		} else {
			c.settleDead(ctx, d)
		}
	}
}

func (c *Consumer) settleDead(ctx context.Context, d deadLetter) {
	if err := c.publishDead(ctx, d); err != nil {
		c.stats.deadFailed.Add(1)
		c.stats.naked.Add(1)
		_ = d.msg.NakWithDelay(deadRetry)
		c.unburied.again(c.cfg.Logger, "dead letters cannot be stored; their messages come again", err, "subject", d.msg.Subject())
		return
	}
	c.unburied.over(c.cfg.Logger, "dead letters are stored again")
	c.stats.dead[KindOf(d.reason).index()].Add(1)
	if err := d.msg.TermWithReason(d.reason); err != nil {
		c.cfg.Logger.Warn("a dead letter could not be terminated; it comes again, which does no harm", "subject", d.msg.Subject(), "error", err)
	}
}

// Unburied is why dead letters cannot be stored now, or nil. A letter that could not be comes again within
// [deadRetry] and one request; when none has come for longer, another consumer has it, or its message is gone.
func (c *Consumer) Unburied() error {
	if err := c.unburied.last(2*deadRetry + c.cfg.Request); err != nil {
		return fmt.Errorf("dead letters cannot be stored, so their messages come again: %w", err)
	}
	return nil
}

func (c *Consumer) publishDead(ctx context.Context, d deadLetter) error {
	meta, err := d.msg.Metadata()
	if err != nil {
		return err
	}
	subject, err := stream.DeadSubject(c.cfg.Group)
	if err != nil {
		return err
	}
	h, leftOut := carried(d.msg.Headers())
	if leftOut > 0 {
		h.Set(headerLeftOut, strconv.Itoa(leftOut))
	}
	h.Set(stream.HeaderMsgID, stream.DeadMsgID(c.cfg.Group, meta.Sequence.Stream))
	h.Set(stream.HeaderReason, d.reason)
	h.Set(stream.HeaderStreamSeq, strconv.FormatUint(meta.Sequence.Stream, 10))
	h.Set(stream.HeaderSubject, d.msg.Subject())
	h.Set(stream.HeaderTime, time.Now().UTC().Format(time.RFC3339Nano))
	known := false // it was stored before
	send := func(limit int) error {
		data := d.msg.Data()
		if len(data) > limit {
			h.Set(headerTruncated, strconv.Itoa(len(data)))
			data = data[:limit]
		}
		ack, err := stream.PublishOnce(ctx, c.cfg.JS, &nats.Msg{Subject: subject, Header: h, Data: data}, c.cfg.Request, stream.HeaderTime)
		known = ack != nil && ack.Duplicate
		return err
	}
	if err = send(c.payloadLimit()); tooLong(err) { // the dead-letter stream has a limit of its own
		var size int64
		if size, err = stream.MaxMsgSize(ctx, c.cfg.JS); err == nil {
			err = send(stream.PayloadLimit(c.cfg.JS.Conn().MaxPayload(), size))
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) {
		c.stats.deadLate.Add(1)
		err = stream.Explain(c.cfg.JS, "publish to "+subject, err)
	}
	if err == nil && !known {
		c.cfg.Logger.Warn("dead letter", "subject", d.msg.Subject(), "sequence", meta.Sequence.Stream, "reason", d.reason)
	}
	return err
}

// tooLong reports whether a message was refused for its length.
func tooLong(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, nats.ErrMaxPayload) || errors.As(err, &api) && api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum
}
