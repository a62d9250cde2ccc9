package httpio

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// guarded is a server behind a guard: /shared may be used by the pages of its origins.
func guarded(t *testing.T, hosts, origins string) *net.TCPAddr {
	t.Helper()
	h, err := ParseHosts(hosts)
	if err != nil {
		t.Fatal(err)
	}
	o, err := ParseOrigins(origins)
	if err != nil {
		t.Fatal(err)
	}
	g := NewGuard(h, o)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := g.Check(w, r, r.URL.Path == "/shared"); p != nil {
			p.Write(w)
			return
		}
		if !g.Preflight(w, r, "GET, POST") {
			io.WriteString(w, g.Client(r))
		}
	}))
	srv.Config.DisableGeneralOptionsHandler = true
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().(*net.TCPAddr)
}

// raw sends a request as it is, and returns what came back.
func raw(t *testing.T, addr net.Addr, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, strings.ReplaceAll(request, "\n", "\r\n"))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return res, string(body)
}

// A server answers for itself and for the hosts that were named, however a request spells another one.
func TestHost(t *testing.T) {
	at := guarded(t, "ops.example.org,10.1.2.3:8080", "")
	port := fmt.Sprint(at.Port)
	for host, status := range map[string]int{
		"127.0.0.1:" + port: 200, "127.0.0.1": 200, "127.0.0.1:1": 200, "127.0.0.1:": 200, "localhost:" + port: 200, "LOCALHOST": 200, "localhost.": 200, "x.localhost": 200,
		"127.8.8.8": 200, "[::1]:80": 200, "[::1]": 200, "[::ffff:127.0.0.1]": 200, "[0:0:0:0:0:0:0:1]": 200, "[::1%25lo]": 200, "[::1%lo]:80": 200,
		"ops.example.org": 200, "OPS.example.org.:443": 200, "10.1.2.3:8080": 200,
		"10.1.2.3": 421, "10.1.2.3:80": 421, "evil.example.org": 421, "localhost.evil.com": 421, "127.0.0.1.nip.io": 421, "evil-localhost": 421, "ops.example.org.evil.com": 421,
		"2130706433": 421, "0x7f000001": 421, "0x7f.1": 421, "0177.0.0.1": 421, "127.1": 421, "127.0.0.01": 421, "0.0.0.0": 421, "0": 421, "[::]": 421, "192.168.0.1": 421,
		"::1": 421, "[127.0.0.1]": 421, "[localhost]": 421, "[::1": 421, "[::1]x": 421, "localhost:x": 421, "localhost:0": 421, "localhost:65536": 421, "localhost:80:80": 421, "localhost..": 421, ".localhost": 421,
		"localhost,evil.com": 421, "": 421,
		"evil.com@localhost": 400, "localhost/": 400, "local host": 400, // net/http refuses them
	} {
		res, body := raw(t, at, "GET /shared HTTP/1.1\nHost: "+host+"\n\n")
		if res.StatusCode != status {
			t.Errorf("Host %q: %d, want %d: %s", host, res.StatusCode, status, body)
		}
		var p Problem
		if status == 421 && (json.Unmarshal([]byte(body), &p) != nil || p.Type != TypePrefix+"host" || p.Detail == "" || res.Header.Get("Content-Type") != "application/problem+json") {
			t.Errorf("Host %q: %v %s", host, res.Header, body)
		}
	}
	for request, status := range map[string]int{
		"GET / HTTP/1.0\n\n": 421, // who rebinds a name always sends one
		"GET / HTTP/1.1\n\n": 400,
		"GET / HTTP/1.1\nHost: localhost\nHost: evil.com\n\n":          400,
		"GET http://evil.com/ HTTP/1.1\nHost: localhost\n\n":           421,
		"GET http://localhost/ HTTP/1.1\nHost: evil.com\n\n":           200, // the target is what counts
		"GET http://evil.com@localhost/ HTTP/1.1\nHost: localhost\n\n": 421,
		"GET http:///x HTTP/1.1\nHost: evil.com\n\n":                   421,
		"OPTIONS * HTTP/1.1\nHost: evil.com\n\n":                       421,
		"CONNECT evil.com:80 HTTP/1.1\nHost: evil.com:80\n\n":          421,
	} {
		if res, body := raw(t, at, request); res.StatusCode != status {
			t.Errorf("%q: %d, want %d: %s", request, res.StatusCode, status, body)
		}
	}
}

// On an address that other machines reach the check stays: its own address is allowed, names are not.
func TestHostOfArrival(t *testing.T) {
	g := NewGuard(nil, nil)
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: g.Around(http.NotFoundHandler())}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	port := ln.Addr().(*net.TCPAddr).Port
	own := ""
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			own = n.IP.String()
		}
	}
	if own == "" {
		own = "127.0.0.2" // a machine without a network: arrival and loopback are one
	}
	to := &net.TCPAddr{IP: net.ParseIP(own), Port: port}
	for host, status := range map[string]int{own: 404, fmt.Sprintf("%s:%d", own, port): 404, "localhost": 404, "evil.com": 421, "gateway": 421, "203.0.113.9": 421, "0.0.0.0": 421} {
		if res, body := raw(t, to, "GET / HTTP/1.1\nHost: "+host+"\n\n"); res.StatusCode != status {
			t.Errorf("Host %q at %s: %d, want %d: %s", host, to, res.StatusCode, status, body)
		}
	}
	if own != "127.0.0.2" { // the address of another interface is not that of this connection
		if res, _ := raw(t, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, "GET / HTTP/1.1\nHost: "+own+"\n\n"); res.StatusCode != 421 {
			t.Errorf("Host %s over loopback: %d", own, res.StatusCode)
		}
	}
}

// Where asking has an effect, not even a link of another site leads.
func TestLinks(t *testing.T) {
	at := httptest.NewServer(NewGuard(nil, nil).Around(http.NotFoundHandler()))
	defer at.Close()
	for site, status := range map[string]int{"cross-site": 403, "same-site": 403, "same-origin": 404, "none": 404} {
		res, body := raw(t, at.Listener.Addr(), "GET /debug/pprof/profile HTTP/1.1\nHost: localhost\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document\nSec-Fetch-Site: "+site+"\n\n")
		if res.StatusCode != status {
			t.Errorf("%s: %d, want %d: %s", site, res.StatusCode, status, body)
		}
	}
}

// What came through a proxy is refused unless the proxy's host was named; then its word on clients counts.
func TestForwarded(t *testing.T) {
	at := guarded(t, "ops.example.org", "")
	for header, status := range map[string]int{
		"X-Forwarded-For: 203.0.113.9": 421, "X-Forwarded-Host: evil.com": 421, "X-Forwarded-Proto: https": 421, "X-Forwarded-Port: 443": 421, "X-Forwarded-Server: p": 421,
		"X-Forwarded: for=203.0.113.9": 421, "Forwarded: for=203.0.113.9": 421, "forwarded: host=evil.com": 421, "X-Real-IP: 203.0.113.9": 421, "Via: 1.1 proxy": 421,
		"CF-Connecting-IP: 203.0.113.9": 421, "True-Client-IP: 203.0.113.9": 421, "X-Client-IP: 203.0.113.9": 421, "X-Cluster-Client-IP: 203.0.113.9": 421, "X-Original-Host: evil.com": 421,
		"x-forwarded-for:": 421, "X-Forwarded-Host: ops.example.org, evil.com": 421, "X-Forwarded-Host: ops.example.org\nX-Forwarded-Host: evil.com": 421,
		"Forwarded: host=ops.example.org;for=1.2.3.4, host=evil.com": 421, "X-Forwarded-Host: localhost": 421,
		"X-Forwarded-Host: ops.example.org": 200, "Forwarded: for=203.0.113.9;host=\"ops.example.org:443\"": 200, "X-Request-Id: 1": 200,
	} {
		if res, body := raw(t, at, "GET / HTTP/1.1\nHost: 127.0.0.1\n"+header+"\n\n"); res.StatusCode != status {
			t.Errorf("%s: %d, want %d: %s", header, res.StatusCode, status, body)
		}
	}
	for header, client := range map[string]string{
		"": "127.0.0.1", "X-Forwarded-For: 10.0.0.1, 203.0.113.9": "203.0.113.9", "X-Forwarded-For: 10.0.0.1\nX-Forwarded-For: 203.0.113.9:1234": "203.0.113.9",
		"X-Forwarded-For: 2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "Forwarded: for=10.0.0.1, for=\"[2001:db8:1:2::9]:80\"": "2001:db8:1:2::/64",
		"X-Real-IP: ::ffff:203.0.113.9": "203.0.113.9", "X-Forwarded-For: unknown": "127.0.0.1", "X-Forwarded-For:": "127.0.0.1",
	} {
		res, body := raw(t, at, "GET / HTTP/1.1\nHost: ops.example.org\n"+header+strings.Repeat("\n", min(1, len(header)))+"\n")
		if res.StatusCode != 200 || body != client {
			t.Errorf("%s: client %q, want %q", header, body, client)
		}
	}
}

// Pages of a host that was named are of the same origin, however the proxy passes on what the browser asked for.
func TestOriginBehindProxy(t *testing.T) {
	at := guarded(t, "ops.example.org,localhost,b.example.org", "")
	for headers, status := range map[string]int{
		"Host: ops.example.org|Origin: https://ops.example.org": 200, "Host: ops.example.org|Origin: http://ops.example.org": 200, "Host: ops.example.org|Origin: ftp://ops.example.org": 403,
		"Host: ops.example.org|X-Forwarded-Proto: https|Origin: https://ops.example.org":               200,
		"Host: ops.example.org|X-Forwarded-Proto: https|Origin: http://ops.example.org":                403,
		"Host: ops.example.org|Forwarded: for=1.2.3.4;proto=https|Origin: http://ops.example.org":      403,
		"Host: ops.example.org|Forwarded: for=1.2.3.4;proto=\"HTTPS\"|Origin: https://ops.example.org": 200,
		"Host: ops.example.org|X-Forwarded-Proto: https, http|Origin: http://ops.example.org":          200, // two proxies: the browser may have used either
		"Host: ops.example.org|X-Forwarded-Proto: https,http|Origin: https://ops.example.org":          200,
		"Host: ops.example.org|X-Forwarded-Ssl: on|Origin: http://ops.example.org":                     200, // no header that is known

		"Host: 127.0.0.1:8080|X-Forwarded-Host: ops.example.org|Origin: https://ops.example.org":                          200,
		"Host: 127.0.0.1:8080|X-Forwarded-Host: ops.example.org|X-Forwarded-Proto: http|Origin: http://ops.example.org":   200,
		"Host: 127.0.0.1:8080|X-Forwarded-Host: ops.example.org|X-Forwarded-Proto: https|Origin: https://ops.example.org": 200,
		"Host: 127.0.0.1:8080|X-Forwarded-Host: ops.example.org|X-Forwarded-Proto: https|Origin: http://ops.example.org":  403,
		"Host: 127.0.0.1:8080|Forwarded: host=ops.example.org;proto=https|Origin: https://ops.example.org":                200,
		"Host: 127.0.0.1:8080|X-Forwarded-Host: ops.example.org|Origin: http://127.0.0.1:8080":                            403,
		"Host: 127.0.0.1:8080|X-Forwarded-Host: ops.example.org|Origin: https://b.example.org":                            403,
		"Host: 127.0.0.1:8080|X-Forwarded-Host: ops.example.org|Origin: https://evil.com":                                 403,
		"Host: 127.0.0.1:8080|X-Forwarded-Host: evil.com|Origin: https://evil.com":                                        421,
		"Host: evil.com|X-Forwarded-Host: ops.example.org|Origin: http://evil.com":                                        421,
		"Host: b.example.org|X-Forwarded-Host: evil.com|Origin: http://evil.com":                                          403,
		"Host: b.example.org|X-Forwarded-Host: internal|Origin: http://b.example.org":                                     200,

		"Host: ops.example.org:443|X-Forwarded-Proto: https|Origin: https://ops.example.org":               200,
		"Host: ops.example.org:80|X-Forwarded-Proto: https|Origin: https://ops.example.org":                200, // of the proxy that is last
		"Host: ops.example.org:443|Origin: https://ops.example.org":                                        200,
		"Host: localhost:80|Origin: http://localhost":                                                      200,
		"Host: ops.example.org|X-Forwarded-Port: 8443|Origin: https://ops.example.org:8443":                200,
		"Host: ops.example.org:8080|X-Forwarded-Port: 443|Origin: https://ops.example.org":                 200,
		"Host: ops.example.org:8443|Origin: https://ops.example.org:8443":                                  200,
		"Host: ops.example.org:8443|Origin: https://ops.example.org":                                       403,
		"Host: ops.example.org|Origin: https://ops.example.org:8443":                                       403,
		"Host: ops.example.org|X-Forwarded-Port: 8443|Origin: https://ops.example.org:9":                   403,
		"Host: 127.0.0.1:8080|X-Forwarded-Host: ops.example.org:8443|Origin: https://ops.example.org:8443": 200,
	} {
		if res, body := raw(t, at, "POST / HTTP/1.1\n"+strings.ReplaceAll(headers, "|", "\n")+"\nContent-Length: 0\n\n"); res.StatusCode != status {
			t.Errorf("%s: %d, want %d: %s", headers, res.StatusCode, status, body)
		}
	}
	// Of a host that was not named the scheme is known, and with it the port that is left out.
	at = guarded(t, "", "")
	for headers, status := range map[string]int{
		"Host: localhost:80|Origin: http://localhost": 200, "Host: localhost|Origin: http://localhost": 200, "Host: LOCALHOST.|Origin: http://localhost": 200, "Host: [::1]:80|Origin: http://[::1]": 200,
		"Host: localhost:443|Origin: http://localhost": 403, "Host: localhost|Origin: https://localhost": 403, "Host: localhost|Origin: http://localhost:9": 403, "Host: localhost|Origin: http://": 403,
	} {
		if res, body := raw(t, at, "POST / HTTP/1.1\n"+strings.ReplaceAll(headers, "|", "\n")+"\nContent-Length: 0\n\n"); res.StatusCode != status {
			t.Errorf("%s: %d, want %d: %s", headers, res.StatusCode, status, body)
		}
	}
}

// Pages of other origins neither write nor read, unless theirs is allowed, and then where it is meant.
func TestOrigin(t *testing.T) {
	at := guarded(t, "", "https://chat.example.org")
	const ask = " HTTP/1.1\nHost: 127.0.0.1:8080\n"
	for _, c := range []struct {
		request, headers string
		status           int
	}{
		{"POST /shared", "", 200}, // no browser
		{"POST /shared", "Origin: http://127.0.0.1:8080\n", 200},
		{"POST /shared", "Origin: http://127.0.0.1:8080\nSec-Fetch-Site: same-origin\n", 200},
		{"POST /shared", "Sec-Fetch-Site: none\n", 200},
		{"POST /shared", "Origin: http://evil.com\n", 403},
		{"POST /shared", "Origin: http://127.0.0.1:9\n", 403},
		{"POST /shared", "Origin: http://localhost:8080\n", 403},
		{"POST /shared", "Origin: https://127.0.0.1:8080\n", 403}, // this server has no TLS
		{"GET /shared", "Origin: https://127.0.0.1:8080\n", 403},
		{"POST /shared", "Origin: http://127.0.0.1:8080/\n", 403},
		{"POST /shared", "Origin: http://u@127.0.0.1:8080\n", 403},
		{"GET /shared", "Sec-Fetch-Site: unheard-of\nSec-Fetch-Mode: cors\n", 403},
		{"GET /shared", "Sec-Fetch-Site: same-origin\nSec-Fetch-Site: cross-site\n", 403},
		{"POST /shared", "Origin: null\n", 403},
		{"POST /shared", "Origin: null\nSec-Fetch-Site: same-origin\n", 403},
		{"POST /shared", "Origin: https://chat.example.org\nOrigin: http://evil.com\n", 403},
		{"POST /shared", "Sec-Fetch-Site: cross-site\n", 403},
		{"POST /shared", "Sec-Fetch-Site: same-site\n", 403},
		{"POST /shared", "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document\n", 403}, // a form
		{"DELETE /shared", "Sec-Fetch-Site: cross-site\n", 403},
		{"BREW /shared", "Origin: http://evil.com\n", 403},
		{"GET /shared", "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: cors\nOrigin: http://evil.com\n", 403},
		{"GET /shared", "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: no-cors\nSec-Fetch-Dest: image\n", 403},
		{"GET /shared", "Sec-Fetch-Site: same-site\nSec-Fetch-Mode: cors\n", 403},
		{"GET /shared", "Origin: http://evil.com\n", 403},                                                        // of an old browser
		{"GET /shared", "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: document\n", 200}, // a link
		{"GET /shared", "Sec-Fetch-Site: cross-site\nSec-Fetch-Mode: navigate\nSec-Fetch-Dest: iframe\n", 403},
		{"GET /shared", "Sec-Fetch-Site: same-origin\nSec-Fetch-Mode: cors\n", 200},
		{"OPTIONS /shared", "Origin: http://evil.com\nAccess-Control-Request-Method: POST\n", 403},
		{"POST /shared", "Origin: https://chat.example.org\nSec-Fetch-Site: cross-site\n", 200},
		{"GET /shared", "Origin: https://chat.example.org\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: cors\n", 200},
		{"GET /shared", "Origin: https://CHAT.example.org\n", 403}, // no browser writes it so
		{"GET /shared", "Origin: https://chat.example.org.evil.com\n", 403},
		{"GET /shared", "Origin: http://chat.example.org\n", 403},
		{"OPTIONS /shared", "Origin: https://chat.example.org\nAccess-Control-Request-Method: POST\nAccess-Control-Request-Headers: content-type\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: cors\n", 204},
		{"POST /", "Origin: https://chat.example.org\nSec-Fetch-Site: cross-site\n", 403},
		{"GET /", "Origin: https://chat.example.org\nSec-Fetch-Site: cross-site\nSec-Fetch-Mode: cors\n", 403},
		{"OPTIONS /", "Origin: https://chat.example.org\nAccess-Control-Request-Method: POST\n", 403},
	} {
		res, body := raw(t, at, c.request+ask+c.headers+"Content-Length: 0\n\n")
		if res.StatusCode != c.status {
			t.Errorf("%s with %q: %d, want %d: %s", c.request, c.headers, res.StatusCode, c.status, body)
		}
		allowed := res.Header.Get("Access-Control-Allow-Origin")
		if want := map[bool]string{true: "https://chat.example.org"}[strings.Contains(c.headers, "Origin: https://chat.example.org\n") && c.status < 300]; allowed != want {
			t.Errorf("%s with %q: Access-Control-Allow-Origin %q, want %q", c.request, c.headers, allowed, want)
		}
		if res.Header.Get("Access-Control-Allow-Credentials") != "" || strings.HasSuffix(c.request, "/shared") != (res.Header.Get("Vary") == "Origin") {
			t.Errorf("%s with %q: %v", c.request, c.headers, res.Header)
		}
		if res.Header.Get("X-Content-Type-Options") != "nosniff" || res.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s with %q: %v", c.request, c.headers, res.Header)
		}
		if c.status == 204 && (res.Header.Get("Access-Control-Allow-Methods") != "GET, POST" || !strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), "Content-Type")) {
			t.Errorf("preflight: %v", res.Header)
		}
	}
}
