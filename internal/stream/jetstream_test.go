package stream_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// A request ends at the bound that its JetStream was made with, whatever its context allows.
func TestRequestTimeout(t *testing.T) {
	srv := servertest.NATS(t, servertest.WithoutJetStream())
	nc, err := stream.Connect(t.Context(), stream.Config{URL: srv.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Subscribe("$JS.API.>", func(*nats.Msg) {}); err != nil { // and does not answer
		t.Fatal(err)
	}
	const bound = 100 * time.Millisecond
	js, err := stream.JetStream(nc, stream.API{Request: bound})
	if err != nil {
		t.Fatal(err)
	}
	for what, ask := range map[string]func() error{
		"info":   func() error { _, err := stream.Info(t.Context(), js); return err },
		"ensure": func() error { return stream.Ensure(t.Context(), js, stream.StreamConfig{}) },
	} {
		began := time.Now()
		err := ask()
		if took := time.Since(began); !errors.Is(err, stream.ErrUnreachable) || took < bound || took >= stream.DefaultRequestTimeout {
			t.Errorf("%s: %v after %s, not unreachable after %s", what, err, took, bound)
		}
	}
	if js, err = stream.JetStream(nc, stream.API{}); err != nil || stream.RequestTimeout(js) != stream.DefaultRequestTimeout {
		t.Errorf("the default is %s: %v", stream.RequestTimeout(js), err)
	}
}
