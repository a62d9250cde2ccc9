package console

import (
	"net/http"

	"github.com/afterword-io/afterword/internal/httpio"
)

// policy lets the page have what it is made of, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// setHeaders sets those that every answer of the console has, beside what [httpio.Guard] sets.
func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

// change lets a handler change something, unless it must not.
func (c *Console) change(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if c.cfg.ReadOnly {
			return newProblem(http.StatusForbidden, "This console is read-only: it was started with --read-only.")
		}
		if p := httpio.CheckContent(w, r, "application/json", httpio.IsJSON); p != nil {
			return p
		}
		return h(w, r)
	}
}

// limited bounds how many such requests are answered at one time.
func (c *Console) limited(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
			return h(w, r)
		default:
			return newProblem(http.StatusServiceUnavailable, "Too many such requests are being answered. Try again.")
		}
	}
}
