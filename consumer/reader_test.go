package consumer

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/servertest"
)

// While NATS is down, a reader says that, not that a buffer of the client is full.
func TestReaderWithoutNATS(t *testing.T) {
	f := newFixture(t)
	r := NewStreamReader(f.js, time.Second)
	f.nats.Stop()
	servertest.Eventually(t, 10*time.Second, "the connection is lost", func() bool { return f.js.Conn().Status() == nats.RECONNECTING })
	_, err := r.Read(t.Context(), "s")
	if err == nil || !strings.HasSuffix(err.Error(), nats.ErrDisconnected.Error()) {
		t.Errorf("%v", err)
	}
}
