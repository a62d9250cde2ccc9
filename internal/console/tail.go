package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/transcript"
)

const (
	// tailRate is how many turns a second a page is sent: nobody reads faster. What
	// does not fit is a gap.
	tailRate = 50
	// heartbeat is how often a quiet stream of events says that it is there.
	heartbeat = 10 * time.Second
	// tailWrite bounds one write to a page.
	tailWrite = 10 * time.Second
)

// tail sends turns as they are stored, as server-sent events: "turn", "gap" for what
// is left out, "waiting" while the stream cannot be read, and "idle" as a sign of life.
func (c *Console) tail(w http.ResponseWriter, r *http.Request) error {
	prefix := r.URL.Query().Get("prefix")
	if len(prefix) > transcript.MaxSessionID || !utf8.ValidString(prefix) {
		return newProblem(http.StatusBadRequest, "prefix is the beginning of a session id.")
	}
	if c.cfg.Feed == nil {
		return newProblem(http.StatusNotImplemented, "There is no live feed in this process.")
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() { // a stop of the console ends it too
		select {
		case <-c.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	bound, done := context.WithTimeout(ctx, c.cfg.LookupTimeout)
	client, err := c.cfg.Feed.Listen(bound, live.Want{Prefix: prefix, Client: c.cfg.Client(r)})
	done()
	switch {
	case errors.Is(err, live.ErrFull):
		return newProblem(http.StatusServiceUnavailable, "Too many are listening already. Close a tail somewhere else.")
	case errors.Is(err, live.ErrBusy):
		return newProblem(http.StatusTooManyRequests, "This client listens as often as one may. Close a tail somewhere else.")
	case err != nil:
		return err
	}
	defer client.Close()
	out := events{w: w, control: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)
	if out.send("open", struct{}{}) != nil {
		return nil
	}
	limit := rate.NewLimiter(tailRate, tailRate)
	for {
		next, stop := context.WithTimeout(ctx, heartbeat)
		item, err := client.Next(next)
		stop()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			err = out.quiet(client.Waiting())
		case err != nil:
			return nil // the page comes again
		case item.Gap != nil:
			err = out.send("gap", map[string]any{"reason": item.Gap.Reason, "missed": item.Gap.Missed})
		default:
			err = out.turn(&item, withText(r))
		}
		if err != nil || limit.Wait(ctx) != nil {
			return nil
		}
	}
}

// events writes server-sent events.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (e *events) send(kind string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", kind, data)
	_ = e.control.SetWriteDeadline(time.Now().Add(tailWrite)) // where a writer has none, the server's stays
	if _, err := e.w.Write(b.Bytes()); err != nil {
		return err
	}
	return e.control.Flush()
}

func (e *events) quiet(waiting error) error {
	if waiting != nil {
		return e.send("waiting", map[string]string{"why": waiting.Error()})
	}
	return e.send("idle", struct{}{})
}

func (e *events) turn(item *live.Item, text bool) error {
	t, err := show(&item.Turn, text)
	if err != nil {
		return err
	}
	t.Session = item.Turn.SessionID
	return e.send("turn", map[string]any{"sequence": item.Sequence, "stored": item.Stored.UTC(), "turn": t})
}
