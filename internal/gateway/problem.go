package gateway

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/afterword-io/afterword/internal/httpio"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// typePrefix begins the type of a problem that its status alone does not tell from others.
const typePrefix = httpio.TypePrefix

// statusGone stands in logs and figures for a request whose client went away
// before it was answered, as nginx has it.
const statusGone = 499

// problem is an error as a client sees it (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Member string `json:"member,omitempty"` // of the turn or the query, when one is at fault

	// Turn is what was accepted all the same.
	Turn *accepted `json:"turn,omitempty"`
	// NotReady names what /readyz found, and Exposed is as in [readiness].
	NotReady []fault  `json:"not_ready,omitempty"`
	Exposed  []string `json:"exposed,omitempty"`

	// Taken and Results are what became of the lines of a batch.
	Taken   *int         `json:"taken,omitempty"`
	Results []lineResult `json:"results,omitempty"`

	allow string // of a 405
	cause error  // for the log; nil when Detail says it all
}

func (p *problem) Error() string {
	if p.cause != nil {
		return p.cause.Error()
	}
	return p.Detail
}

func (p *problem) Unwrap() error { return p.cause }

func newProblem(status int, word, title, detail string) *problem {
	p := &problem{Type: "about:blank", Title: title, Status: status, Detail: detail}
	if word != "" {
		p.Type = httpio.TypePrefix + word
	}
	if title == "" {
		p.Title = http.StatusText(status)
	}
	return p
}

func (p *problem) of(member string) *problem { p.Member = member; return p }

func (p *problem) because(err error) *problem { p.cause = err; return p }

func notFound(detail string) *problem { return newProblem(http.StatusNotFound, "", "", detail) }

func notAllowed(allow string) *problem {
	return problemOf(httpio.NotAllowed(allow))
}

func badRequest(member, detail string) *problem {
	return newProblem(http.StatusBadRequest, "request", "Bad request", detail).of(member)
}

// badSession is a session id in the path that breaks a rule.
func badSession(err error) *problem {
	return newProblem(http.StatusBadRequest, "session", "Bad session id", err.Error()).of("session_id")
}

func tooLarge(limit int64) *problem {
	return newProblem(http.StatusRequestEntityTooLarge, "too-large", "Too large",
		"The text of a turn is at most "+strconv.FormatInt(limit, 10)+" bytes long.")
}

// absent is what this gateway has no source for.
func absent(what string) *problem {
	return newProblem(http.StatusNotImplemented, "absent", "", "This gateway has no "+what+" at hand; ask one that has.")
}

// unavailable is trouble that may pass.
func unavailable(detail string, cause error) *problem {
	return newProblem(http.StatusServiceUnavailable, "unavailable", "", detail).because(cause)
}

// incomplete is an answer that this gateway can only give in part, and does not give.
func incomplete(detail string, cause error) *problem {
	return newProblem(http.StatusServiceUnavailable, "incomplete", "Turns may be missing", detail).because(cause)
}

// problemOf tells a client what err means.
func problemOf(err error) *problem {
	var (
		p      *problem
		shared *httpio.Problem
		syntax *transcript.SyntaxError
		rule   *transcript.RuleError
		large  *transcript.TooLargeError
		body   *http.MaxBytesError
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &shared):
		return &problem{Type: shared.Type, Title: shared.Title, Status: shared.Status, Detail: shared.Detail, allow: shared.Allow}
	case errors.As(err, &syntax):
		return newProblem(http.StatusBadRequest, "json", "Not acceptable JSON", err.Error())
	case errors.As(err, &rule):
		return newProblem(http.StatusUnprocessableEntity, "rule", "The turn breaks a rule", rule.Error()).of(rule.Member)
	case errors.As(err, &large):
		return newProblem(http.StatusRequestEntityTooLarge, "too-large", "Too large", large.Error())
	case errors.As(err, &body):
		return tooLarge(body.Limit)
	case errors.Is(err, publisher.ErrOverflow):
		return newProblem(http.StatusServiceUnavailable, "overflow", "The buffer is full",
			"The turn was not accepted: the stream takes turns more slowly than they come. Try again later.").because(err)
	case errors.Is(err, publisher.ErrClock):
		return newProblem(http.StatusServiceUnavailable, "clock", "The clock is wrong",
			"The turn was not accepted: the clock of this gateway's machine is outside the years 1970 to 2199. Set it.").because(err)
	case errors.Is(err, publisher.ErrClosed):
		return newProblem(http.StatusServiceUnavailable, "closing", "Shutting down",
			"The turn was not accepted: this gateway is shutting down. Try again.").because(err)
	}
	return newProblem(http.StatusInternalServerError, "internal", "", "See the log of the gateway.").because(err)
}

// gone is the problem of a request whose client has left; nobody will read it.
func gone(r *http.Request) *problem {
	return newProblem(statusGone, "gone", "Client closed request", "").because(context.Cause(r.Context()))
}

func (p *problem) write(w http.ResponseWriter, retryAfter time.Duration) {
	httpio.WriteProblem(w, p.Status, p.allow, int(math.Ceil(retryAfter.Seconds())), p)
}
