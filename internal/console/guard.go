package console

import (
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// policy lets the page have what it is made of, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// guard sets the headers of every answer, and refuses requests that a page of
// somebody else may have sent.
func (c *Console) guard(w http.ResponseWriter, r *http.Request) bool {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store")
	if c.cfg.Loopback && !c.ownHost(r.Host) {
		newProblem(http.StatusMisdirectedRequest, "This console listens on loopback and answers for this machine only, not for the host that was asked for. "+
			"If a proxy asks, name its host with --console-host.").write(w)
		return false
	}
	// Also for what only reads: no other site has a use for it. A link to the page is fine.
	site := r.Header.Get("Sec-Fetch-Site")
	foreign := (site == "cross-site" || site == "same-site") && r.Header.Get("Sec-Fetch-Mode") != "navigate"
	if foreign || c.cross.Check(r) != nil {
		newProblem(http.StatusForbidden, "This request comes from a page of another site.").write(w)
		return false
	}
	return true
}

// ownHost reports whether a request is for this machine by a name that nobody else
// can give it.
func (c *Console) ownHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if slices.Contains(c.cfg.Hosts, name) || slices.Contains(c.cfg.Hosts, host) {
		return true
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

// change lets a handler change something, unless it must not. What it is asked has to be JSON,
// which no form of a page can send.
func (c *Console) change(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if c.cfg.ReadOnly {
			return newProblem(http.StatusForbidden, "This console is read-only: it was started with --read-only.")
		}
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			return newProblem(http.StatusUnsupportedMediaType, "Send application/json.")
		}
		return h(w, r)
	}
}

// limited bounds how many such requests are answered at one time.
func (c *Console) limited(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
			return h(w, r)
		default:
			return newProblem(http.StatusServiceUnavailable, "Too many such requests are being answered. Try again.")
		}
	}
}
