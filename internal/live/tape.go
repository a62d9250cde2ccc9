package live

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

// How much is asked for at one time: of all that comes, and of the past for one client.
const (
	liveBytes = 8 << 20
	pastBytes = 2 << 20
	readAhead = 4096 // messages
)

// openTape begins behind a sequence. subject is that of one session, or "" for all.
func (f *Feed) openTape(ctx context.Context, after uint64, subject string, bytes int) (*stream.Reader, error) {
	return stream.OpenReader(ctx, f.cfg.JS, stream.Turns, stream.ReaderConfig{
		Description: "afterword: live turns", Subject: subject, After: after, Messages: readAhead,
		Bytes:   max(bytes, 2*int(f.cfg.JS.Conn().MaxPayload())), // a message alone may be as long as the server allows
		Request: f.cfg.Request,
	})
}

// state asks the server for what the stream has.
func (f *Feed) state(ctx context.Context) (state jetstream.StreamState, created time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.Request)
	defer cancel()
	s, err := f.cfg.JS.Stream(ctx, stream.Turns)
	if err != nil {
		return state, created, stream.ReadError(stream.Turns, err)
	}
	info := s.CachedInfo()
	return info.State, info.Created, nil
}
