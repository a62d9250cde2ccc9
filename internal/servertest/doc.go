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
	"math/rand/v2"
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

// Ports of these tests are below those that the kernel hands out, 32768 and up by default: no
// client and no listener on port 0 takes one while its server is down.
const firstPort, lastPort = 10_000, 32_767

// freePorts returns n different loopback ports that nobody uses right now, and that no other
// test is given until this one ends.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, 0, n)
	for range 1000 {
		if len(ports) == n {
			return ports
		}
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		claim, err := net.ListenPacket("udp", loopback(port)) // over all test processes; the servers use TCP
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", loopback(port))
		if err != nil {
			claim.Close()
			continue
		}
		l.Close()
		t.Cleanup(func() { claim.Close() })
		ports = append(ports, port)
	}
	t.Fatalf("find %d free ports: none is left", n)
	return nil
}

// FreeAddr is a loopback host:port at which nobody listens until the test ends, but whom it
// lets listen there.
func FreeAddr(t testing.TB) string {
	t.Helper()
	return loopback(freePorts(t, 1)[0])
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
