package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
)

// open listens on the address of a flag. Nobody is asked for credentials, so an address that other
// machines may reach is refused, unless it was said that this is meant.
func (b *builder) open(flag, addr, example string) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fmt.Errorf("%s %q is not host:port: give it as in %s", flag, addr, example)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(b.ctx, "tcp", addr)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %s: %s: %w", flag, addr, whyNot(flag, example, err), err)
	case loopback(ln.Addr()):
		return ln, nil
	case !b.o.http.unauthenticated: // a name may be of any address, so it is that of the listener that counts
		ln.Close()
		if _, port, err := net.SplitHostPort(addr); err == nil && port != "" && port != "0" {
			example = net.JoinHostPort("127.0.0.1", port)
		}
		return nil, fmt.Errorf("%s %s: other machines could connect to %s, and afterword does not authenticate them yet: "+
			"listen on loopback (%s %s), behind a proxy that authenticates, or give --allow-unauthenticated", flag, addr, ln.Addr(), flag, example)
	}
	b.exposed = append(b.exposed, ln.Addr().String())
	b.log.Warn("listening without authentication where other machines may connect: let only trusted networks reach it", "flag", flag, "address", ln.Addr().String())
	return ln, nil
}

// whyNot says why an address cannot be listened on, and what to do.
func whyNot(flag, example string, err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "the address is in use: choose another with " + flag + ", or stop the process that has it"
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EINVAL):
		return "this machine does not have the address: give one that it has, as in " + example
	case errors.Is(err, syscall.EACCES):
		return "this user may not listen on that port: give one from 1024 on"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "the name has no address: give an address, as in " + example
	}
	return "the address is not host:port: give it as in " + example
}

// checkAddresses refuses what no service can be asked at.
func checkAddresses(flag string, addrs []string) error {
	for _, addr := range addrs {
		if u, err := url.Parse("http://" + addr); err != nil || u.Hostname() == "" || u.Host != addr {
			return fmt.Errorf("%s %q is not host:port: give it as in %s", flag, addr, defaultListen)
		}
	}
	return nil
}

// loopback reports whether only this machine can connect to an address.
func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
