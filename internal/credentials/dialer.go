package credentials

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// keepAlive is how often an idle connection is probed, as the clients do that have no dialer given.
const keepAlive = 5 * time.Minute

// Dialer connects to one server, which may be an embedded one. It reads the files of data folders
// for every connection, so that credentials which are made later are found without a new start.
type Dialer struct {
	dirs    []string
	of      func(*Pair) Server
	timeout time.Duration

	mu             sync.Mutex
	user, password string
	found          string // where they are from, or why there are none
}

// NATS returns a dialer of NATS, with a bound for connecting, which looks into data folders in
// this order. It is a nats.CustomDialer.
func NATS(dirs []string, timeout time.Duration) *Dialer {
	return &Dialer{dirs: dirs, of: func(p *Pair) Server { return p.NATS }, timeout: timeout}
}

// Redis returns a dialer of Redis; see [NATS].
func Redis(dirs []string, timeout time.Duration) *Dialer {
	return &Dialer{dirs: dirs, of: func(p *Pair) Server { return p.Redis }, timeout: timeout}
}

// Dial is [Dialer.DialContext] without a context.
func (d *Dialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, addr)
}

// DialContext connects. It fails when the address is that of the embedded server and another user
// listens there. A file that cannot be used is as good as none: it may be of another server.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: d.timeout, KeepAlive: keepAlive}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, d.unreached(err)
	}
	s, found, err := d.find(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	d.mu.Lock()
	d.user, d.password, d.found = s.User, s.Password, found
	d.mu.Unlock()
	return conn, nil
}

// Userinfo returns the credentials for the connection that was made last, if it has any.
func (d *Dialer) Userinfo() (user, password string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.user, d.password
}

// Elsewhere says where else the credentials of an embedded server may be, for the error of a server
// that refused.
const Elsewhere = "give the data folder of the `afterword serve` that runs there with --data-dir"

// Sent says which credentials were sent last, or why there were none, for the error of a server
// that refused.
func (d *Dialer) Sent() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.password != "" {
		return "which are those in " + d.found
	}
	return "none were given and " + d.found
}

// find looks for the credentials of the server that conn leads to, and says where they are from,
// or why there are none.
func (d *Dialer) find(conn net.Conn) (s Server, found string, err error) {
	remote := addrPort(conn.RemoteAddr())
	if !remote.Addr().IsLoopback() {
		return Server{}, "the server is not on this machine's loopback", nil
	}
	var without []string
	for _, dir := range d.dirs {
		file := filepath.Join(dir, FileName)
		p, owner, err := read(dir)
		switch {
		case missing(err):
			without = append(without, "there is no "+file)
		case errors.Is(err, fs.ErrPermission): // it is another user's, so perhaps not of this server
			without = append(without, file+" may be read by its owner alone")
		case err != nil:
			without = append(without, err.Error())
		case d.of(p).Addr != remote:
			without = append(without, fmt.Sprintf("%s is of the server at %s", file, d.of(p).Addr))
		default:
			if err := checkPeer(conn, owner); err != nil {
				return Server{}, "", fmt.Errorf("the credentials in %s were not sent: %w", file, err)
			}
			return d.of(p), file, nil
		}
	}
	return Server{}, strings.Join(without, ", "), nil
}

// unreached says of an address on this machine at which nothing listens that a file cannot be
// used, which may have another address. Of other errors it says nothing.
func (d *Dialer) unreached(err error) error {
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	for _, dir := range d.dirs {
		_, unread := Read(dir)
		switch {
		case unread == nil, missing(unread):
		case errors.Is(unread, fs.ErrPermission):
			return fmt.Errorf("nothing listens there, and %s may be read by its owner alone", filepath.Join(dir, FileName))
		default:
			return fmt.Errorf("nothing listens there, and %w", unread)
		}
	}
	return err
}

// missing reports whether there is no file.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
