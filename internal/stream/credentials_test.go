package stream_test

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

func TestConnectNKey(t *testing.T) {
	file := func(name string) (path, public string) {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		if public, err = pair.PublicKey(); err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, seed, 0o600); err != nil {
			t.Fatal(err)
		}
		return path, public
	}
	right, public := file("right.nk")
	wrong, _ := file("wrong.nk")
	srv := servertest.NATS(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} })
	connect(t, stream.Config{URL: srv.URL(), Credentials: stream.Credentials{NKey: right}})
	_, err := stream.Connect(t.Context(), stream.Config{URL: srv.URL(), Credentials: stream.Credentials{NKey: wrong}})
	if !errors.Is(err, stream.ErrRefused) {
		t.Errorf("%v is no refusal", err)
	}
	servertest.OneLine(t, err, wrong, "--nats-nkey")
}

func TestConnectToken(t *testing.T) {
	srv := servertest.NATS(t, func(o *server.Options) { o.Authorization = "t0ken" })
	connect(t, stream.Config{URL: srv.URL(), Credentials: stream.Credentials{Token: "t0ken"}})
	_, err := stream.Connect(t.Context(), stream.Config{URL: srv.URL(), Credentials: stream.Credentials{Token: "wr0ng"}})
	if !errors.Is(err, stream.ErrRefused) {
		t.Errorf("%v is no refusal", err)
	}
	servertest.OneLine(t, err, "--nats-token")
}

// A server that shows a certificate of its own authority and asks for one of the client.
func TestConnectTLS(t *testing.T) {
	dir := t.TempDir()
	ca := servertest.NewAuthority(t, dir, "ca")
	serverCert, serverKey := ca.Issue("server")
	cert, key := ca.Issue("client")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	srv := servertest.NATS(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
		o.TLSTimeout = 10
	})
	nc := connect(t, stream.Config{URL: srv.URL(), Credentials: stream.Credentials{CA: ca.CA, Cert: cert, Key: key}})
	if _, err := nc.TLSConnectionState(); err != nil {
		t.Error(err)
	}
	other := servertest.NewAuthority(t, dir, "other")
	for name, creds := range map[string]stream.Credentials{
		"the authority of another":  {CA: other.CA, Cert: cert, Key: key},
		"no certificate":            {CA: ca.CA},
		"a certificate without key": {CA: ca.CA, Cert: cert},
		"a key of another":          {CA: ca.CA, Cert: cert, Key: serverKey},
		"no file":                   {CA: filepath.Join(dir, "absent.pem")},
		"a file without any":        {CA: key},
	} {
		if nc, err := stream.Connect(t.Context(), stream.Config{URL: srv.URL(), Credentials: creds}); err == nil {
			nc.Close()
			t.Errorf("%s connects", name)
		} else {
			servertest.OneLine(t, err)
		}
	}
}
