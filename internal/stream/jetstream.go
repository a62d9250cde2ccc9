package stream

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// API says how the API of JetStream is reached. The zero value is that of the account and
// the servers that are connected to.
type API struct {
	// Domain is the JetStream domain that holds the streams: of the hub, seen from a leaf node.
	Domain string
	// Prefix is the subject prefix under which the account imports the API of the account
	// that holds the streams. It excludes Domain.
	Prefix string
	// Request bounds each request, by whatever is given the result of [JetStream]; 0 means
	// [DefaultRequestTimeout].
	Request time.Duration
}

// validate refuses what is no subject prefix.
func (a API) validate() error {
	switch {
	case a.Domain != "" && a.Prefix != "":
		return errors.New("--nats-js-domain and --nats-js-prefix are given: choose one, a domain is a prefix too")
	case a.Domain != "" && (!isSubject(a.Domain) || strings.Contains(a.Domain, ".")):
		return fmt.Errorf("--nats-js-domain %q is not one token of a subject: give the domain of the jetstream block of nats.conf, as in hub", a.Domain)
	case a.Prefix != "" && !isSubject(strings.TrimSuffix(a.Prefix, ".")):
		return fmt.Errorf("--nats-js-prefix %q is not a subject without wildcards: give the prefix of the import, as in JS.hub.API", a.Prefix)
	}
	return nil
}

// isSubject reports whether s is a subject without wildcards.
func isSubject(s string) bool {
	for token := range strings.SplitSeq(s, ".") {
		if token == "" || strings.ContainsAny(token, " \t\r\n\f*>") {
			return false
		}
	}
	return true
}

// JetStream is the API of JetStream over a connection.
func JetStream(nc *nats.Conn, api API) (jetstream.JetStream, error) {
	if err := api.validate(); err != nil {
		return nil, err
	}
	bound := jetstream.WithDefaultTimeout(cmp.Or(api.Request, DefaultRequestTimeout))
	switch {
	case api.Domain != "":
		return jetstream.NewWithDomain(nc, api.Domain, bound)
	case api.Prefix != "":
		return jetstream.NewWithAPIPrefix(nc, strings.TrimSuffix(api.Prefix, "."), bound)
	}
	return jetstream.New(nc, bound)
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
