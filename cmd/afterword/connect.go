package main

import (
	"context"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

// connectOnce connects a one-shot command: a server that does not answer within
// --connect-timeout is an error. The caller closes the connection.
func connectOnce(ctx context.Context, o natsOptions, name string, log *slog.Logger) (*nats.Conn, jetstream.JetStream, error) {
	cfg := o.config(name, log)
	nc, err := stream.Connect(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	js, err := stream.JetStream(nc, cfg.API)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return nc, js, nil
}
