package acceptance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
)

// The network to NATS is cut, one way, the other way, and both: packets are
// dropped, and nobody is told. Everything goes on by itself when it heals.
func TestNetworkIsCut(t *testing.T) {
	const port = 4222 // of the namespace's own
	cut := choose(6*time.Second, 40*time.Second)
	rnd := random(t)
	network := faults.NewNetwork(t)
	conf := filepath.Join(t.TempDir(), "nats.conf")
	text := fmt.Sprintf("listen: \"%s:%d\"\njetstream { store_dir: %q, sync_interval: always }\n", network.Inside(), port, t.TempDir())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := servertest.NATSBinary(t)
	startUnder(t, func(...string) []string { return network.Command(bin, "-c", conf) }, "(nats-server in a namespace)")
	url := fmt.Sprintf("nats://%s:%d", network.Inside(), port)
	js := connect(t, url)
	dataDir := filepath.Join(t.TempDir(), "data")
	consume := consumeOn(t, url, dataDir)
	l := publish(t, rnd, js, namesOf("cut-%d", 20), 150)
	for _, way := range []struct{ in, out bool }{{true, false}, {false, true}, {true, true}} {
		spread(t, time.Second)
		network.Drop(way.in, way.out)
		spread(t, cut)
		network.Heal()
	}
	l.drain(t, 2*time.Minute)
	took := wantHealed(t, dataDir, l.said, "after the network was cut")
	wantConsumed(t, healed, js, group)
	t.Logf("packets to, from, and both ways dropped for %v each → %s; Publish took %v", cut, figuresOf(l.said, took), l.took)
	wantQuick(t, l.took, cut)
	consume.stop()
}
