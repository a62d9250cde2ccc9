package embedded

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// loopback splits the address of an embedded server and refuses every one that
// another machine could reach: embedded servers have no TLS.
func loopback(addr, flag string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%s %q: want host:port, for example 127.0.0.1:4222", flag, addr)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("%s %q: the port is not 0 to 65535", flag, addr)
	}
	if host == "localhost" {
		host = "127.0.0.1" // what it resolves to is not ours to trust
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", 0, fmt.Errorf("%s %q: embedded servers have no TLS and listen on loopback only; use 127.0.0.1:%d, or run a server of its own", flag, addr, port)
	}
	return host, port, nil
}

// Check returns the error with which the servers, of which "" is none, would not start at these addresses, before
// anything is made for them.
func Check(nats, redis string) error {
	for _, s := range [...]struct{ addr, flag, url string }{{nats, natsFlag, natsURLFlag}, {redis, redisFlag, redisURLFlag}} {
		if s.addr == "" {
			continue
		}
		host, port, err := loopback(s.addr, s.flag)
		if err != nil {
			return err
		}
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			return listenError(s.addr, s.flag, s.url, err)
		}
		defer ln.Close() // both at once: they may be the same
	}
	return nil
}

// listenError says what to do about an address that an embedded server cannot have.
func listenError(addr, flag, urlFlag string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s: the address is in use: choose another with %s, or use the server there with %s: %w", flag, addr, flag, urlFlag, err)
	}
	return fmt.Errorf("%s %s: %w", flag, addr, err)
}
