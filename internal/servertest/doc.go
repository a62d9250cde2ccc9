// Package servertest runs the real servers that tests need: NATS in process or
// as processes of their own, and Redis. Only tests import it.
//
// Every server listens on a free loopback port, keeps its data in a folder of
// the test, and is gone when the test ends, whatever happened to it: a process
// is continued and killed by its own pid, and dies with the test binary. A
// server that cannot be started fails the test; nothing is skipped.
package servertest

import (
	"fmt"
	"net"
	"testing"
	"time"
)

const (
	// StartTimeout bounds the start of one server.
	StartTimeout = 20 * time.Second

	pollEvery     = 10 * time.Millisecond
	startAttempts = 5 // another process may take a port between our choosing and the server's listening
)

// Eventually polls ok until it is true, and fails the test if it is not within
// timeout. what completes "timed out waiting for …".
func Eventually(t testing.TB, timeout time.Duration, what string, ok func() bool) {
	t.Helper()
	if err := poll(timeout, ok); err != nil {
		t.Fatalf("timed out after %s waiting for %s", timeout, what)
	}
}

func poll(timeout time.Duration, ok func() bool) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok() {
			return nil
		}
		select {
		case <-deadline.C:
			return fmt.Errorf("timed out after %s", timeout)
		case <-tick.C:
		}
	}
}

// freePorts returns n different loopback ports that nobody uses right now.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatalf("find a free port: %v", err)
		}
		defer l.Close() // after all are taken, so that they differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
