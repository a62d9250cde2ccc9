package publisher_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// How long a turn may be is up to the server that is connected to now, and to the streams.
func TestPayloadLimitIsOfTheServer(t *testing.T) {
	w := newStreamWorld(t)
	w.srv.Restart(servertest.MaxPayload(4 << 20))
	var size atomic.Int64
	p := w.publisher(func(c *publisher.Config) { c.MaxMsgSize = size.Load })
	limits := func(n int) {
		t.Helper()
		servertest.Eventually(t, patience, "the limit", func() bool { return p.MaxPayload() == n })
	}
	limits(4<<20 - stream.PayloadReserve)
	long := transcript.Turn{SessionID: "s", User: strings.Repeat("x", 3<<20)}
	waitStored(t, must(t)(p.Publish(t.Context(), long)))

	w.srv.Restart(servertest.MaxPayload(1 << 20))
	limits(1<<20 - stream.PayloadReserve)
	var large *transcript.TooLargeError
	if _, err := p.Publish(t.Context(), long); !errors.As(err, &large) || large.Limit != 1<<20-stream.PayloadReserve {
		t.Errorf("%v", err)
	}
	size.Store(64 << 10)
	w.srv.Restart()
	limits(64<<10 - stream.PayloadReserve)
}
