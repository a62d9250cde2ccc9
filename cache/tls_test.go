package cache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
)

// TestTLS: a server whose certificate an authority of one's own has signed, and which asks for one.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	ca := servertest.NewAuthority(t, dir, "ca")
	other := servertest.NewAuthority(t, dir, "other")
	s := servertest.RedisTLS(t, ca)
	cert, key := ca.Issue("client")
	alienCert, alienKey := other.Issue("alien")
	garbage := filepath.Join(dir, "garbage")
	check(t, os.WriteFile(garbage, []byte("no certificate"), 0o600))

	cfg := quick(s.TLSURL())
	cfg.CA, cfg.Cert, cfg.CertKey = ca.CA, cert, key
	r := newRedis(t, cfg)
	check(t, r.Check(t.Context()))
	all := turns(t, "s", 1, 3)
	check(t, r.Refresh(t.Context(), "s", recentOf(all, 10)))
	holds(t, bare(t, s.Addr()), all, DefaultTTL)

	plain := Config{URL: strings.Replace(s.TLSURL(), "rediss", "redis", 1)}
	for name, c := range map[string]Config{
		"without TLS":       plain,
		"no authority":      {URL: s.TLSURL(), Cert: cert, CertKey: key},
		"another authority": {URL: s.TLSURL(), CA: other.CA, Cert: cert, CertKey: key},
		"no certificate":    {URL: s.TLSURL(), CA: ca.CA},
		"an alien's":        {URL: s.TLSURL(), CA: ca.CA, Cert: alienCert, CertKey: alienKey},
	} {
		if err := newRedis(t, c).Check(t.Context()); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		} else if do := map[string]string{"without TLS": "write rediss", "no certificate": "--redis-cert", "an alien's": "--redis-cert"}[name]; !strings.Contains(err.Error(), do) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if do := advice(bare(t, s.Addr()).Do(t.Context(), "hmget2", "k").Err()); !strings.Contains(do, "rename-command") {
		t.Errorf("of a renamed command: %s", do)
	}
	if do := advice(errors.New("remote error: tls: expired certificate")); !strings.Contains(do, "--redis-cert") {
		t.Error(do)
	}
	for want, c := range map[string]Config{
		"go together":             {URL: s.TLSURL(), CA: ca.CA, Cert: cert},
		"rediss in place":         {URL: s.URL(), CA: ca.CA},
		"holds no certificate":    {URL: s.TLSURL(), CA: garbage},
		"no such file":            {URL: s.TLSURL(), CA: ca.CA + "-absent"},
		"with key " + alienKey:    {URL: s.TLSURL(), Cert: cert, CertKey: alienKey},
		"redis+cluster without T": {URL: "redis+cluster://127.0.0.1:1", CA: ca.CA},
	} {
		_, err := New(c)
		if want == "redis+cluster without T" {
			want = "without TLS"
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
