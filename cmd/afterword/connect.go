package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

// startBound is how long a one-shot command may take to find out that there is
// nobody to talk to; connecting has most of it.
const startBound = 4500 * time.Millisecond

// connectOnce connects a one-shot command: a server that does not answer is an
// error. The caller closes the connection.
func connectOnce(ctx context.Context, o natsOptions, name string, log *slog.Logger) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := stream.Connect(ctx, o.config(name, log))
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}
