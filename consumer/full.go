package consumer

import (
	"context"

	"github.com/afterword-io/afterword/transcript"
)

// overfill hands turns of one session that it has no room for to those that bury dead letters:
// which of them are there already takes a look at all of the session.
func (c *Consumer) overfill(items []item) {
	select {
	case c.dead <- deadLetter{full: items}:
	default:
		c.later(items)
	}
}

// later lets turns come again when there is less to do.
func (c *Consumer) later(items []item) {
	for i := range items {
		c.stats.naked.Add(1)
		_ = items[i].msg.NakWithDelay(deadRetry)
	}
}

// takeFull takes those turns of a full session that are there already, later revisions of
// them, and what it still has room for. The others become dead letters.
func (c *Consumer) takeFull(ctx context.Context, items []item) {
	session := items[0].turn.SessionID
	turns := make([]transcript.Snapshot, len(items))
	for i := range items {
		turns[i] = items[i].turn
	}
	errs, err := c.cfg.Store.AppendFull(ctx, session, turns)
	if err != nil {
		c.later(items)
		c.cfg.Logger.Warn("a session that has no room cannot be looked through; its turns come again", "session", transcript.Token(session), "error", err)
		return
	}
	taken := false
	for i := range items {
		if errs[i] != nil {
			c.settleDead(ctx, deadLetter{msg: items[i].msg, reason: cleanReason(full + errs[i].Error())})
			continue
		}
		taken = true
		if items[i].msg.Ack() == nil {
			c.stats.acked.Add(1)
		}
	}
	if taken && c.cfg.Cache != nil {
		c.cfg.Cache.Changed(session)
	}
}
