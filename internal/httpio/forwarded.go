package httpio

import (
	"net/http"
	"net/netip"
	"strings"
)

// proxyHeaders are what proxies add, beside all that begins with X-Forwarded: they say what the client was
// or what it asked for. Those that services pass on, as the ids of traces, are not among them.
var proxyHeaders = [...]string{
	"Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "Client-Ip", "X-Cluster-Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip",
	"Fastly-Client-Ip", "Fly-Client-Ip", "X-Azure-Clientip", "X-Appengine-User-Ip", "X-Envoy-External-Address", "X-Envoy-Original-Path", "X-Nf-Client-Connection-Ip",
	"X-Original-Host", "X-Original-Url", "X-Original-For", "X-Original-Forwarded-For", "X-Rewrite-Url", "X-Host", "X-Scheme", "X-Proxyuser-Ip",
}

// forwarded names a header that says that a proxy passed the request on; "" when none does.
func forwarded(h http.Header) string {
	for _, name := range proxyHeaders {
		if _, ok := h[name]; ok {
			return name
		}
	}
	for name := range h {
		if strings.HasPrefix(name, "X-Forwarded") {
			return name
		}
	}
	return ""
}

// forwardedList is what proxies say in a header, or else in a parameter of Forwarded, in lower case: the last is the word of
// the last proxy.
func forwardedList(h http.Header, name, parameter string) (all []string) {
	for _, line := range h.Values(name) {
		for one := range strings.SplitSeq(line, ",") {
			all = append(all, strings.ToLower(strings.TrimSpace(one)))
		}
	}
	if len(all) == 0 {
		all = forwardedParameters(h, parameter)
	}
	return all
}

// forwardedHosts are the hosts that clients asked proxies for, as the proxies say.
func forwardedHosts(h http.Header) []string {
	hosts := forwardedList(h, "X-Forwarded-Host", "host")
	if _, ok := h["X-Forwarded-Host"]; ok {
		hosts = append(hosts, forwardedParameters(h, "host")...)
	}
	return hosts
}

// forwardedClient is the address that the last proxy says it got the request from.
func forwardedClient(h http.Header) (netip.Addr, bool) {
	all := forwardedList(h, "X-Forwarded-For", "for")
	if len(all) == 0 {
		all = h.Values("X-Real-Ip")
	}
	if len(all) == 0 {
		return netip.Addr{}, false
	}
	last := all[len(all)-1]
	if at, err := netip.ParseAddrPort(last); err == nil {
		return at.Addr(), true
	}
	addr, err := netip.ParseAddr(strings.Trim(last, "[]"))
	return addr, err == nil
}

// forwardedParameters are the values of a parameter of Forwarded (RFC 7239), in lower case and in order. Neither hosts
// nor addresses have commas or semicolons, so quotes need not be looked into.
func forwardedParameters(h http.Header, name string) (values []string) {
	for _, line := range h.Values("Forwarded") {
		for _, pair := range strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == ';' }) {
			key, value, ok := strings.Cut(pair, "=")
			if ok && strings.EqualFold(strings.TrimSpace(key), name) {
				values = append(values, strings.ToLower(strings.Trim(strings.TrimSpace(value), `"`)))
			}
		}
	}
	return values
}
