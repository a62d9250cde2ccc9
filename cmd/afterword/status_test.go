package main

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/status"
)

// On a terminal each look stands where the one before was.
func TestStatusIsWatchedInPlace(t *testing.T) {
	screen, tty := terminal(t)
	looks := 0
	g, err := status.New(status.Config{NATSURL: "nats://nobody", Connect: func(context.Context) (jetstream.JetStream, error) {
		looks++
		return nil, errors.New("nobody is there")
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- (&cli{stdout: tty}).watchStatus(ctx, g, statusOptions{interval: 10 * time.Millisecond})
	}()
	var shown []byte
	for bytes.Count(shown, []byte(clearScreen)) < 3 {
		b := make([]byte, 4096)
		n, err := screen.Read(b)
		if err != nil {
			t.Fatalf("%v after %q", err, shown)
		}
		shown = append(shown, b[:n]...)
	}
	stopped := errors.New("stopped")
	cancel(stopped)
	// What it has still to write must not wait for a reader.
	go func() {
		for b := make([]byte, 4096); ; {
			if _, err := screen.Read(b); err != nil {
				return
			}
		}
	}()
	if err := <-ended; !errors.Is(err, stopped) {
		t.Errorf("it ended with %v", err)
	}
	for i, one := range bytes.Split(shown, []byte(clearScreen))[1:3] {
		if !bytes.HasPrefix(one, []byte("critical at ")) || !bytes.Contains(one, []byte("nobody is there")) {
			t.Errorf("look %d of %d: %q", i, looks, one)
		}
	}
}
