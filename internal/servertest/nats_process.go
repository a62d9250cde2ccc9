package servertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

const (
	natsModule   = "github.com/nats-io/nats-server/v2"
	readyTimeout = time.Second
)

// NATSNode is a nats-server process with JetStream, which syncs every message.
type NATSNode struct {
	t    testing.TB
	name string
	proc *process
	port int
	dir  string
	http int // port of its monitoring; 0 is none
}

// NATSProcess starts a nats-server of its own, for tests that kill it.
func NATSProcess(t testing.TB) *NATSNode {
	t.Helper()
	bin := NATSBinary(t)
	for attempt := 1; ; attempt++ {
		n := newNATSNode(t, bin, "n1", freePorts(t, 1)[0], "")
		err := n.proc.start(n.ready)
		if err == nil {
			return n
		}
		retryable(t, err, attempt)
	}
}

// NATSCluster starts a cluster of size nats-server processes, the size of
// streams with as many replicas, and returns when each has JetStream.
func NATSCluster(t testing.TB, size int) []*NATSNode {
	t.Helper()
	return startNodes(t, startCluster, size)
}

// NATSConfig starts a nats-server from a configuration file, of which ports and the
// folder, /var/lib/nats, are replaced.
func NATSConfig(t testing.TB, file string) *NATSNode {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return startNodes(t, func(t testing.TB, bin string, _ int) ([]*NATSNode, error) {
		ports := freePorts(t, 2)
		n := &NATSNode{t: t, name: "n1", port: ports[0], http: ports[1], dir: t.TempDir()}
		conf := filepath.Join(t.TempDir(), "nats.conf")
		writeFile(t, conf, strings.ReplaceAll(string(text), "/var/lib/nats", n.dir))
		n.proc = newProcess(t, "nats-n1", bin, "-c", conf, "-p", strconv.Itoa(n.port), "-m", strconv.Itoa(n.http))
		return startAll([]*NATSNode{n})
	}, 1)[0]
}

// NATSClusterConfig starts three nodes from the configuration file that each of them
// has, and the variables that it asks for: those of deploy/nats/cluster.conf.
func NATSClusterConfig(t testing.TB, file string) []*NATSNode {
	t.Helper()
	return startNodes(t, func(t testing.TB, bin string, size int) ([]*NATSNode, error) {
		ports := freePorts(t, 3*size)
		var nodes []*NATSNode
		for i := range size {
			n := &NATSNode{t: t, name: fmt.Sprintf("n%d", i+1), port: ports[i], http: ports[2*size+i], dir: t.TempDir()}
			n.proc = newProcess(t, "nats-"+n.name, bin, "-c", file)
			n.proc.env = []string{"NATS_NAME=" + n.name, "NATS_STORE=" + n.dir, "NATS_LISTEN=" + loopback(n.port), "NATS_HTTP=" + loopback(n.http), "NATS_ROUTE=" + loopback(ports[size+i])}
			for j := range size {
				n.proc.env = append(n.proc.env, fmt.Sprintf("NATS_ROUTE_%d=nats-route://%s", j+1, loopback(ports[size+j])))
			}
			nodes = append(nodes, n)
		}
		return startAll(nodes)
	}, 3)
}

func startNodes(t testing.TB, once func(t testing.TB, bin string, size int) ([]*NATSNode, error), size int) []*NATSNode {
	t.Helper()
	bin := NATSBinary(t)
	for attempt := 1; ; attempt++ {
		nodes, err := once(t, bin, size)
		if err == nil {
			return nodes
		}
		for _, n := range nodes {
			n.Kill9()
		}
		retryable(t, err, attempt)
	}
}

func startCluster(t testing.TB, bin string, size int) ([]*NATSNode, error) {
	ports := freePorts(t, 2*size)
	client, route := ports[:size], ports[size:]
	var routes []string
	for _, p := range route {
		routes = append(routes, "nats-route://"+loopback(p))
	}
	var nodes []*NATSNode
	for i := range size {
		cluster := fmt.Sprintf("cluster { name: servertest, listen: %q, routes: [%s] }\n",
			loopback(route[i]), strings.Join(routes, ", "))
		nodes = append(nodes, newNATSNode(t, bin, fmt.Sprintf("n%d", i+1), client[i], cluster))
	}
	return startAll(nodes)
}

func startAll(nodes []*NATSNode) ([]*NATSNode, error) {
	for _, n := range nodes { // JetStream needs most of them, so first all start, then all are waited for
		if err := n.proc.start(n.listens); err != nil {
			return nodes, err
		}
	}
	for _, n := range nodes {
		if err := poll(StartTimeout, n.ready); err != nil {
			return nodes, fmt.Errorf("JetStream of %s: %w: %s", n.name, err, n.proc.output())
		}
	}
	return nodes, nil
}

// retryable ends the test unless err may be due to a port that someone took in between.
func retryable(t testing.TB, err error, attempt int) {
	t.Helper()
	if !errors.Is(err, errExited) || attempt == startAttempts {
		t.Fatalf("start nats-server: %v", err)
	}
}

func newNATSNode(t testing.TB, bin, name string, port int, more string) *NATSNode {
	dir := t.TempDir()
	conf := filepath.Join(dir, "nats.conf")
	writeFile(t, conf, fmt.Sprintf("server_name: %s\nlisten: %q\njetstream { store_dir: %q, sync_interval: always }\n%s",
		name, loopback(port), dir, more))
	return &NATSNode{t: t, name: name, port: port, dir: dir, proc: newProcess(t, "nats-"+name, bin, "-c", conf)}
}

// Name is the server's name, as leaders are reported.
func (n *NATSNode) Name() string { return n.name }

// URL is the URL to connect to. It stays the same over a restart.
func (n *NATSNode) URL() string { return "nats://" + loopback(n.port) }

// Dir is where the server keeps its streams.
func (n *NATSNode) Dir() string { return n.dir }

// Monitor is the URL of its monitoring; only nodes that were started from a file have it.
func (n *NATSNode) Monitor() string { return "http://" + loopback(n.http) }

// Pid is the process id, for faults that this package does not know.
func (n *NATSNode) Pid() int { return n.proc.pid() }

// Kill9 ends the process at once (SIGKILL).
func (n *NATSNode) Kill9() { n.proc.kill() }

// Stop asks the process to end and waits for it.
func (n *NATSNode) Stop() { n.proc.stop() }

// Hang stops the process where it is (SIGSTOP).
func (n *NATSNode) Hang() { n.proc.signal(unix.SIGSTOP) }

// Resume lets a hung process go on.
func (n *NATSNode) Resume() { n.proc.signal(unix.SIGCONT) }

// Restart kills the process if it runs and starts it again on the same port and
// data. It returns when JetStream answers, which takes a majority of a cluster; [NATSNode.Start] does not wait for that.
func (n *NATSNode) Restart() {
	n.t.Helper()
	n.Start()
	Eventually(n.t, StartTimeout, "JetStream of "+n.name, n.ready)
}

// Start is Restart without waiting for JetStream.
func (n *NATSNode) Start() {
	n.t.Helper()
	n.proc.kill()
	restart(n.t, n.proc, n.listens)
}

func (n *NATSNode) listens() bool {
	nc, err := nats.Connect(n.URL(), nats.Timeout(readyTimeout), nats.NoReconnect())
	if err != nil {
		return false
	}
	nc.Close()
	return true
}

func (n *NATSNode) ready() bool {
	nc, err := nats.Connect(n.URL(), nats.Timeout(readyTimeout), nats.NoReconnect())
	if err != nil {
		return false
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	_, err = js.AccountInfo(ctx)
	return err == nil
}

// NATSBinary is the path of a nats-server built from the module's own version,
// once for all test runs, in the user's cache folder.
func NATSBinary(t testing.TB) string {
	t.Helper()
	path, err := natsBinary()
	if err != nil {
		t.Fatalf("build nats-server: %v", err)
	}
	return path
}

func natsBinary() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "afterword-test")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "nats-server-"+server.VERSION)
	// Test binaries run side by side; one builds, the others wait.
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	// Renamed when complete, so that a killed build leaves nothing that looks built.
	part := path + ".part"
	out, err := exec.Command("go", "build", "-o", part, natsModule).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build %s: %w: %s", natsModule, err, out)
	}
	return path, os.Rename(part, path)
}
