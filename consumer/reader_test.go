package consumer

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// While NATS is down, a reader says that, not that a buffer of the client is full.
func TestReaderWithoutNATS(t *testing.T) {
	f := newFixture(t)
	r := NewStreamReader(f.js, time.Second)
	f.nats.Stop()
	for end := time.Now().Add(10 * time.Second); f.js.Conn().Status() != nats.RECONNECTING; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the connection is %v", f.js.Conn().Status())
		}
	}
	_, err := r.Read(t.Context(), "s")
	if err == nil || !strings.HasSuffix(err.Error(), nats.ErrDisconnected.Error()) {
		t.Errorf("%v", err)
	}
}
