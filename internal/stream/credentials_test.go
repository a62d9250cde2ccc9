package stream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

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
	ca := newAuthority(t, dir, "ca")
	serverCert, serverKey := ca.issue(t, dir, "server")
	cert, key := ca.issue(t, dir, "client")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	srv := servertest.NATS(t, func(o *server.Options) {
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12}
		o.TLSTimeout = 10
	})
	nc := connect(t, stream.Config{URL: srv.URL(), Credentials: stream.Credentials{CA: ca.path, Cert: cert, Key: key}})
	if _, err := nc.TLSConnectionState(); err != nil {
		t.Error(err)
	}
	other := newAuthority(t, dir, "other")
	for name, creds := range map[string]stream.Credentials{
		"the authority of another":  {CA: other.path, Cert: cert, Key: key},
		"no certificate":            {CA: ca.path},
		"a certificate without key": {CA: ca.path, Cert: cert},
		"a key of another":          {CA: ca.path, Cert: cert, Key: serverKey},
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

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	path string
}

func newAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a := &authority{}
	var path string
	path, _, a.cert, a.key = certify(t, dir, name, nil)
	a.path = path
	return a
}

func (a *authority) issue(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	cert, key, _, _ = certify(t, dir, name, a)
	return cert, key
}

// certify makes a certificate: of an authority, or with one of a machine.
func certify(t *testing.T, dir, name string, by *authority) (certPath, keyPath string, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if by == nil {
		template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
		template.ExtKeyUsage = nil
	} else {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(file, kind string, b []byte) string {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write(name+".pem", "CERTIFICATE", der), write(name+".key", "PRIVATE KEY", keyDER), cert, key
}
