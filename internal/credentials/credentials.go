// Package credentials has those of the embedded servers of `afterword serve`, and gives them to
// these servers alone.
//
// They are in <data-dir>/credentials, a file that only its owner may read ([secret]), as two lines
// that shells, container tools and service managers read as environment variables:
//
//	NATS_URL=nats://afterword:<password>@127.0.0.1:4222
//	REDIS_URL=redis://:<password>@127.0.0.1:6379
//
// Both passwords have 256 bits. They are made at the first start and stay; the addresses are those
// of the last start. Other lines are left alone.
//
// Whoever connects to one of the two addresses, and was given no credentials otherwise, has them
// from the file ([Dialer]). A password has to cross the wire, so that clients in every language can
// send it (an nkey would not, but signing takes more than a standard library). It goes to a server
// only if
//
//   - the connection leads to the very address that the file names, which is on loopback, and
//   - whoever listens there is the owner of the file, or root: the kernel says so (/proc/net/tcp).
//
// So neither another machine nor another user who took the port while the server is down sees it:
// such a connection is an error, and nothing is sent. A process of the same user, and root, can
// read the file itself.
package credentials

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/afterword-io/afterword/internal/secret"
)

const (
	// FileName is the name of the file in the data folder.
	FileName = "credentials"

	natsName, redisName     = "NATS_URL", "REDIS_URL"
	natsScheme, redisScheme = "nats", "redis"
	natsUser                = "afterword"

	header = "# Credentials of the embedded servers of `afterword serve`. Its commands find them here; other programs\n" +
		"# have them as environment variables, in a shell with: set -a; . <data folder>/" + FileName + "; set +a\n"
)

// Server is one of the embedded servers.
type Server struct {
	// Addr is where it listens: a loopback address and a port.
	Addr netip.AddrPort
	// User may be empty.
	User, Password string
}

// Listens sets the address, an IP address and a port.
func (s *Server) Listens(addr string) (err error) {
	if s.Addr, err = netip.ParseAddrPort(addr); err != nil {
		return fmt.Errorf("address of an embedded server: %w", err)
	}
	return nil
}

// Pair is what a file says.
type Pair struct {
	NATS, Redis Server

	file string
	text string // as it was read
}

// Make returns the credentials in a data folder. If there are none, they are made, and the
// folder too; the addresses are then those that are given.
func Make(dir, nats, redis string) (*Pair, error) {
	p := &Pair{NATS: Server{User: natsUser, Password: secret.Text()}, Redis: Server{Password: secret.Text()}}
	if err := errors.Join(p.NATS.Listens(nats), p.Redis.Listens(redis)); err != nil {
		return nil, err
	}
	p.text = header + natsName + "=\n" + redisName + "=\n"
	file := filepath.Join(dir, FileName)
	b, err := secret.Make(file, []byte(p.String()))
	if err != nil {
		return nil, err
	}
	return parse(file, string(b))
}

// Read returns the credentials in a data folder. Without a file it is an [fs.ErrNotExist].
func Read(dir string) (*Pair, error) {
	p, _, err := read(dir)
	return p, err
}

// read says whose file it is, too.
func read(dir string) (*Pair, int, error) {
	file := filepath.Join(dir, FileName)
	b, uid, err := secret.ReadOwned(file)
	if err != nil {
		return nil, 0, err
	}
	p, err := parse(file, string(b))
	return p, uid, err
}

// Save makes the file say what the pair says, if it does not already.
func (p *Pair) Save() error {
	text := p.String()
	if text == p.text {
		return nil
	}
	if err := secret.Replace(p.file, []byte(text)); err != nil {
		return err
	}
	p.text = text
	return nil
}

// File is where they are.
func (p *Pair) File() string { return p.file }

// String is the text of the file: it has the secrets.
func (p *Pair) String() string {
	var text strings.Builder
	for line := range strings.Lines(p.text) {
		switch name, _, _ := strings.Cut(line, "="); name {
		case natsName:
			line = natsName + "=" + p.NATS.url(natsScheme) + "\n"
		case redisName:
			line = redisName + "=" + p.Redis.url(redisScheme) + "\n"
		}
		text.WriteString(line)
	}
	return text.String()
}

func (s Server) url(scheme string) string {
	return (&url.URL{Scheme: scheme, User: url.UserPassword(s.User, s.Password), Host: s.Addr.String()}).String()
}

// parse reads a file. Its errors show nothing of it.
func parse(file, text string) (*Pair, error) {
	p := &Pair{file: file, text: text}
	found := make(map[string]int)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		var err error
		switch name {
		case natsName:
			p.NATS, err = parseServer(value, natsScheme)
		case redisName:
			p.Redis, err = parseServer(value, redisScheme)
		default:
			continue
		}
		if err != nil {
			return nil, damaged(file, name+" "+err.Error())
		}
		found[name]++
	}
	for _, name := range []string{natsName, redisName} {
		if found[name] != 1 {
			return nil, damaged(file, fmt.Sprintf("it has %d lines %s=…, not one", found[name], name))
		}
	}
	return p, nil
}

func damaged(file, why string) error {
	return fmt.Errorf("credentials file %s is damaged: %s: bring it back from a backup, or move it away and start `afterword serve` again for new credentials", file, why)
}

func parseServer(text, scheme string) (Server, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != scheme || u.User == nil {
		return Server{}, fmt.Errorf("is no URL as in %s://user:password@127.0.0.1:4222", scheme)
	}
	addr, err := netip.ParseAddrPort(u.Host)
	if err != nil || !addr.Addr().IsLoopback() || addr.Port() == 0 {
		return Server{}, errors.New("has no loopback address with a port")
	}
	password, _ := u.User.Password()
	if password == "" {
		return Server{}, errors.New("has no password")
	}
	return Server{addr, u.User.Username(), password}, nil
}
