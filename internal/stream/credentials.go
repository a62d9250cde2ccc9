package stream

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// Credentials say who connects, in one of four ways, and how TLS is checked. What is
// secret in them is in no error and no log line.
type Credentials struct {
	// Creds is the path of a NATS credentials file. The file is read again on
	// every reconnect, so it may be replaced while running.
	Creds string
	// NKey is the path of a file with the seed of an nkey.
	NKey           string
	User, Password string
	Token          string
	// CA is the path of a file with the certificates of who may have signed the server's;
	// Cert and Key are those of the client. All are PEM.
	CA, Cert, Key string
}

// validate refuses what does not go together.
func (c *Credentials) validate() error {
	ways := 0
	for _, way := range []string{c.Creds, c.NKey, c.User, c.Token} {
		if way != "" {
			ways++
		}
	}
	switch {
	case ways > 1:
		return errors.New("NATS credentials are given in several ways: choose one of --nats-creds, --nats-nkey, --nats-user and --nats-token")
	case c.Password != "" && c.User == "":
		return errors.New("--nats-password is given without --nats-user")
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("--nats-cert and --nats-key go together")
	}
	return nil
}

// set puts the credentials into the options of a connection.
func (c *Credentials) set(o *nats.Options) error {
	if err := c.validate(); err != nil {
		return err
	}
	if c.Creds != "" {
		err := nats.UserCredentials(c.Creds)(o)
		if err == nil { // the file was readable; what it holds is looked at only while connecting
			_, err = o.UserJWT()
		}
		if err == nil {
			_, err = o.SignatureCB([]byte("afterword"))
		}
		if err != nil {
			return fmt.Errorf("NATS credentials file %s cannot be used: %w; give a readable .creds file with --nats-creds", c.Creds, err)
		}
	}
	if c.NKey != "" {
		option, err := nats.NkeyOptionFromSeed(c.NKey)
		if err == nil {
			err = option(o)
		}
		if err != nil {
			return fmt.Errorf("NATS nkey file %s cannot be used: %w; give a readable file with a user's seed with --nats-nkey", c.NKey, err)
		}
	}
	o.User, o.Password, o.Token = c.User, c.Password, c.Token
	if c.CA != "" {
		if err := nats.RootCAs(c.CA)(o); err != nil {
			return fmt.Errorf("--nats-ca: %w", err)
		}
	}
	if c.Cert != "" {
		if err := nats.ClientCert(c.Cert, c.Key)(o); err != nil {
			return fmt.Errorf("--nats-cert, --nats-key: %w", err)
		}
	}
	// The files of TLS are read while connecting, and again on every reconnect.
	if o.RootCAsCB != nil {
		if _, err := o.RootCAsCB(); err != nil {
			return fmt.Errorf("--nats-ca %s cannot be used: %w", c.CA, err)
		}
	}
	if o.TLSCertCB != nil {
		if _, err := o.TLSCertCB(); err != nil {
			return fmt.Errorf("--nats-cert %s and --nats-key %s cannot be used: %w", c.Cert, c.Key, err)
		}
	}
	return nil
}

// given reports whether they say who connects.
func (c *Credentials) given() bool {
	return c.Creds != "" || c.NKey != "" || c.User != "" || c.Token != "" || c.Cert != ""
}

// from says where the credentials came from, for who has to correct them.
func (c *Credentials) from() string {
	switch {
	case c.Creds != "":
		return "the file given with --nats-creds (" + c.Creds + ")"
	case c.NKey != "":
		return "the file given with --nats-nkey (" + c.NKey + ")"
	case c.User != "":
		return "--nats-user and --nats-password"
	case c.Token != "":
		return "--nats-token"
	}
	return "the user and password, or the token, in --nats-url"
}
