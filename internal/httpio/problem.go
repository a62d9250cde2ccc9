package httpio

import (
	"cmp"
	"encoding/json"
	"net/http"
	"strconv"
)

// TypePrefix and a word make the type of a problem that its status alone does not tell from others.
const TypePrefix = "urn:afterword:problem:"

// Problem is an error as a client sees it (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`

	// Allow is the header of a 405; "" when the path answers no method.
	Allow string `json:"-"`
	// RetryAfter is the header of a 429 or 503, in seconds; 0 means 1.
	RetryAfter int `json:"-"`
}

// NewProblem makes a problem. Without a word its status says all of its type.
func NewProblem(status int, word, detail string) *Problem {
	p := &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail}
	if word != "" {
		p.Type = TypePrefix + word
	}
	return p
}

// NotAllowed is a path that does not answer this method. allow lists those that it answers; "" is none.
func NotAllowed(allow string) *Problem {
	p := NewProblem(http.StatusMethodNotAllowed, "", "This path answers "+cmp.Or(allow, "no method")+".")
	p.Allow = allow
	return p
}

func (p *Problem) Error() string { return p.Detail }

// Write answers with the problem.
func (p *Problem) Write(w http.ResponseWriter) {
	WriteProblem(w, p.Status, p.Allow, p.RetryAfter, p)
}

// WriteProblem answers with a problem document.
func WriteProblem(w http.ResponseWriter, status int, allow string, retryAfter int, document any) {
	h := w.Header()
	if status == http.StatusMethodNotAllowed {
		h.Set("Allow", allow)
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		h.Set("Retry-After", strconv.Itoa(max(1, retryAfter)))
	}
	h.Set("Content-Type", "application/problem+json")
	body, err := json.Marshal(document)
	if err != nil { // not with the members of a problem
		body = []byte(`{"type":"about:blank"}`)
	}
	// The length is known, so that the answer is whole before the rest of the request is taken.
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // a client that went away is no error of ours
}
