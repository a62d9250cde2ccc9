package httpio

import (
	"container/list"
	"net"
	"net/http"
	"sync"
)

// Connections bounds how many connections a server has open. When there are as many as there may be, a new one
// ends the one that has been quiet for longest; when all of them are in use, new ones wait to be
// accepted until one is not. It is the listener of one [http.Server], which reports to [Connections.State].
type Connections struct {
	net.Listener
	most int
	// OnFull, if it is set, is called each time that a connection is ended for another one, or has to wait. It
	// must not block.
	OnFull func()

	mu     sync.Mutex
	room   *sync.Cond // there may be room, or the listener was closed
	open   map[net.Conn]*list.Element
	quiet  list.List // connections without a request, the longest quiet first
	closed bool
	ended  uint64 // for others
}

// NewConnections bounds the connections of a listener to most.
func NewConnections(ln net.Listener, most int) *Connections {
	c := &Connections{Listener: ln, most: most, open: make(map[net.Conn]*list.Element)}
	c.room = sync.NewCond(&c.mu)
	return c
}

// Accept waits for a connection, and then for room for it.
func (c *Connections) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	old, ok := c.admit(conn)
	if !ok {
		conn.Close()
		return nil, net.ErrClosed
	}
	if old != nil {
		old.Close()
		c.full()
	}
	return conn, nil
}

// admit adds a connection when there is room, and returns the one that has to end for it. ok is false when the
// listener was closed meanwhile.
func (c *Connections) admit(conn net.Conn) (old net.Conn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mustWait() {
		c.full()
	}
	for c.mustWait() {
		c.room.Wait()
	}
	if c.closed {
		return nil, false
	}
	if len(c.open) >= c.most {
		old = c.quiet.Remove(c.quiet.Front()).(net.Conn)
		delete(c.open, old)
		c.ended++
	}
	c.open[conn] = c.quiet.PushBack(conn)
	return old, true
}

// mustWait reports whether all connections are in use. The caller has the lock.
func (c *Connections) mustWait() bool {
	return !c.closed && len(c.open) >= c.most && c.quiet.Len() == 0
}

func (c *Connections) full() {
	if c.OnFull != nil {
		c.OnFull()
	}
}

// State is for [http.Server.ConnState].
func (c *Connections) State(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.open[conn]
	if !ok { // it was ended
		return
	}
	if at != nil {
		c.quiet.Remove(at)
		c.open[conn] = nil
	}
	switch state {
	case http.StateNew, http.StateIdle:
		c.open[conn] = c.quiet.PushBack(conn)
		c.room.Signal()
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
		c.room.Signal()
	}
}

// Close closes the listener; connections stay open.
func (c *Connections) Close() error {
	c.mu.Lock()
	c.closed = true
	c.room.Broadcast()
	c.mu.Unlock()
	return c.Listener.Close()
}

// Counts returns how many connections are open, and how many were ended for others since the start.
func (c *Connections) Counts() (open int, ended uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open), c.ended
}
