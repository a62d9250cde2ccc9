package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// turnLimit holds turns against what would be taken now, for a dry run.
type turnLimit struct {
	bytes   int
	unasked string // why it is not what a server said; "" when one did
	broken  bool   // a turn was too long
}

// askLimit asks the server how long a turn may be. Where none answers, the limit is that of a
// server that was not configured otherwise.
func (c *cli) askLimit(ctx context.Context, o natsOptions) *turnLimit {
	l := &turnLimit{bytes: stream.PayloadLimit(0)}
	nc, js, err := connectOnce(ctx, o, "dry run", slog.New(slog.DiscardHandler))
	if err != nil {
		l.unasked = oneLine(err)
		return l
	}
	defer nc.Close()
	size, err := stream.MaxMsgSize(ctx, js)
	if err != nil { // there are no streams yet, for one
		size = 0
	}
	l.bytes = stream.PayloadLimit(nc.MaxPayload(), size)
	return l
}

// check returns the turn as it would be stored.
func (l *turnLimit) check(d *transcript.Draft) (transcript.Snapshot, error) {
	if err := d.CheckAhead(time.Now()); err != nil {
		return transcript.Snapshot{}, err
	}
	snap, err := d.Snapshot(l.bytes)
	var large *transcript.TooLargeError
	l.broken = l.broken || errors.As(err, &large)
	return snap, err
}

// print says where the limit comes from, if that matters.
func (l *turnLimit) print(w io.Writer) {
	if l.broken && l.unasked != "" {
		fmt.Fprintf(w, "the limit of %d bytes is that of a server with the default max_payload, because none was asked: %s\n", l.bytes, l.unasked)
	}
}
