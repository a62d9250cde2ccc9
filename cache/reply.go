package cache

import (
	"context"
	"errors"
	"net"
	"syscall"
)

// errOversized says that Redis was about to send a value that is larger than afterword writes.
var errOversized = errors.New("a value in Redis is larger than any that afterword writes")

// maxLength is where the length of a value stops being counted.
const maxLength = 1 << 40

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// bounded makes connections that take no value of more than limit bytes. A forged value costs neither its memory
// nor the time that it takes on the network, after which Redis would seem not to answer: the connection fails with
// errOversized as soon as the length has come, which is before the value.
func (dial dialer) bounded(limit int) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		b := &replyConn{Conn: conn, limit: limit}
		if s, ok := conn.(syscall.Conn); ok { // by which the pool sees that a connection was closed
			return struct {
				*replyConn
				syscall.Conn
			}{b, s}, nil
		}
		return b, nil
	}
}

// replyConn follows the replies that come through a connection, far enough to know the length of each value.
type replyConn struct {
	net.Conn
	limit int

	err    error // of every read, once a value was too large
	kind   byte  // the first of a line; 0 at its beginning
	length int   // that the line says
	skip   int   // what is left of a value
}

func (c *replyConn) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.Conn.Read(p)
	if c.follow(p[:n]); c.err != nil {
		return 0, c.err
	}
	return n, err
}

func (c *replyConn) follow(p []byte) {
	for len(p) > 0 {
		if c.skip > 0 {
			n := min(c.skip, len(p))
			p, c.skip = p[n:], c.skip-n
			continue
		}
		b := p[0]
		p = p[1:]
		switch {
		case c.kind == 0:
			c.kind, c.length = b, 0
		case b == '\n':
			if c.length > 0 && (c.kind == '$' || c.kind == '=' || c.kind == '!') {
				c.skip = c.length + len("\r\n")
			}
			if c.kind = 0; c.skip > c.limit+len("\r\n") {
				c.err = errOversized
				return
			}
		case b == '-': // an absent value
			c.length = -maxLength
		case '0' <= b && b <= '9' && -maxLength < c.length && c.length < maxLength:
			c.length = 10*c.length + int(b-'0')
		}
	}
}
