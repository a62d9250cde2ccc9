package stream

import (
	"cmp"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// JetStream is the API of JetStream over a connection. request bounds each request
// to it, by whatever is given the result; 0 means [DefaultRequestTimeout].
func JetStream(nc *nats.Conn, request time.Duration) (jetstream.JetStream, error) {
	return jetstream.New(nc, jetstream.WithDefaultTimeout(cmp.Or(request, DefaultRequestTimeout)))
}

// RequestTimeout is the bound of one request that js was made with.
func RequestTimeout(js jetstream.JetStream) time.Duration { return js.Options().DefaultTimeout }

// RequestBound is what bounds each request over js: what is asked for, or else what js
// was made with. Without js it is what is asked for.
func RequestBound(asked time.Duration, js jetstream.JetStream) time.Duration {
	if asked != 0 || js == nil {
		return asked
	}
	return RequestTimeout(js)
}
