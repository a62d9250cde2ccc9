// Command chat is a chat API whose replies wait for no disk and no server: an
// example to start from. It answers
//
//	POST /chat/{session}    with what the user says as the body
//
// with the words of a model as they come, as plain text. Before each answer it
// loads what was said last; what the user said is kept before the model is
// called, and the answer after the last word of it has gone out. A request with a
// traceparent has its turns in its trace. It answers pages of its own host alone: localhost, an
// address, or the name that --host gives; for users it needs a login, which it does not have.
//
//	go run ./deploy/examples/chat --listen 127.0.0.1:9001
//	curl -N --data 'Hello there' http://127.0.0.1:9001/chat/abc
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/cache"
	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

const (
	maxMessage = 64 << 10         // bytes that a user may say at once
	drain      = 20 * time.Second // how long a stop may take
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9001", "address to answer on")
	host := flag.String("host", "", "name to answer for, as in chat.example.org, beside localhost and addresses")
	natsURL := flag.String("nats-url", nats.DefaultURL, "URL of NATS")
	redisURL := flag.String("redis-url", cache.DefaultURL, "URL of Redis")
	dataDir := flag.String("data-dir", "data", "data folder of `afterword serve` on this machine, with its credentials")
	spool := flag.String("spool-dir", "", "folder of this process that keeps turns while NATS is away")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, *listen, *host, *natsURL, *redisURL, *dataDir, *spool); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen, host, natsURL, redisURL, dataDir, spool string) (err error) {
	// No server has to be there yet: turns wait in the buffer.
	nc, err := nats.Connect(natsURL, publisher.Embedded(dataDir), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1))
	if err != nil {
		return err
	}
	defer nc.Close()
	p, err := publisher.New(publisher.Config{Conn: nc, SpoolDir: spool, Trace: trace})
	if err != nil {
		return err
	}
	defer func() { // after the last request
		ctx, cancel := context.WithTimeout(context.Background(), drain)
		defer cancel()
		err = errors.Join(err, p.Close(ctx))
	}()

	// Histories: Redis, else the session's subject in the stream, and over both what
	// this process has accepted a moment ago. The processes that share Redis tell each other
	// through NATS what in it is genuine, and what is not up to date.
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	redis, err := cache.New(cache.Config{URL: redisURL, DataDirs: []string{dataDir}})
	if err != nil {
		return err
	}
	defer redis.Close()
	shared, err := cache.NewShared(cache.SharedConfig{JS: js, Redis: redis})
	if err != nil {
		return err
	}
	defer shared.Close(context.Background())
	h, err := cache.NewHistory(cache.HistoryConfig{
		Redis: redis, Trust: shared.Trust, Stream: consumer.NewStreamReader(js, 0), Pending: p, Observe: p.Observe,
	})
	if err != nil {
		return err
	}
	defer h.Close(context.Background())

	c := &chat{publisher: p, history: h}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /chat/{session}", c.answer)
	srv := &http.Server{Addr: listen, Handler: guard(host, mux), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	log.Printf("chat answers on http://%s/chat/{session}", listen)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stopCtx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	return srv.Shutdown(stopCtx)
}

// guard keeps other sites' pages out: a browser sends text for any page, without asking first. A page whose
// name was pointed at this address (DNS rebinding) counts as our own, so the host is checked too.
func guard(name string, next http.Handler) http.Handler {
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		if host != "localhost" && host != name && net.ParseIP(strings.Trim(host, "[]")) == nil {
			http.Error(w, "this is not the host of this server: see --host", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

type chat struct {
	publisher *publisher.Publisher
	history   *cache.History
}

func (c *chat) answer(w http.ResponseWriter, r *http.Request) {
	said, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	if err != nil {
		http.Error(w, "the message cannot be read", http.StatusBadRequest)
		return
	}
	session := r.PathValue("session")
	r = r.WithContext(context.WithValue(r.Context(), traceparent{}, r.Header.Get("traceparent")))
	before, err := c.history.Load(r.Context(), session, 0)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if before.Degraded { // the model may know too little, the user still gets an answer
		log.Print("a history is degraded")
	}

	turn, _, err := c.publisher.Begin(r.Context(), transcript.Turn{SessionID: session, User: string(said), Model: "fake"})
	switch {
	case errors.Is(err, publisher.ErrOverflow): // the answer may still find room
		log.Print(err)
	case err != nil:
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}

	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	var answer strings.Builder
	err = model(r.Context(), before.Turns, string(said), func(word string) error {
		answer.WriteString(word)
		if _, err := io.WriteString(w, word); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	})
	turn.Assistant = answer.String()
	switch {
	case err == nil:
		_, err = c.publisher.Complete(r.Context(), turn)
	case r.Context().Err() != nil: // the user has gone; what was said so far stays
		turn.Status = transcript.Cancelled
		_, err = c.publisher.Complete(r.Context(), turn)
	default:
		_, err = c.publisher.Fail(r.Context(), turn, err)
	}
	if err != nil {
		log.Print("a turn is lost: ", err)
	}
}

// traceparent is the key of a request's W3C trace context.
type traceparent struct{}

// trace gives turns the trace context of the request that they come from.
func trace(ctx context.Context) (string, func(error)) {
	parent, _ := ctx.Value(traceparent{}).(string)
	return parent, nil // no span of its own that would have to end
}

// model stands for a language model: it says how many turns it was told of, the
// last of them, and what the user said, word by word.
func model(ctx context.Context, before []transcript.Snapshot, said string, say func(word string) error) error {
	text := fmt.Sprintf("Turn %d.", len(before)+1)
	if n := len(before); n > 0 {
		last, err := before[n-1].Turn()
		if err != nil {
			return err
		}
		text += fmt.Sprintf(" Before, you said %q.", last.User)
	}
	for word := range strings.FieldsSeq(text + " Now you say: " + said) {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
		if err := say(word + " "); err != nil {
			return err
		}
	}
	return nil
}
