package servertest

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream is a test's own connection to a server. It is closed when the test ends, or
// before by js.Conn().Close().
func JetStream(t testing.TB, url string, options ...nats.Option) (js jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	return js
}
