package httpio

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// preflightAge is how long a browser may remember what a preflight said. Longer saves requests, and
// keeps an origin that was taken off the list for longer.
const preflightAge = 10 * time.Minute

// What pages of other origins may send, and read of an answer, beside what browsers always let them.
const (
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, traceparent, tracestate"
	corsExposed = "Allow, ETag, Location, Preference-Applied, Retry-After"
)

// ownPorts are the ports that browsers leave out of origins, by scheme.
var ownPorts = map[string]string{"http": "80", "https": "443"}

// Origins are those whose pages may use the API (CORS), as browsers write them: scheme://host[:port].
type Origins []string

// ParseOrigins reads a list, separated by commas. There is no way to allow every origin.
func ParseOrigins(list string) (Origins, error) {
	var origins Origins
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		origin, err := parseOrigin(item)
		if err != nil {
			return nil, fmt.Errorf("%q is no origin: %w: use scheme://host[:port], as in https://chat.example.org", item, err)
		}
		origins = append(origins, origin)
	}
	return origins, nil
}

// parseOrigin returns an origin as browsers write it: in lower case, without the scheme's own port.
func parseOrigin(s string) (string, error) {
	scheme, rest, ok := strings.Cut(strings.ToLower(s), "://")
	if !ok || ownPorts[scheme] == "" {
		return "", errors.New("it does not begin with http:// or https://")
	}
	if strings.ContainsAny(rest, "/?#@") {
		return "", errors.New("it has more than a host and a port")
	}
	h, err := parseHost(rest)
	if err != nil {
		return "", err
	}
	name := h.name
	if h.addr.Is6() {
		name = "[" + name + "]"
	}
	if h.port != "" && h.port != ownPorts[scheme] {
		name += ":" + h.port
	}
	return scheme + "://" + name, nil
}

// has reports whether the request is of a page that may use the API.
func (o Origins) has(r *http.Request) bool {
	given := r.Header.Values("Origin")
	return len(given) == 1 && slices.Contains(o, given[0])
}

// foreign reports whether a page of another origin sent the request. A link to a page is none: what
// it leads to is shown to who follows it, and to nobody else.
func (g *Guard) foreign(r *http.Request) bool {
	given := r.Header.Values("Origin")
	switch {
	case len(given) > 1 || len(r.Header.Values("Sec-Fetch-Site")) > 1 || len(given) == 1 && given[0] == "null":
		return true
	case elsewhere(r):
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
		framed := r.Header.Get("Sec-Fetch-Dest") != "" && r.Header.Get("Sec-Fetch-Dest") != "document"
		return !reads || r.Header.Get("Sec-Fetch-Mode") != "navigate" || framed
	}
	// Old browsers say no more than the origin, and so do all of them of a page without TLS.
	return r.Header.Get("Sec-Fetch-Site") == "" && len(given) == 1 && !g.own(r, given[0])
}

// own reports whether an origin is that of the request: the host that the client asked for, which a proxy
// may have replaced, and its port and scheme as far as they are known. This server has no TLS, but a proxy
// in front of it may have, and need not say so: the pages of a host that was named are never refused on a guess.
func (g *Guard) own(r *http.Request, origin string) bool {
	scheme, rest, _ := strings.Cut(origin, "://")
	page, err := parseHost(rest)
	if err != nil || ownPorts[scheme] == "" {
		return false
	}
	port := cmp.Or(page.port, ownPorts[scheme])
	asked, named := g.asked(r)
	schemes, ports := []string{"http"}, []string(nil)
	if named {
		schemes, ports = forwardedList(r.Header, "X-Forwarded-Proto", "proto"), forwardedList(r.Header, "X-Forwarded-Port", "")
	}
	return (len(schemes) == 0 || slices.Contains(schemes, scheme)) && slices.ContainsFunc(asked, func(h host) bool {
		usual := h.port == "" || named && (h.port == "80" || h.port == "443") // perhaps not of the scheme that the client used
		return h.name == page.name && (h.port == port || usual && port == ownPorts[scheme] || slices.Contains(ports, port))
	})
}

// asked is the host that the client asked for. named says that it is one of those that were named: then a proxy
// may have passed the request on, and its headers count.
func (g *Guard) asked(r *http.Request) (hosts []host, named bool) {
	for _, s := range forwardedHosts(r.Header) {
		if h, err := parseHost(s); err == nil && g.hosts.has(&h) {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) > 0 {
		return hosts, true
	}
	h, err := parseHost(r.Host)
	return []host{h}, err == nil && g.hosts.has(&h)
}

// elsewhere reports whether a browser says that a page of another origin made it send the request, by a link too.
func elsewhere(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	}
	return true
}

// allow lets the page read the answer.
func (o Origins) allow(h http.Header, r *http.Request) {
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	h.Set("Access-Control-Expose-Headers", corsExposed)
}

// Preflight answers the question of a browser whether a page of an allowed origin may send a request
// with a method and headers, where that is the question. allow lists the methods of the path.
func (g *Guard) Preflight(w http.ResponseWriter, r *http.Request, allow string) bool {
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" || !g.origins.has(r) {
		return false
	}
	h := w.Header()
	if allow != "" { // else there is nothing at the path, which the request itself is told
		h.Set("Access-Control-Allow-Methods", allow)
	}
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", strconv.Itoa(int(preflightAge.Seconds())))
	w.WriteHeader(http.StatusNoContent)
	return true
}
