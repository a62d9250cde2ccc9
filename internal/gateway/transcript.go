package gateway

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

const tooManyReaders = "Too many transcripts are being read now. Try again later."

// defaultPage is how many turns a page of a transcript has at most unless it is told.
const defaultPage = 100

// getTranscript shows the merged document, byte for byte what a fold would write, or with
// any of after, before and limit a page of it.
func (g *Gateway) getTranscript(w http.ResponseWriter, r *http.Request, at place) error {
	if g.cfg.Transcripts == nil {
		return absent("transcripts")
	}
	page, err := parsePage(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.LookupTimeout)
	defer cancel()
	view, err := g.cfg.Transcripts.View(ctx, at.session)
	if errors.Is(err, transcript.ErrNoSession) {
		return notFound("Nothing is stored for this session.")
	}
	if err == nil && view.Partial {
		view.Close()
		err = transcript.ErrPartial
	}
	if errors.Is(err, transcript.ErrPartial) {
		return incomplete("The transcript cannot be read whole here: the stream has removed messages, and this gateway has no transcripts that must have all of them. Ask one that has.", err)
	}
	if errors.Is(err, transcript.ErrMemory) {
		return unavailable(tooManyReaders, err)
	}
	if err != nil {
		return unavailable("The transcript cannot be read now.", err)
	}
	defer view.Close()
	if page != nil {
		return g.sendPage(ctx, w, r, view, page)
	}
	if unchanged(w, r, `"`+view.Tag()+`"`) {
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.FormatInt(view.Size(), 10))
	if r.Method == http.MethodHead {
		return nil
	}
	out := g.patient(w)
	_, err = view.WriteTo(r.Context(), out)
	return out.cut(r, err)
}

// pageEnd stands for the end of a transcript in before, and for its beginning in after. It is what an
// empty page gives where it has no id to give: "" says that there is nothing more.
const pageEnd = "~"

// page is a part of a transcript that is asked for.
type page struct {
	after, before string // ids; "" with has is the beginning, or the end, and so is pageEnd
	has           struct{ after, before bool }
	limit         int
}

func parsePage(r *http.Request) (*page, error) {
	query, err := parseQuery(r, "after", "before", "limit")
	if err != nil || len(query.Values) == 0 {
		return nil, err
	}
	p := &page{after: query.Get("after"), before: query.Get("before")}
	p.has.after, p.has.before = query.Has("after"), query.Has("before")
	if p.limit, err = query.integer("limit", defaultPage, 1, maxLimit); err != nil {
		return nil, err
	}
	for _, name := range []string{"after", "before"} {
		if id := query.Get(name); id != "" && id != pageEnd && transcript.CheckTurnID(id) != nil {
			return nil, badRequest(name, name+" is the id of a turn, or empty.")
		}
	}
	return p, nil
}

// bounds returns the indexes of the first turn of the page, and of what follows it.
func (p *page) bounds(ctx context.Context, view *transcript.View) (from, to int, err error) {
	to = view.Len()
	if p.after != "" && p.after != pageEnd {
		if from, err = placeOf(ctx, view, "after", p.after); err != nil {
			return 0, 0, err
		}
		from++
	}
	if p.before != "" && p.before != pageEnd {
		if to, err = placeOf(ctx, view, "before", p.before); err != nil {
			return 0, 0, err
		}
	}
	to = max(from, to)
	if p.has.before && !p.has.after { // the last ones before it
		return max(from, to-p.limit), to, nil
	}
	return from, min(to, from+p.limit), nil
}

func placeOf(ctx context.Context, view *transcript.View, member, id string) (int, error) {
	at, err := view.Index(ctx, id)
	switch {
	case err != nil:
		return 0, unavailable("The transcript cannot be read now.", err)
	case at < 0:
		return 0, notFound("There is no such turn in this transcript.").of(member)
	}
	return at, nil
}

// sendPage writes a page turn by turn, in an object of its own: it is no document.
func (g *Gateway) sendPage(ctx context.Context, w http.ResponseWriter, r *http.Request, view *transcript.View, p *page) error {
	from, to, err := p.bounds(ctx, view)
	if err != nil {
		return err
	}
	if unchanged(w, r, fmt.Sprintf(`"%s-%d-%d"`, view.Tag(), from, to)) {
		return nil
	}
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodHead {
		return nil
	}
	client := g.patient(w)
	out := bufio.NewWriter(client)
	b := appendString([]byte(`{"session_id":`), view.SessionID)
	b = strconv.AppendInt(append(b, `,"revision":`...), view.Revision(), 10)
	b = strconv.AppendInt(append(b, `,"total":`...), int64(view.Len()), 10)
	out.Write(append(b, `,"messages":[`...))
	var first, last string
	err = view.Each(r.Context(), from, to, func(i int, s *transcript.Snapshot) error {
		if b = b[:0]; i > from {
			b = append(b, ',')
		} else {
			first = s.ID
		}
		last = s.ID
		b = s.AppendMessage(append(b, '\n'))
		_, err := out.Write(b)
		return err
	})
	if err != nil {
		return client.cut(r, err)
	}
	if from == to {
		if first, last, err = around(r.Context(), view, from); err != nil {
			return client.cut(r, err)
		}
	}
	if from == 0 {
		first = ""
	}
	if to == view.Len() {
		last = ""
	}
	b = appendString(append(b[:0], "\n],\"prev\":"...), first)
	b = appendString(append(b, `,"next":`...), last)
	out.Write(append(b, "}\n"...))
	return client.cut(r, out.Flush())
}

// around returns what before and after are for the turns in front of a place, and for those behind it.
func around(ctx context.Context, view *transcript.View, at int) (before, after string, err error) {
	before, after = pageEnd, pageEnd
	err = view.Each(ctx, at-1, at+1, func(i int, s *transcript.Snapshot) error {
		if i < at {
			after = s.ID
		} else {
			before = s.ID
		}
		return nil
	})
	return before, after, err
}

// perDeadline is how much is written before a client gets another SendTimeout.
const perDeadline = 1 << 20

// patient writes to a client for as long as it takes a part of the answer within SendTimeout.
func (g *Gateway) patient(w http.ResponseWriter) *patientWriter {
	return &patientWriter{w: w, control: http.NewResponseController(w), bound: g.cfg.SendTimeout}
}

type patientWriter struct {
	w       io.Writer
	control *http.ResponseController
	bound   time.Duration
	left    int   // until the next deadline
	err     error // of the client
}

func (p *patientWriter) Write(b []byte) (int, error) {
	if p.left -= len(b); p.left <= 0 {
		p.left = perDeadline
		_ = p.control.SetWriteDeadline(time.Now().Add(p.bound)) // a writer without deadlines is bounded otherwise
	}
	n, err := p.w.Write(b)
	if err != nil {
		p.err = err
	}
	return n, err
}

// cut ends an answer that was begun and cannot be finished, so that it is not taken for
// whole. A client that does not take it is no error of ours.
func (p *patientWriter) cut(r *http.Request, err error) error {
	switch {
	case err == nil:
		return nil
	case p.err != nil:
		return newProblem(statusGone, "gone", "Client closed request", "").because(p.err)
	}
	return unavailable("The transcript could not be read to its end.", err)
}
