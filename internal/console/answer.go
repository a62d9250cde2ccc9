package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// maxBody bounds what a request may say, in bytes.
const maxBody = 64 << 10

// handler answers one request. An error that it returns becomes a problem
// document; it returns one only when it has written nothing.
type handler func(w http.ResponseWriter, r *http.Request) error

// problem is an error as the page sees it.
type problem = httpio.Problem

func newProblem(status int, detail string) *problem { return httpio.NewProblem(status, "", detail) }

// problemOf tells people what err means. Errors of NATS, files and Redis hold no
// secrets and nothing of what was said.
func problemOf(err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, transcript.ErrNoSession):
		return newProblem(http.StatusNotFound, "Nothing is stored for this session.")
	case errors.Is(err, consumer.ErrNoLetter):
		return newProblem(http.StatusNotFound, "This dead letter is not there any more.")
	case errors.Is(err, stream.ErrNoStream):
		return newProblem(http.StatusServiceUnavailable, err.Error()+". Make the streams with `afterword stream init`.")
	case errors.Is(err, context.DeadlineExceeded):
		return newProblem(http.StatusServiceUnavailable, "There was no answer in time: "+err.Error())
	}
	return newProblem(http.StatusServiceUnavailable, err.Error())
}

// answer makes a handler answer HTTP.
func (c *Console) answer(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil || r.Context().Err() != nil {
			return
		}
		p := problemOf(err)
		level := slog.LevelInfo
		if p.Status >= http.StatusInternalServerError {
			level = slog.LevelWarn
		}
		c.cfg.Logger.Log(r.Context(), level, "console request failed", "method", r.Method, "route", r.Pattern, "status", p.Status, "error", err)
		p.Write(w)
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return writeBody(w, status, v)
}

func writeBody(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // a browser that went away is no error of ours
	return nil
}

// readJSON reads what a request says.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil && dec.More() {
		err = errors.New("something follows the object")
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("A request is at most %d bytes long.", large.Limit))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return newProblem(http.StatusBadRequest, "The request is not what is expected here: "+jsonReason(err)+".")
	}
	if err != nil {
		return newProblem(http.StatusBadRequest, "The request is empty.")
	}
	return nil
}

// jsonReason says what is wrong with a request without the types of this program.
func jsonReason(err error) string {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return kind.Field + " is of another type"
	case errors.As(err, &kind):
		return "it is no object"
	case errors.As(err, &syntax):
		return fmt.Sprintf("it is not JSON at byte %d", syntax.Offset)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

// number reads a parameter from low to high.
func number(r *http.Request, name string, fallback, low, high int64) (int64, error) {
	s := r.URL.Query().Get(name)
	if s == "" {
		return fallback, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < low || n > high {
		return 0, newProblem(http.StatusBadRequest, fmt.Sprintf("%s is an integer from %d to %d.", name, low, high))
	}
	return n, nil
}

// withText reports whether what people wrote is asked for.
func withText(r *http.Request) bool { return r.URL.Query().Get("text") == "1" }

// sessionOf reads the session that a request is about.
func sessionOf(r *http.Request) (string, error) {
	session := r.URL.Query().Get("session")
	if err := transcript.CheckSessionID(session); err != nil {
		return "", newProblem(http.StatusBadRequest, "session: "+err.Error())
	}
	return session, nil
}
