package gateway

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// accepted is what a client keeps of a turn that was taken in.
type accepted struct {
	ID        string `json:"id"`
	Timestamp string `json:"timestamp"`
	Rev       int    `json:"rev"`
	Level     string `json:"level"`
}

func acceptedOf(r *publisher.Receipt, level publisher.Level) *accepted {
	return &accepted{r.ID, r.Timestamp.String(), r.Rev, level.String()}
}

// postTurn takes one turn in. It waits for nothing but the body, unless asked to.
func (g *Gateway) postTurn(w http.ResponseWriter, r *http.Request, at place) error {
	strict, err := strictOf(r)
	if err != nil {
		return err
	}
	if p := httpio.CheckContent(w, r, "application/json", httpio.IsJSON); p != nil {
		return p
	}
	key, err := keyOf(r.Header)
	if err != nil {
		return err
	}
	held := g.cfg.BodyMemory.Hold()
	defer held.Release()
	body, err := g.body(w, r, held)
	if err != nil {
		return err
	}
	draft, err := transcript.ParseDraft(body)
	if err != nil {
		return err
	}
	warnings, err := misspelt(&draft, strict)
	if err != nil {
		return err
	}
	if draft.SessionID != "" && draft.SessionID != at.session {
		return &transcript.RuleError{Member: "session_id", Rule: "is not the session in the path; leave it out"}
	}
	draft.SessionID = at.session
	if key != "" {
		if err := g.names.apply(&draft, key, body, g.cfg.Publisher.Stamp); err != nil {
			return err
		}
	}
	if err := g.room(&draft); err != nil {
		return err
	}
	receipt, err := g.cfg.Publisher.PublishDraft(r.Context(), &draft)
	if err != nil {
		if key != "" && transcript.Malformed(err) {
			g.names.forget(&draft)
		}
		return err
	}
	held.Release() // what is accepted counts as the publisher's
	status, level := http.StatusAccepted, publisher.Buffered
	if wait := g.wait(r.Header); wait > 0 {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
		if err := g.waitStored(r.Context(), receipt, wait); err != nil {
			return err
		}
		if level = receipt.Level(); level >= publisher.Stored {
			status = http.StatusCreated
		}
	}
	w.Header().Set("Location", turnPath(at.session, receipt.ID))
	return writeJSON(w, status, posted{*acceptedOf(receipt, level), warnings})
}

// room refuses a new turn of a session that is known to have none. A later revision is taken.
func (g *Gateway) room(d *transcript.Draft) error {
	if g.cfg.Full == nil || d.Rev > 1 || !g.cfg.Full(d.SessionID) {
		return nil
	}
	return newProblem(http.StatusRequestEntityTooLarge, "session-too-large", "The session is too large",
		"The turn was not accepted: the session is as large as --session-max-bytes allows. Begin another session.")
}

// waitStored returns when the turn is stored, or nil all the same when the wait,
// the client or the gateway ended before.
func (g *Gateway) waitStored(ctx context.Context, receipt *publisher.Receipt, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ctx, stop := g.untilStopped(ctx)
	defer stop()
	err := receipt.Wait(ctx, publisher.Stored)
	if !errors.Is(err, publisher.ErrClosed) {
		return nil
	}
	// Whether the stream has it, nobody here will learn. With the id and the
	// timestamp that it was given, sending it again adds nothing.
	p := newProblem(http.StatusServiceUnavailable, "closing", "Shutting down",
		"This gateway shut down before the turn was known to be stored. Send it again with this id, timestamp and rev.")
	p.Turn = acceptedOf(receipt, receipt.Level())
	return p.because(err)
}

// wait returns how long the client prefers to wait (RFC 7240), capped; 0 is not
// at all. What is malformed is no preference.
func (g *Gateway) wait(h http.Header) time.Duration {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			preference, _, _ = strings.Cut(preference, ";")
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			value = strings.Trim(strings.TrimSpace(value), `"`)
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				return 0
			}
			return min(time.Duration(n)*time.Second, g.cfg.MaxWait.Truncate(time.Second))
		}
	}
	return 0
}
