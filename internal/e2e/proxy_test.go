//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

// proxyHost is the host of docs/proxy.md.
const proxyHost = "chat.example.org"

// proxyPage returns the only block of a kind that docs/proxy.md has.
func proxyPage(t *testing.T, kind string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "docs/proxy.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```"+kind+"\n(.*?)```\n").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 1 {
		t.Fatalf("docs/proxy.md has %d blocks of %s", len(blocks), kind)
	}
	return blocks[0][1]
}

// placed puts other values in the place of what a configuration says; each has to be there.
func placed(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the configuration does not say %q:\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// certificate writes one of the proxy's host, signed by itself, and returns who trusts it.
func certificate(t *testing.T, cert, key string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: proxyHost}, DNSNames: []string{proxyHost}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return pool
}

// proxied asks afterword through a proxy.
type proxied struct {
	t      *testing.T
	addr   string
	client *http.Client
}

func throughProxy(t *testing.T, addr string, trusts *x509.CertPool) *proxied {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{RootCAs: trusts, ServerName: proxyHost},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &proxied{t, addr, &http.Client{Transport: transport, Timeout: soon}}
}

// send sends a request as the operator. header alternates names and values.
func (p *proxied) send(method, path string, body io.Reader, header ...string) *http.Response {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, "https://"+proxyHost+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	req.SetBasicAuth("operator", "open sesame")
	for i := 0; i < len(header); i += 2 {
		if req.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			req.Host = header[i+1]
		}
	}
	res, err := p.client.Do(req)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	p.t.Cleanup(func() { res.Body.Close() })
	return res
}

// is checks the status and a part of what a path answers.
func (p *proxied) is(status int, part, method, path, body string, header ...string) {
	p.t.Helper()
	res := p.send(method, path, strings.NewReader(body), header...)
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status || !strings.Contains(string(text), part) {
		p.t.Errorf("%s %s: %d %.300s (%v), want %d and %q", method, path, res.StatusCode, text, err, status, part)
	}
}

// The page about proxies, as it stands: TLS, who may ask, any session id, long bodies and streams of
// events, through nginx and through Caddy.
func TestProxies(t *testing.T) {
	dir := t.TempDir()
	listen := freeAddr(t)
	conf := filepath.Join(dir, "afterword.conf")
	if err := os.WriteFile(conf, []byte(placed(t, proxyPage(t, "conf"), "127.0.0.1:8080", listen)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, exec.Command(afterword(t), "serve", "--config", conf, "--data-dir", filepath.Join(dir, "data"), "--embedded-nats", freeAddr(t), "--redis-url", "none", "--cors-origins", "https://app.example.org"))
	s.says(`afterword serves http://\S+,`)
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	trusts := certificate(t, cert, key)
	const certAt, keyAt = "/etc/ssl/chat.example.org.pem", "/etc/ssl/chat.example.org.key"

	t.Run("nginx", func(t *testing.T) {
		addr, users := freeAddr(t), filepath.Join(dir, "htpasswd")
		_, port, _ := net.SplitHostPort(addr)
		if err := os.WriteFile(users, []byte("operator:{PLAIN}open sesame\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		site := placed(t, proxyPage(t, "nginx"), "listen 443 ssl", "listen 127.0.0.1:"+port+" ssl", "127.0.0.1:8080", listen, certAt, cert, keyAt, key, "/etc/nginx/afterword.htpasswd", users)
		around := "daemon off;\npid nginx.pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"
		if os.Geteuid() == 0 {
			around = "user root;\n" + around // its workers read these files
		}
		for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			around += fmt.Sprintf("%s_temp_path %s;\n", name, filepath.Join(dir, name))
		}
		file := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(file, []byte(around+site+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		nginx := start(t, exec.Command("nginx", "-p", dir, "-e", "stderr", "-c", file))
		p := throughProxy(t, addr, trusts)
		p.works()
		// It answers for every host that is asked; afterword does not.
		p.is(http.StatusMisdirectedRequest, "urn:afterword:problem:host", "GET", "/v1/sessions/s/history", "", "Host", "evil.example.org")
		nginx.stop()
	})

	t.Run("Caddy", func(t *testing.T) {
		addr := freeAddr(t)
		_, port, _ := net.SplitHostPort(addr)
		site := placed(t, proxyPage(t, "caddyfile"), proxyHost+" {", "https://"+proxyHost+":"+port+" {\n\tbind 127.0.0.1", "127.0.0.1:8080", listen, certAt, cert, keyAt, key)
		hash := strings.TrimSpace(run(t, dir, "caddy", "hash-password", "--plaintext", "open sesame"))
		site = regexp.MustCompile(`\$2a\$\S+`).ReplaceAllLiteralString(site, hash)
		file := filepath.Join(dir, "Caddyfile")
		if err := os.WriteFile(file, []byte("{\n\tadmin off\n\tauto_https disable_redirects\n}\n"+site), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("caddy", "run", "--config", file, "--adapter", "caddyfile")
		cmd.Env = append(os.Environ(), "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
		caddy := start(t, cmd)
		throughProxy(t, addr, trusts).works()
		caddy.stop()
	})
	s.stop()
}

// works checks everything that the page says of a proxy.
func (p *proxied) works() {
	p.t.Helper()
	servertest.Eventually(p.t, soon, "the proxy and afterword to be ready", func() bool {
		req, _ := http.NewRequestWithContext(p.t.Context(), "GET", "https://"+proxyHost+"/readyz", nil)
		req.SetBasicAuth("operator", "open sesame")
		res, err := p.client.Do(req)
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	if res, err := p.client.Get("https://" + proxyHost + "/v1/sessions/s/history"); err != nil || res.StatusCode != http.StatusUnauthorized {
		p.t.Errorf("without credentials: %v %v", res, err)
	}
	const js, lines = "application/json", "application/x-ndjson"

	// Any session id is one segment of the path.
	for id, path := range map[string]string{"a/b": "a%2Fb", "a//b/../c": "a%2F%2Fb%2F..%2Fc", "50%": "50%25", "%2F": "%252F", "空 ?#": "%E7%A9%BA%20%3F%23", "a+b&c=d": "a+b&c=d", "..": "%2E%2E", ".": "%2E"} {
		p.is(http.StatusCreated, `"level":"stored"`, "POST", "/v1/sessions/"+path+"/turns", `{"id":"t1","timestamp":"2026-01-31T12:00:00Z","user":"hi","assistant":"ho"}`, "Content-Type", js, "Prefer", "wait=20")
		p.is(http.StatusOK, fmt.Sprintf(`"session_id":%q`, id), "GET", "/v1/sessions/"+path+"/history", "")
	}

	// A long batch passes, and what is too long is answered by afterword.
	line := `{"session_id":"long","user":"` + strings.Repeat("x", 1000) + `"}` + "\n"
	p.is(http.StatusCreated, `"taken":6000`, "POST", "/v1/turns", strings.Repeat(line, 6000), "Content-Type", lines, "Prefer", "wait=30")
	p.is(http.StatusRequestEntityTooLarge, "urn:afterword:problem:too-large", "POST", "/v1/sessions/s/turns", `{"user":"`+strings.Repeat("x", 8<<20)+`"}`, "Content-Type", js)

	// Events come as they happen.
	events := p.send("GET", "/v1/events?session=live", nil)
	defer events.Body.Close() // a proxy that stops waits for it
	in := bufio.NewReader(events.Body)
	next := func() (block []byte) {
		p.t.Helper()
		for !bytes.HasSuffix(block, []byte("\n\n")) {
			line, err := in.ReadBytes('\n')
			if block = append(block, line...); err != nil {
				p.t.Fatalf("the stream of events ended: %v: %s", err, block)
			}
		}
		return block
	}
	if events.StatusCode != http.StatusOK || !bytes.Contains(next(), []byte("retry:")) {
		p.t.Fatalf("events: %v", events)
	}
	for i := range 3 {
		user := fmt.Sprintf("question %d of %s", i, p.addr)
		p.is(http.StatusCreated, "", "POST", "/v1/sessions/live/turns", fmt.Sprintf(`{"user":%q}`, user), "Content-Type", js, "Prefer", "wait=20")
		if block := next(); !bytes.Contains(block, []byte(user)) {
			p.t.Errorf("event %d is %s", i, block)
		}
	}

	p.is(http.StatusOK, "<title>afterword console</title>", "GET", "/console/", "")
	p.is(http.StatusOK, `"version"`, "GET", "/console/api/overview", "")
	p.is(http.StatusForbidden, "urn:afterword:problem:origin", "POST", "/v1/sessions/s/turns", `{"user":"hi"}`, "Content-Type", js, "Origin", "https://evil.example.org")
	p.is(http.StatusAccepted, "buffered", "POST", "/v1/sessions/s/turns", `{"user":"hi"}`, "Content-Type", js, "Origin", "https://"+proxyHost)

	// A page of another origin that may use the API: its browser asks without credentials.
	const app = "https://app.example.org"
	preflight, err := http.NewRequestWithContext(p.t.Context(), http.MethodOptions, "https://"+proxyHost+"/v1/sessions/a%2Fb/turns", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for name, value := range map[string]string{"Origin": app, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"} {
		preflight.Header.Set(name, value)
	}
	res, err := p.client.Do(preflight)
	if err != nil {
		p.t.Fatal(err)
	}
	res.Body.Close()
	if h := res.Header; res.StatusCode != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") != app || !strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") {
		p.t.Errorf("the preflight: %s %v", res.Status, h)
	}
	posted := p.send("POST", "/v1/sessions/a%2Fb/turns", strings.NewReader(`{"user":"hi"}`), "Content-Type", js, "Origin", app)
	if posted.StatusCode != http.StatusAccepted || posted.Header.Get("Access-Control-Allow-Origin") != app {
		p.t.Errorf("a page of %s: %s %v", app, posted.Status, posted.Header)
	}
}
