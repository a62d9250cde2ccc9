package cache

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// tls is how connections are encrypted; nil without TLS.
func (c *Config) tls(t target) (*tls.Config, error) {
	switch {
	case (c.Cert == "") != (c.CertKey == ""):
		return nil, errors.New("the certificate and its key go together")
	case !t.tls && (c.CA != "" || c.Cert != ""):
		return nil, fmt.Errorf("certificates are given, and %s is without TLS: write rediss in place of redis", t)
	case !t.tls:
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, err
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM", c.CA)
		}
	}
	if c.Cert != "" {
		load := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.Cert, c.CertKey)
			if err != nil {
				return nil, fmt.Errorf("certificate %s with key %s: %w", c.Cert, c.CertKey, err)
			}
			return &pair, nil
		}
		if _, err := load(); err != nil {
			return nil, err
		}
		// Read again for every connection, so that it may be renewed while running.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return cfg, nil
}
