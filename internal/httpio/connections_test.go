package httpio

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

// Clients that open connections and say nothing, or keep them after an answer, keep nobody out: the one that was
// quiet for longest ends. Those with a request under way stay, and when all are so, others wait.
func TestConnections(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const most = 3
	conns := NewConnections(ln, most)
	var full atomic.Int32
	conns.OnFull = func() { full.Add(1) }
	release := make(chan struct{})
	srv := &http.Server{ConnState: conns.State, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush()
			<-release
		}
		io.WriteString(w, "answered")
	})}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(conns) }()
	t.Cleanup(func() { srv.Close() })

	dial := func() net.Conn {
		t.Helper()
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(patience))
		return conn
	}
	ask := func(conn net.Conn, path string) *http.Response {
		t.Helper()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return res
	}
	answered := func(conn net.Conn) {
		t.Helper()
		res := ask(conn, "/")
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != "answered" {
			t.Fatalf("%s, %v", body, err)
		}
	}
	over := func(conn net.Conn) {
		t.Helper()
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("a connection that should have ended has not: %d %v", n, err)
		}
	}
	open := func(want int) {
		t.Helper()
		servertest.Eventually(t, patience, fmt.Sprintf("%d open connections", want), func() bool { n, _ := conns.Counts(); return n == want })
	}

	silent := dial()
	open(1)
	kept := dial()
	answered(kept)
	for range 20 { // many more than there may be, each of which is answered
		conn := dial()
		answered(conn)
	}
	over(silent)
	over(kept)
	if n, ended := conns.Counts(); n != most || ended != 22-most || full.Load() != 22-most {
		t.Errorf("%d open, %d ended, full %d times", n, ended, full.Load())
	}

	// Requests under way are not ended.
	var slow []*http.Response
	for range most {
		slow = append(slow, ask(dial(), "/slow"))
	}
	before := full.Load()
	late := dial()
	fmt.Fprint(late, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	servertest.Eventually(t, patience, "a connection to wait", func() bool { return full.Load() > before })
	if n, _ := conns.Counts(); n != most {
		t.Errorf("%d open", n)
	}
	close(release)
	for _, res := range slow {
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != "answered" {
			t.Errorf("%s, %v", body, err)
		}
	}
	if res, err := http.ReadResponse(bufio.NewReader(late), nil); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("the one that waited: %v", err)
	}
}

// A server that has no room stops all the same.
func TestConnectionsClose(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns := NewConnections(ln, 1)
	waits := make(chan struct{}, 1)
	conns.OnFull = func() { waits <- struct{}{} }
	in := make(chan struct{})
	srv := &http.Server{ConnState: conns.State, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(in)
		<-r.Context().Done()
	})}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(conns) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-in
	second, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	select {
	case <-waits:
	case <-time.After(patience):
		t.Fatal("the second connection does not wait")
	}
	srv.Close()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("it goes on accepting")
	}
	open := func() bool { n, _ := conns.Counts(); return n == 0 }
	servertest.Eventually(t, patience, "no open connection", open)
}
