package httpio

import (
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
	if !ok || scheme != "http" && scheme != "https" {
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
	if h.port != "" && h.port != map[string]string{"http": "80", "https": "443"}[scheme] {
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
	if len(given) > 1 || len(r.Header.Values("Sec-Fetch-Site")) > 1 || len(given) == 1 && given[0] == "null" || g.cross.Check(r) != nil {
		return true
	}
	switch {
	case elsewhere(r):
		framed := r.Header.Get("Sec-Fetch-Dest") != "" && r.Header.Get("Sec-Fetch-Dest") != "document"
		return r.Header.Get("Sec-Fetch-Mode") != "navigate" || framed
	case r.Header.Get("Sec-Fetch-Site") == "" && len(given) > 0: // of an old browser, or of a page without TLS
		scheme, host, _ := strings.Cut(given[0], "://")
		return host != r.Host || !g.scheme(r, scheme)
	}
	return false
}

// scheme reports whether a page of this server may have been read with a scheme: with http, unless a
// proxy in front of it has TLS. A proxy whose host was named need not say so.
func (g *Guard) scheme(r *http.Request, scheme string) bool {
	if said := forwardedScheme(r.Header); said != "" {
		return scheme == said
	}
	asked, err := parseHost(r.Host)
	return scheme == "http" || scheme == "https" && err == nil && g.hosts.has(&asked)
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
