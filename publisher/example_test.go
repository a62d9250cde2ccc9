package publisher_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/embedded"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// exampleServer starts a NATS server with the streams, and connects to it.
func exampleServer() (js jetstream.JetStream, stop func()) {
	dir, err := os.MkdirTemp("", "publisher-example-")
	if err != nil {
		log.Fatal(err)
	}
	srv, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir, Addr: "127.0.0.1:0"})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	nc, err := stream.Connect(ctx, stream.Config{URL: srv.ClientURL()})
	if err != nil {
		log.Fatal(err)
	}
	if js, err = jetstream.New(nc); err != nil {
		log.Fatal(err)
	}
	if err := stream.Ensure(ctx, js, stream.StreamConfig{MaxBytes: 1 << 20}); err != nil {
		log.Fatal(err)
	}
	return js, func() {
		nc.Close()
		if err := srv.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
		os.RemoveAll(dir)
	}
}

// examplePublisher makes a publisher on a server of its own.
func examplePublisher() (p *publisher.Publisher, stop func()) {
	js, stopServer := exampleServer()
	p, err := publisher.New(publisher.Config{Conn: js.Conn()})
	if err != nil {
		log.Fatal(err)
	}
	return p, func() {
		p.Close(context.Background())
		stopServer()
	}
}

func Example() {
	js, stop := exampleServer()
	defer stop()
	p, err := publisher.New(publisher.Config{Conn: js.Conn()})
	if err != nil {
		log.Fatal(err)
	}

	// In the request: no network, no disk, no waiting.
	ctx := context.Background()
	receipt, err := p.Publish(ctx, transcript.Turn{
		SessionID: "42",
		User:      "Will this slow down my reply?",
		Assistant: "No.",
	})
	if err != nil {
		log.Fatal(err)
	}

	// Only who cares waits for more.
	wait, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := receipt.Wait(wait, publisher.Stored); err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.Level())

	if err := p.Close(wait); err != nil {
		log.Fatal(err)
	}
	// Output: stored
}

func ExamplePublisher_Begin() {
	p, stop := examplePublisher()
	defer stop()

	ctx := context.Background()
	turn, _, err := p.Begin(ctx, transcript.Turn{SessionID: "42", User: "Hello"})
	if err != nil {
		log.Fatal(err)
	}
	turn.Assistant = "Hi!" // the model answers
	if _, err := p.Complete(ctx, turn); err != nil {
		log.Fatal(err)
	}
	for _, s := range p.Pending("42") {
		fmt.Println(s.Rev, s.Status)
	}
	// Output: 2 complete
}

// An answer that is made again supersedes the first one. Both are in the transcript; the history has the
// newer one, once it is there. Naming the first one as a parent goes back to it.
func ExamplePublisher_Begin_again() {
	p, stop := examplePublisher()
	defer stop()

	ctx := context.Background()
	history := func() {
		doc, err := transcript.MergeAll("42", p.Pending("42")...)
		if err != nil {
			log.Fatal(err)
		}
		recent, err := doc.Recent(10)
		if err != nil {
			log.Fatal(err)
		}
		for _, s := range recent.Turns {
			user, assistant := s.Exchange()
			fmt.Println(user, assistant)
		}
	}
	first, _, err := p.Begin(ctx, transcript.Turn{SessionID: "42", User: "Hello"})
	if err != nil {
		log.Fatal(err)
	}
	first.Assistant = "Hi!"
	if _, err := p.Complete(ctx, first); err != nil {
		log.Fatal(err)
	}

	again, _, err := p.Begin(ctx, transcript.Turn{SessionID: "42", User: "Hello", Supersedes: first.ID})
	if err != nil {
		log.Fatal(err)
	}
	history()
	again.Assistant = "Good morning!"
	if _, err := p.Complete(ctx, again); err != nil {
		log.Fatal(err)
	}
	history()

	back, _, err := p.Begin(ctx, transcript.Turn{SessionID: "42", User: "How are you?", Parent: &first.ID})
	if err != nil {
		log.Fatal(err)
	}
	back.Assistant = "Well."
	if _, err := p.Complete(ctx, back); err != nil {
		log.Fatal(err)
	}
	history()
	// Output:
	// Hello Hi!
	// Hello Good morning!
	// Hello Hi!
	// How are you? Well.
}
