package httpio

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// host is a host as a request names it: a name in lower case or an address, and a port.
type host struct {
	name string
	addr netip.Addr // of an address, without a zone; the zero Addr of a name
	port string     // "" is none
}

// parseHost reads host[:port], with an address of IPv6 in brackets. What a resolver would take for an
// address by itself (127.1, 0x7f000001) is no address here, and a name that may have any owner.
func parseHost(s string) (h host, err error) {
	name, port := s, ""
	if strings.HasPrefix(s, "[") {
		inside, rest, ok := strings.Cut(s[1:], "]")
		if !ok || rest != "" && rest[0] != ':' {
			return h, errors.New("its brackets do not match")
		}
		inside, _, _ = strings.Cut(inside, "%") // a zone is of the client's machine
		if h.addr, err = netip.ParseAddr(inside); err != nil || !h.addr.Is6() {
			return h, errors.New("it has no IPv6 address in its brackets")
		}
		name, port = h.addr.String(), strings.TrimPrefix(rest, ":")
	} else {
		if strings.Count(s, ":") > 1 && strings.Trim(s, "0123456789abcdefABCDEF:.%") == "" {
			return h, errors.New("an IPv6 address is written in brackets")
		}
		name, port, _ = strings.Cut(s, ":")
		if name, err = checkName(name); err != nil {
			return h, err
		}
		if addr, err := netip.ParseAddr(name); err == nil {
			h.addr = addr
		}
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return h, errors.New("its port is not 1 to 65535")
		}
		port = strconv.FormatUint(n, 10)
	}
	h.name, h.port, h.addr = name, port, h.addr.Unmap()
	if h.addr.IsValid() {
		h.name = h.addr.String()
	}
	return h, nil
}

// checkName returns a name as it is compared: in lower case, without the dot of the root.
func checkName(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	switch {
	case name == "":
		return "", errors.New("it is empty")
	case len(name) > 253:
		return "", errors.New("it is longer than 253 bytes")
	case strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "":
		return "", errors.New("a host has a-z 0-9 - _ and . only, and an IPv6 address brackets")
	case strings.HasPrefix(name, ".") || strings.Contains(name, "..") || strings.HasSuffix(name, "."):
		return "", errors.New("a part of it is empty")
	}
	return name, nil
}

// loopback reports whether h is this machine, whoever asks and whatever a resolver says: browsers
// take every name below localhost for loopback, and no registry gives one out.
func (h *host) loopback() bool {
	if h.addr.IsValid() {
		return h.addr.IsLoopback()
	}
	return h.name == "localhost" || strings.HasSuffix(h.name, ".localhost")
}

// Hosts are the hosts for which a server answers beside its own addresses.
type Hosts []host

// ParseHosts reads a list, separated by commas: names and addresses, each with a port or without, which
// means any port.
func ParseHosts(list string) (Hosts, error) {
	var hosts Hosts
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		h, err := parseHost(item)
		if strings.Contains(item, "/") {
			err = errors.New("it has more than a host and a port")
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no host: %w: use names and addresses, as in chat.example.org,10.0.0.5:8080", item, err)
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// has reports whether h is one of them. A request without a port is for the port of its scheme, which
// a proxy may have changed.
func (hs Hosts) has(h *host) bool {
	return slices.ContainsFunc(hs, func(l host) bool {
		return l.name == h.name && (l.port == "" || l.port == h.port || h.port == "" && (l.port == "80" || l.port == "443"))
	})
}
