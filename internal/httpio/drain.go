package httpio

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// A client that sends more than it may, and reads the answer only when all is sent, gets a reset of the
// connection instead of the answer when nobody takes the rest. These bound what is taken.
const (
	// DrainBytes is how much of a refused body is read and thrown away.
	DrainBytes = 64 << 20
	// DrainTime is how long that may take.
	DrainTime = 10 * time.Second
	// ownDrain is what net/http takes by itself, before it answers.
	ownDrain = 256 << 10
)

// Drain makes the refusals of a handler reach clients that are still sending. It answers at once, and then
// takes the rest of the body, within bounds and until stop is closed. The connection ends with it.
func Drain(next http.Handler, stop <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength >= 0 && r.ContentLength <= ownDrain {
			next.ServeHTTP(w, r)
			return
		}
		to := http.NewResponseController(w)
		if to.EnableFullDuplex() != nil { // not net/http's own server
			next.ServeHTTP(w, r)
			return
		}
		body := &sentBody{ReadCloser: r.Body}
		r = r.WithContext(r.Context()) // the server's own request keeps its body
		r.Body = body
		out := &refusal{ResponseWriter: w, body: body}
		next.ServeHTTP(out, r)
		// Who waits for 100-continue sends nothing after a refusal.
		waits := !body.begun && strings.EqualFold(r.Header.Get("Expect"), "100-continue")
		if !out.refused || body.ended || waits || to.Flush() != nil || to.SetReadDeadline(time.Now().Add(DrainTime)) != nil {
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		go func() {
			select {
			case <-stop:
				to.SetReadDeadline(time.Now())
			case <-ctx.Done():
			}
		}()
		io.CopyN(io.Discard, body, DrainBytes) // whatever ends it, the connection ends too
	})
}

// sentBody is a body that knows how much of it was read.
type sentBody struct {
	io.ReadCloser
	begun, ended bool
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.begun = true
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}

// refusal notes that a request was refused before all of it had come.
type refusal struct {
	http.ResponseWriter
	body    *sentBody
	begun   bool
	refused bool
}

func (o *refusal) WriteHeader(status int) {
	if !o.begun && status >= http.StatusOK {
		o.begun = true
		if o.refused = status >= http.StatusBadRequest && !o.body.ended; o.refused {
			o.Header().Set("Connection", "close")
		}
	}
	o.ResponseWriter.WriteHeader(status)
}

func (o *refusal) Write(b []byte) (int, error) {
	if !o.begun {
		o.WriteHeader(http.StatusOK)
	}
	return o.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (o *refusal) Unwrap() http.ResponseWriter { return o.ResponseWriter }
