package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// open listens on the address of a flag. Nobody is asked for credentials, so an address that other
// machines may reach is refused, unless it was said that this is meant.
func (b *builder) open(flag, addr, example string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(b.ctx, "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s %s: the address is in use: choose another with %s, or stop who has it: %w", flag, addr, flag, err)
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w: give host:port, as in %s", flag, addr, err, example)
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

// loopback reports whether only this machine can connect to an address.
func loopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
