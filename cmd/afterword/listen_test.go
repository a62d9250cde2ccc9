package main

import (
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
)

func opener(t *testing.T, unauthenticated bool) *builder {
	return &builder{
		service: &service{log: slog.New(slog.DiscardHandler), ctx: t.Context()},
		o:       serviceOptions{http: httpOptions{unauthenticated: unauthenticated}},
	}
}

// It is the address of the listener that counts, however it was written.
func TestListenElsewhere(t *testing.T) {
	elsewhere := []string{":0", "0.0.0.0:0", "[::ffff:0.0.0.0]:0"}
	if ln, err := net.Listen("tcp", "[::]:0"); err == nil {
		ln.Close()
		elsewhere = append(elsewhere, "[::]:0")
	}
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			elsewhere = append(elsewhere, net.JoinHostPort(n.IP.String(), "0"))
		}
	}
	if name, err := os.Hostname(); err == nil { // a name of this machine, which may be any address
		if a, err := net.ResolveTCPAddr("tcp", name+":0"); err == nil && !a.IP.IsLoopback() {
			elsewhere = append(elsewhere, name+":0")
		}
	}
	for _, flag := range []string{"--listen", "--pprof"} {
		for _, addr := range elsewhere {
			if ln, err := opener(t, false).open(flag, addr, defaultListen); err == nil {
				ln.Close()
				t.Errorf("%s %s is open", flag, addr)
			} else if text := err.Error(); !strings.Contains(text, flag+" "+addr) || !strings.Contains(text, "--allow-unauthenticated") || !strings.Contains(text, "loopback") || !strings.Contains(text, "authenticate") {
				t.Errorf("%s %s: %v", flag, addr, err)
			}
			b := opener(t, true)
			ln, err := b.open(flag, addr, defaultListen)
			if err != nil || len(b.exposed) != 1 || b.exposed[0] != ln.Addr().String() {
				t.Fatalf("%s %s: %v, %v", flag, addr, err, b.exposed)
			}
			ln.Close()
		}
		for _, addr := range []string{"127.0.0.1:0", "localhost:0", "127.9.9.9:0"} {
			b := opener(t, false)
			ln, err := b.open(flag, addr, defaultListen)
			if err != nil || len(b.exposed) != 0 {
				t.Fatalf("%s %s: %v, %v", flag, addr, err, b.exposed)
			}
			ln.Close()
		}
	}
}

// An address that cannot be listened on is refused with what is wrong with it.
func TestListenNowhere(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for addr, why := range map[string]string{
		"": "not host:port", "8080": "not host:port", "127.0.0.1": "not host:port", "::1:8080": "not host:port", "http://127.0.0.1:8080": "not host:port",
		"127.0.0.1:99999": "not host:port", "192.0.2.1:0": "does not have the address", taken.Addr().String(): "in use",
	} {
		ln, err := opener(t, true).open("--listen", addr, defaultListen)
		if err == nil {
			ln.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "--listen ") || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
