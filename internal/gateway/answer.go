package gateway

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/transcript"
)

// serve answers a request, whatever its handler does, then counts and logs it.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	g.metrics.inFlight.Inc()
	defer g.metrics.inFlight.Dec()
	rec := &recorder{ResponseWriter: w}

	handle, pattern, at, err := g.routes.find(r)
	r, span := g.span(r, pattern)
	switch {
	case err == nil:
		err = call(handle, rec, r, at)
	case g.cfg.Guard.Preflight(rec, r, problemOf(err).allow):
		err = nil
	}
	p := g.refuse(rec, r, err)
	took := time.Since(start)
	status := rec.answered()
	if p != nil {
		status = p.Status
	}
	endSpan(span, status)
	g.metrics.answered(pattern, r.Method, status, took)
	g.logRequest(r, pattern, at, status, took, p)
	if p != nil && rec.status != 0 && rec.status != p.Status {
		panic(http.ErrAbortHandler) // an answer was begun: cut it off rather than pass it for whole
	}
}

// turnAway answers what the guard refused. What the request is about is not looked at.
func (g *Gateway) turnAway(w http.ResponseWriter, r *http.Request, refused *httpio.Problem) {
	start := time.Now()
	p := problemOf(refused)
	p.write(w, g.cfg.RetryAfter)
	g.metrics.answered("", r.Method, p.Status, time.Since(start))
	g.logRequest(r, "", place{}, p.Status, time.Since(start), p)
}

// panicked is a handler's panic.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v\n%s", p.value, p.stack) }

func call(h handler, w http.ResponseWriter, r *http.Request, at place) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicked{v, debug.Stack()}
		}
	}()
	return h(w, r, at)
}

// refuse writes the problem that err is, unless an answer was begun.
func (g *Gateway) refuse(rec *recorder, r *http.Request, err error) *problem {
	if err == nil {
		return nil
	}
	p := problemOf(err)
	if r.Context().Err() != nil && p.Status >= http.StatusInternalServerError {
		p = gone(r)
	}
	if rec.status == 0 {
		p.write(rec, g.cfg.RetryAfter)
	}
	return p
}

func (g *Gateway) logRequest(r *http.Request, pattern string, at place, status int, took time.Duration, p *problem) {
	level := slog.LevelDebug
	switch {
	case status == statusGone:
	case p != nil && p.NotReady != nil && !g.otherFaults(p.NotReady):
	case status >= http.StatusInternalServerError:
		level = slog.LevelWarn
	case status >= http.StatusBadRequest:
		level = slog.LevelInfo
	}
	if !g.log.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("route", pattern),
		slog.Int("status", status), slog.Duration("took", took),
	}
	if at.session != "" {
		attrs = append(attrs, slog.String("session", transcript.Token(at.session)))
	}
	if at.turn != "" {
		attrs = append(attrs, slog.String("turn", at.turn))
	}
	message := "request answered"
	if p != nil {
		message = "request failed"
		attrs = append(attrs, slog.String("error", p.Error()))
	}
	g.log.LogAttrs(r.Context(), level, message, attrs...)
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int // 0 until the header is written
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= http.StatusOK {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// answered is the status that the client sees; a handler that writes nothing answers 200.
func (r *recorder) answered() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return writeRaw(w, status, append(body, '\n'))
}

// writeRaw writes JSON as it is. A client that does not take it is no error of ours.
func writeRaw(w http.ResponseWriter, status int, body []byte) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
	return nil
}
