package httpio

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
)

// Guard says who may ask. It is safe for concurrent use.
type Guard struct {
	hosts   Hosts
	origins Origins
}

// NewGuard makes a guard. Without hosts a server answers for its own addresses, without origins for
// its own pages alone.
func NewGuard(hosts Hosts, origins Origins) *Guard {
	return &Guard{hosts, origins}
}

// Around refuses what must not reach a handler. Not even links of other sites lead there: following one has an
// effect, as taking a profile has.
func (g *Guard) Around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := g.Check(w, r, false)
		if p == nil && elsewhere(r) {
			p = NewProblem(http.StatusForbidden, "origin", "This request comes from a page of another site.")
		}
		if p != nil {
			p.Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Check returns why a request is refused; nil lets it pass. It sets the headers that every answer has.
// shared says that pages of the allowed origins may use the path.
func (g *Guard) Check(w http.ResponseWriter, r *http.Request, shared bool) *Problem {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin") // of what a page embeds without asking; CORS does not need it
	h.Set("Cache-Control", "no-store")
	if p := g.checkHost(r); p != nil {
		return p
	}
	shared = shared && len(g.origins) > 0
	if shared {
		h.Add("Vary", "Origin")
	}
	switch {
	case shared && g.origins.has(r):
		g.origins.allow(h, r)
	case g.foreign(r):
		return NewProblem(http.StatusForbidden, "origin", "This request comes from a page of another site. Its origin can be allowed with --cors-origins, for /v1 alone.")
	}
	return nil
}

// checkHost refuses a request for another host, and one that came through a proxy that nobody named.
func (g *Guard) checkHost(r *http.Request) *Problem {
	asked, err := parseHost(r.Host)
	switch {
	case r.URL.User != nil:
		return misdirected("The request has a user in the place of a host.")
	case r.Host == "":
		return misdirected("The request names no host.")
	case err != nil:
		return misdirected(fmt.Sprintf("%q is no host: %v.", shorten(r.Host), err))
	case g.hosts.has(&asked):
		return nil
	case !asked.loopback() && !arrivedAt(r, asked.addr):
		return misdirected(fmt.Sprintf("%q is not a host of this server. Name it in --allowed-hosts if it should be.", shorten(r.Host)))
	}
	by := forwarded(r.Header)
	if by == "" {
		return nil
	}
	if hosts := forwardedHosts(r.Header); len(hosts) > 0 && !slices.ContainsFunc(hosts, func(s string) bool {
		h, err := parseHost(s)
		return err != nil || !g.hosts.has(&h)
	}) {
		return nil
	}
	return misdirected("The header " + by + " says that a proxy passed this request on, and no host of a proxy was named. " +
		"Name the host that it answers for in --allowed-hosts, and have it send that, as Host or as X-Forwarded-Host.")
}

func misdirected(detail string) *Problem {
	return NewProblem(http.StatusMisdirectedRequest, "host", detail)
}

// arrivedAt reports whether the connection came in on an address.
func arrivedAt(r *http.Request, addr netip.Addr) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || !addr.IsValid() {
		return false
	}
	tcp, ok := local.(*net.TCPAddr)
	return ok && tcp.AddrPort().Addr().Unmap().WithZone("") == addr
}

// Client tells clients apart: by their address, or behind a proxy whose host was named, by the one
// that it gives. Of an IPv6 address that is the network, and of this machine all of 127.0.0.0/8, which one
// client has whole.
func (g *Guard) Client(r *http.Request) string {
	addr := remote(r)
	if forwarded(r.Header) != "" && g.checkHost(r) == nil {
		if a, ok := forwardedClient(r.Header); ok {
			addr = a
		}
	}
	addr = addr.Unmap().WithZone("")
	switch {
	case addr.IsLoopback():
		return "127.0.0.1"
	case addr.Is6():
		if network, err := addr.Prefix(64); err == nil {
			return network.String()
		}
	}
	return addr.String()
}

// remote is the address that a connection came from; the zero Addr where that is unknown.
func remote(r *http.Request) netip.Addr {
	at, _ := netip.ParseAddrPort(r.RemoteAddr)
	return at.Addr()
}
