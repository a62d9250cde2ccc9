package faults

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands between clients and a server on loopback, and can be cut.
type Proxy struct {
	target string
	listen net.Listener
	work   sync.WaitGroup

	mu     sync.Mutex
	cut    bool
	closed bool
	conns  map[net.Conn]bool
	healed chan struct{} // closed while traffic passes
}

// NewProxy listens on a free loopback port.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listen: l, conns: make(map[net.Conn]bool), healed: make(chan struct{})}
	close(p.healed)
	p.work.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Addr is the host:port for clients.
func (p *Proxy) Addr() string { return p.listen.Addr().String() }

// Cut holds all traffic back, both ways, and nobody is told: a partition.
// Connections stay open and are still accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.cut && !p.closed {
		p.cut, p.healed = true, make(chan struct{})
	}
}

// Heal lets traffic pass again, that which was held back first.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut {
		p.cut = false
		close(p.healed)
	}
}

// Reset breaks all connections there are.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
	}
}

func (p *Proxy) accept() {
	for {
		c, err := p.listen.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.target)
		if err != nil {
			c.Close()
			continue
		}
		if !p.keep(c, s) {
			return
		}
		p.work.Go(func() { p.pass(c, s) })
		p.work.Go(func() { p.pass(s, c) })
	}
}

func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.closed {
			c.Close()
			continue
		}
		p.conns[c] = true
	}
	return !p.closed
}

func (p *Proxy) pass(from, to net.Conn) {
	defer func() {
		from.Close()
		to.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
		delete(p.conns, to)
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		healed := p.healed
		p.mu.Unlock()
		<-healed
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			if err == io.EOF {
				if tcp, ok := to.(*net.TCPConn); ok {
					tcp.CloseWrite()
				}
			}
			return
		}
	}
}

func (p *Proxy) close() {
	p.listen.Close()
	p.mu.Lock()
	p.closed = true
	if p.cut {
		p.cut = false
		close(p.healed)
	}
	p.mu.Unlock()
	p.Reset()
	p.work.Wait()
}
