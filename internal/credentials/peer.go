package credentials

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// The kernel's lists of sockets, in the network of this thread.
const (
	sockets4 = "/proc/thread-self/net/tcp"
	sockets6 = "/proc/thread-self/net/tcp6"

	listening = "0A"
)

// socket is a line of such a list.
type socket struct {
	local, remote netip.AddrPort
	listens       bool
	uid           int
}

// checkPeer fails unless a user, or root, has the other end of a connection on this machine. The
// listening socket tells whom a connection belongs to that nobody accepted yet, and after that
// the accepted one does; so both are looked at.
func checkPeer(conn net.Conn, uid int) error {
	server, client := addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr())
	listens := false
	for _, list := range []string{sockets4, sockets6} {
		f, err := os.Open(list)
		if os.IsNotExist(err) && list == sockets6 {
			continue // a machine without IPv6
		}
		if err != nil {
			return fmt.Errorf("nobody can tell who listens at %s: %w: give the URL with its credentials", server, err)
		}
		err = eachSocket(f, func(s socket) error {
			here := s.local == server || s.listens && s.local.Port() == server.Port() && s.local.Addr().IsUnspecified()
			if !here || !s.listens && s.remote != client {
				return nil
			}
			if s.uid != uid && s.uid != 0 {
				return fmt.Errorf("user %d listens at %s, not user %d whose they are: stop that program, or give the URL of another server", s.uid, server, uid)
			}
			listens = listens || s.listens
			return nil
		})
		f.Close()
		if err != nil {
			return err
		}
	}
	if !listens {
		return fmt.Errorf("nobody can tell who listens at %s: it is in no list of the kernel: give the URL with its credentials", server)
	}
	return nil
}

// eachSocket calls fn with every line of a list, until its first error.
func eachSocket(list io.Reader, fn func(socket) error) error {
	lines := bufio.NewScanner(list)
	lines.Scan() // the headings
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 8 {
			continue
		}
		uid, err := strconv.Atoi(f[7])
		if err != nil {
			return fmt.Errorf("read the kernel's list of sockets: %w", err)
		}
		if err := fn(socket{parseAddr(f[1]), parseAddr(f[2]), f[3] == listening, uid}); err != nil {
			return err
		}
	}
	return lines.Err()
}

// parseAddr reads an address as the kernel prints it: words of the machine's byte order in hex.
func parseAddr(text string) netip.AddrPort {
	host, port, _ := strings.Cut(text, ":")
	b, err1 := hex.DecodeString(host)
	p, err2 := strconv.ParseUint(port, 16, 16)
	if err1 != nil || err2 != nil || len(b)%4 != 0 {
		return netip.AddrPort{}
	}
	for word := b; len(word) > 0; word = word[4:] {
		binary.NativeEndian.PutUint32(word, binary.BigEndian.Uint32(word))
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(p))
}
