package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/afterword-io/afterword/internal/live"
	"github.com/afterword-io/afterword/transcript"
)

// Events shows turns as they are stored, as [live.Feed] does.
type Events interface {
	Listen(ctx context.Context, want live.Want) (*live.Client, error)
}

// Events of the stream of GET /v1/events.
const (
	eventTurn = "turn"
	eventGap  = "gap"
)

// comeBack is what a client is told to wait before it connects again.
const comeBack = time.Second

// gapView is what a client will not be shown.
type gapView struct {
	Reason string `json:"reason"`
	Missed uint64 `json:"missed"`
	After  uint64 `json:"after"`
}

// getEvents shows turns as the stream stores them, as server-sent events, until the
// client leaves or the gateway stops.
func (g *Gateway) getEvents(w http.ResponseWriter, r *http.Request, _ place) error {
	if g.cfg.Events == nil {
		return absent("live turns")
	}
	want, limit, err := wantOf(r)
	if err != nil {
		return err
	}
	want.Client = g.cfg.Guard.Client(r)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	if r.Method == http.MethodHead {
		return nil
	}
	ctx, cancel := g.untilStopped(r.Context())
	defer cancel()
	client, err := g.listen(ctx, want)
	if err != nil {
		w.Header().Del("X-Accel-Buffering")
		return err
	}
	defer client.Close()
	out := &eventWriter{w: w, to: http.NewResponseController(w), bound: g.cfg.SendTimeout}
	// The server's bounds are those of a request that ends.
	_ = out.to.SetReadDeadline(time.Time{})
	out.begin(client.Position())
	for out.err == nil {
		wait, stop := context.WithTimeout(ctx, g.cfg.Heartbeat)
		it, err := client.Next(wait)
		stop()
		switch {
		case err == nil:
			if out.item(&it); limit > 0 {
				if limit--; limit == 0 {
					return nil
				}
			}
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded) && wait.Err() != nil:
			out.heartbeat(client.Position(), client.Waiting())
		default: // it comes again for more
			out.position(client.Position())
			return nil
		}
	}
	return nil
}

// listen takes a place among those who listen.
func (g *Gateway) listen(ctx context.Context, want live.Want) (*live.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.LookupTimeout)
	defer cancel()
	client, err := g.cfg.Events.Listen(ctx, want)
	switch {
	case errors.Is(err, live.ErrFull):
		return nil, newProblem(http.StatusServiceUnavailable, "clients", "Too many clients",
			"As many clients listen to this gateway as it serves. Try again later, or ask another one.").because(err)
	case errors.Is(err, live.ErrBusy):
		return nil, newProblem(http.StatusTooManyRequests, "events", "Too many streams of events",
			"This client listens to this gateway as often as one may. End one of its streams, or ask another gateway.").because(err)
	case err != nil:
		return nil, unavailable("The stream cannot be read now.", err)
	}
	return client, nil
}

// wantOf reads what a client listens for, and how much of it; 0 is no bound. A browser
// that comes again says by header what it has; that is newer than what is in the address.
func wantOf(r *http.Request) (want live.Want, limit int, err error) {
	query, err := parseQuery(r, "session", "prefix", "after", "limit")
	if err != nil {
		return want, 0, err
	}
	if limit, err = query.integer("limit", 0, 1, math.MaxInt32); err != nil {
		return want, 0, err
	}
	if query.Has("session") {
		want.Session = query.Get("session")
		if err := transcript.CheckSessionID(want.Session); err != nil {
			return want, 0, badRequest("session", err.Error())
		}
	}
	if want.Prefix, err = query.prefix(); err != nil {
		return want, 0, err
	}
	member, after := "after", query.Get("after")
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		member, after = "Last-Event-ID", id
	}
	if after == "" {
		return want, limit, nil
	}
	want.Resume = true
	if want.After, err = strconv.ParseUint(after, 10, 63); err != nil {
		return want, 0, badRequest(member, member+" is the id of an event, a number from 0 on.")
	}
	return want, limit, nil
}

// untilStopped is a context that ends when the gateway is told to stop, too.
func (g *Gateway) untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-g.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// eventWriter writes server-sent events, each within a bound. After an error
// it writes nothing.
type eventWriter struct {
	w     http.ResponseWriter
	to    *http.ResponseController
	bound time.Duration
	buf   []byte
	err   error
}

// begin says from where on events come, so that who loses the connection before the
// first one can come again without missing any.
func (e *eventWriter) begin(position uint64) {
	e.buf = append(e.buf[:0], "retry: "...)
	e.buf = strconv.AppendInt(e.buf, comeBack.Milliseconds(), 10)
	e.buf = append(e.buf, '\n')
	e.id(position)
	e.send()
}

func (e *eventWriter) id(sequence uint64) {
	e.buf = append(e.buf, "id: "...)
	e.buf = strconv.AppendUint(e.buf, sequence, 10)
	e.buf = append(e.buf, '\n')
}

// item writes a turn or a gap. Neither encoding has a line break.
func (e *eventWriter) item(it *live.Item) {
	e.buf = e.buf[:0]
	e.id(it.Sequence)
	if it.Gap == nil {
		e.buf = append(e.buf, "event: "+eventTurn+"\ndata: "...)
		e.buf = append(e.buf, it.Turn.Payload()...)
	} else {
		data, err := json.Marshal(gapView{it.Gap.Reason, it.Gap.Missed, it.Gap.After})
		if err != nil { // not with these members
			e.err = err
			return
		}
		e.buf = append(e.buf, "event: "+eventGap+"\ndata: "...)
		e.buf = append(e.buf, data...)
	}
	e.buf = append(e.buf, '\n')
	e.send()
}

// heartbeat shows that the connection lives, and how far it is.
func (e *eventWriter) heartbeat(position uint64, waiting error) {
	e.buf = append(e.buf[:0], ": heartbeat\n"...)
	if waiting != nil {
		e.buf = append(e.buf[:0], ": waiting for the stream\n"...)
	}
	e.id(position)
	e.send()
}

func (e *eventWriter) position(position uint64) {
	e.buf = e.buf[:0]
	e.id(position)
	e.send()
}

func (e *eventWriter) send() {
	if e.err != nil {
		return
	}
	e.buf = append(e.buf, '\n')
	if e.err = e.to.SetWriteDeadline(time.Now().Add(e.bound)); e.err != nil {
		return
	}
	if _, e.err = e.w.Write(e.buf); e.err == nil {
		e.err = e.to.Flush()
	}
}
