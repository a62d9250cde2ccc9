package publisher

import (
	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/credentials"
)

// Embedded is an option of nats.Connect for a program that runs beside an `afterword serve`: to its
// embedded server, and to no other, the connection has the credentials that are in the data
// folder of the two. With other servers it changes nothing, so a program may always have it. It
// does not go together with another option that says who connects; credentials in the URL win.
func Embedded(dataDir string) nats.Option {
	return func(o *nats.Options) error {
		d := credentials.NATS([]string{dataDir}, o.Timeout)
		o.CustomDialer, o.UserInfo = d, d.Userinfo
		return nil
	}
}
