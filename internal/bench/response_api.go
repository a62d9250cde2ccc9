package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Writer is a way to keep what was said.
type Writer string

// The writers.
const (
	WriterNone      Writer = "none"      // nothing is kept
	WriterInline    Writer = "inline"    // the older way: inside the request
	WriterAfterword Writer = "afterword" // the reply goes out first
)

// Writers are all of them, the baseline first.
func Writers() []Writer { return []Writer{WriterNone, WriterInline, WriterAfterword} }

const (
	answerBytes    = 700              // with the question and the JSON around it a turn of about 1 KiB
	apiDrain       = 90 * time.Second // for what the writer still has to do when the API ends
	shutdownBound  = 10 * time.Second
	historyTurns   = 10
	headerDeadline = 5 * time.Second
)

// chatTurn is one turn as the model gets it.
type chatTurn struct {
	User      string `json:"user"`
	Assistant string `json:"assistant"`
}

// chatWriter is what the API asks for history and tells what was said. history
// never fails: a chat goes on with what is known.
type chatWriter interface {
	history(ctx context.Context, session string) []chatTurn
	save(ctx context.Context, session string, past []chatTurn, said chatTurn) error
	// close returns when nothing is left to write.
	close(ctx context.Context) error
}

type nothingWriter struct{}

func (nothingWriter) history(context.Context, string) []chatTurn               { return nil }
func (nothingWriter) save(context.Context, string, []chatTurn, chatTurn) error { return nil }
func (nothingWriter) close(context.Context) error                              { return nil }

// chatRequest and chatReply are what users and the API chatTurn.
type chatRequest struct {
	Session string `json:"session"`
	User    string `json:"user"`
}

type chatReply struct {
	Assistant string `json:"assistant"`
	Past      int    `json:"past"` // turns of history that the model got
}

// chatReport is what the API says of itself, since it was asked last.
type chatReport struct {
	Lag     Latencies `json:"lag"`
	History Latencies `json:"history"` // what loading it took
	Save    Latencies `json:"save"`    // what keeping a turn took
}

// chatAPI is a small chat service: it loads the history, calls a model, which
// takes a fixed time, keeps what was said, and answers.
type chatAPI struct {
	writer chatWriter
	think  time.Duration
	lag    *lag

	history, save durations
}

// durations are collected by many.
type durations struct {
	mu   sync.Mutex
	took []time.Duration
}

func (d *durations) since(began time.Time) {
	took := time.Since(began)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.took = append(d.took, took)
}

// take returns what was collected since the last time.
func (d *durations) take() Latencies {
	d.mu.Lock()
	took := d.took
	d.took = nil
	d.mu.Unlock()
	return Quantiles(took)
}

func (a *chatAPI) chat(w http.ResponseWriter, r *http.Request) {
	var ask chatRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	began := time.Now()
	past := a.writer.history(r.Context(), ask.Session)
	a.history.since(began)
	said := chatTurn{ask.User, a.model()}
	began = time.Now()
	err := a.writer.save(r.Context(), ask.Session, past, said)
	a.save.since(began)
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(chatReply{said.Assistant, len(past)}) // the user may have gone
}

// model thinks and answers.
func (a *chatAPI) model() string {
	time.Sleep(a.think)
	return strings.Repeat("And so on. ", answerBytes/11)
}

func (a *chatAPI) report(w http.ResponseWriter, _ *http.Request) {
	_ = json.NewEncoder(w).Encode(chatReport{a.lag.take(), a.history.take(), a.save.take()})
}

// serveChat is the API's process.
func serveChat(ctx context.Context, j partJob, say func(partLine)) (err error) {
	writer, err := newChatWriter(ctx, j)
	if err != nil {
		return err
	}
	a := &chatAPI{writer: writer, think: j.Think, lag: startLag()}
	defer a.lag.stop()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /chat", a.chat)
	mux.HandleFunc("GET /report", a.report)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, writer.close(ctx))
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerDeadline}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	say(partLine{Ready: true, Addr: ln.Addr().String()})
	select {
	case err = <-ended:
	case <-ctx.Done():
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownBound)
		defer cancel()
		err = srv.Shutdown(bound)
		<-ended
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiDrain)
	defer cancel()
	return errors.Join(err, writer.close(bound))
}

func newChatWriter(ctx context.Context, j partJob) (chatWriter, error) {
	switch j.Writer {
	case WriterNone:
		return nothingWriter{}, nil
	case WriterInline:
		return newInlineWriter(j)
	case WriterAfterword:
		return newPublishingWriter(ctx, j)
	}
	return nil, fmt.Errorf("unknown writer %q", j.Writer)
}
