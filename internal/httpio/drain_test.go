package httpio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// refusing is a server that reads some of a body, and then refuses it.
func refusing(t *testing.T, stop <-chan struct{}) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(Drain(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.CopyN(io.Discard, r.Body, 1000)
		NewProblem(http.StatusRequestEntityTooLarge, "too-large", "Too large.").Write(w)
	}), stop))
	t.Cleanup(srv.Close)
	return srv
}

// A client that reads nothing before it has sent everything gets the answer all the same.
func TestDrain(t *testing.T) {
	srv := refusing(t, nil)
	const size = 24 << 20
	for name, head := range map[string]string{"known length": fmt.Sprintf("Content-Length: %d", size), "chunked": "Transfer-Encoding: chunked"} {
		conn, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n", head)
		part := strings.Repeat("x", 1<<20)
		for range size / len(part) {
			if head[0] == 'T' {
				_, err = fmt.Fprintf(conn, "%x\r\n%s\r\n", len(part), part)
			} else {
				_, err = io.WriteString(conn, part)
			}
			if err != nil {
				t.Fatalf("%s: the connection was reset: %v", name, err)
			}
		}
		if head[0] == 'T' {
			io.WriteString(conn, "0\r\n\r\n")
		}
		in := bufio.NewReader(conn)
		res, err := http.ReadResponse(in, nil)
		if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge || !res.Close {
			t.Fatalf("%s: %v %v", name, res, err)
		}
		if body, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(body), "Too large") {
			t.Errorf("%s: %s %v", name, body, err)
		}
		if _, err := in.ReadByte(); err != io.EOF { // it ends in order
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The answer comes at once, not when all was sent; a server that stops waits for nobody.
func TestDrainAnswersAtOnce(t *testing.T) {
	stop := make(chan struct{})
	srv := refusing(t, stop)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n%s", strings.Repeat("x", 2000))
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Fatalf("%v %v", res, err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || !strings.Contains(string(body), "Too large") {
		t.Errorf("%s %v", body, err)
	}
	began := time.Now()
	close(stop)
	if _, err := in.ReadByte(); err == nil || time.Since(began) >= DrainTime {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// What is taken of a refused body is bounded: a client that sends without end is cut off.
func TestDrainEnds(t *testing.T) {
	srv := refusing(t, nil)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n")
	sent, err := io.Copy(conn, zeros{})
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) || sent < DrainBytes/2 || sent > 2*DrainBytes {
		t.Errorf("%d bytes were taken, then: %v", sent, err)
	}
}

// curl says what was answered, with 100-continue and without.
func TestDrainCurl(t *testing.T) {
	srv := refusing(t, nil)
	for _, args := range [][]string{{"-H", "Expect:"}, {"-H", "Expect: 100-continue"}, {"-H", "Expect:", "-H", "Transfer-Encoding: chunked"}} {
		cmd := exec.CommandContext(t.Context(), "curl", append(args, "-sS", "--max-time", "30", "-w", "%{http_code}", "-o", "/dev/null", "-H", "Content-Type: application/json", "--data-binary", "@-", srv.URL)...)
		cmd.Stdin = io.LimitReader(zeros{}, 12<<20)
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "413" {
			t.Errorf("curl %v: %s %v", args, out, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
