package faults

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Network is a network namespace of a test's own, reached over a pair of virtual
// interfaces. Nothing else of the machine is touched: rules live in the namespace.
type Network struct {
	t         testing.TB
	name      string
	here, far string // addresses of the two ends
}

// NewNetwork makes a namespace whose inside has an address of its own.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	NeedRoot(t)
	ip := needTool(t, "ip")
	needTool(t, "nft")
	needTool(t, "nsenter")
	n := os.Getpid() % 16384 // one network at a time in a test process
	w := &Network{t: t, name: fmt.Sprintf("afterword-%d", os.Getpid()),
		// Of the range for tests of networks (RFC 2544).
		here: fmt.Sprintf("198.18.%d.%d", n/64, n%64*4+1), far: fmt.Sprintf("198.18.%d.%d", n/64, n%64*4+2)}
	if out, err := exec.Command(ip, "netns", "add", w.name).CombinedOutput(); err != nil {
		Lack(t, "this fault needs network namespaces: %v: %s", err, out)
	}
	outside := fmt.Sprintf("aw%d", os.Getpid())
	t.Cleanup(func() {
		exec.Command(ip, "netns", "delete", w.name).Run()
		exec.Command(ip, "link", "delete", outside).Run()
	})
	if out, err := exec.Command(ip, "link", "add", outside, "type", "veth", "peer", "name", "far", "netns", w.name).CombinedOutput(); err != nil {
		Lack(t, "this fault needs virtual interfaces (veth): %v: %s", err, out)
	}
	must(t, ip, "address", "add", w.here+"/30", "dev", outside)
	must(t, ip, "link", "set", outside, "up")
	for _, args := range [][]string{
		{ip, "address", "add", w.far + "/30", "dev", "far"},
		{ip, "link", "set", "far", "up"},
		{ip, "link", "set", "lo", "up"},
		{"nft", "add", "table", "inet", "fault"},
		{"nft", "add", "chain", "inet", "fault", "in", "{ type filter hook input priority 0 ; }"},
		{"nft", "add", "chain", "inet", "fault", "out", "{ type filter hook output priority 0 ; }"},
	} {
		line := w.Command(args...)
		if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
			Lack(t, "this fault needs nft in a network namespace: %q: %v: %s", args, err, out)
		}
	}
	return w
}

// Command is the command line that runs args inside.
func (w *Network) Command(args ...string) []string {
	// Not ip netns exec: it copies all mounts, and so keeps disks of other tests mounted.
	return append([]string{"nsenter", "--net=/run/netns/" + w.name}, args...)
}

// Outside is the address of the machine as seen from inside, Inside the other way round.
func (w *Network) Outside() string { return w.here }

// Inside is the address of the namespace.
func (w *Network) Inside() string { return w.far }

// Drop lets packets get lost that come in, that go out, or both.
func (w *Network) Drop(in, out bool) {
	w.t.Helper()
	for chain, on := range map[string]bool{"in": in, "out": out} {
		if on {
			line := w.Command("nft", "add", "rule", "inet", "fault", chain, "iifname", "!=", "lo", "drop")
			if chain == "out" {
				line = w.Command("nft", "add", "rule", "inet", "fault", chain, "oifname", "!=", "lo", "drop")
			}
			must(w.t, line[0], line[1:]...)
		}
	}
}

// Heal lets all packets pass again.
func (w *Network) Heal() {
	w.t.Helper()
	for _, chain := range []string{"in", "out"} {
		line := w.Command("nft", "flush", "chain", "inet", "fault", chain)
		must(w.t, line[0], line[1:]...)
	}
}
