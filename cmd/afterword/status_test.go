package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/status"
)

// On a terminal each look stands where the one before was.
func TestStatusIsWatchedInPlace(t *testing.T) {
	screen, tty := openTerminal(t)
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
	shown := readUntil(t, screen, func(shown []byte) bool { return bytes.Count(shown, []byte(clearScreen)) >= 3 })
	stopped := errors.New("stopped")
	cancel(stopped)
	go io.Copy(io.Discard, screen) // what it has still to write must not wait for a reader
	if err := <-ended; !errors.Is(err, stopped) {
		t.Errorf("it ended with %v", err)
	}
	for i, one := range bytes.Split(shown, []byte(clearScreen))[1:3] {
		if !bytes.HasPrefix(one, []byte("critical at ")) || !bytes.Contains(one, []byte("nobody is there")) {
			t.Errorf("look %d of %d: %q", i, looks, one)
		}
	}
}
