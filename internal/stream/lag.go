package stream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// oldest returns when the first message after an acknowledgement floor was stored; nil
// when there is none. It costs one direct read.
//
// The message that the consumer waits for may be gone by its age; then the next one
// counts, which the consumer may have acknowledged already. A lag is rather too long than
// too short.
func oldest(ctx context.Context, js jetstream.JetStream, name string, floor uint64) (*time.Time, error) {
	m, err := next(ctx, js, name, floor+1)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return nil, nil // it was removed just now
	case err != nil:
		return nil, err
	}
	return present(m.Time), nil
}
