package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

const (
	natsCommand   = "nats-server"
	startAttempts = 5 // another process may take a port between our choosing and the server's listening
	readyTimeout  = time.Second
)

// natsServers are one or more nats-server processes that sync every message.
type natsServers struct {
	nodes []*natsNode
}

type natsNode struct {
	command []string
	log     string
	url     string
	proc    *process
}

// startNATS starts a server, or a cluster of so many, which ends with the lab.
func (l *lab) startNATS(ctx context.Context, nodes int) (*natsServers, error) {
	command := append(append([]string(nil), l.Self...), natsCommand)
	l.result.Machine.NATS = server.VERSION
	if l.NATSServer != "" {
		path, err := exec.LookPath(l.NATSServer)
		if err != nil {
			return nil, fmt.Errorf("nats-server: %w", err)
		}
		command = []string{path}
		l.result.Machine.NATS = path
	}
	for attempt := 1; ; attempt++ {
		s, err := l.tryNATS(ctx, command, nodes)
		if err == nil {
			l.onClose(s.kill)
			return s, nil
		}
		s.kill()
		if !errors.Is(err, errExited) || attempt == startAttempts {
			return nil, err
		}
	}
}

func (l *lab) tryNATS(ctx context.Context, command []string, size int) (*natsServers, error) {
	s := &natsServers{}
	ports, err := freePorts(2 * size)
	if err != nil {
		return s, err
	}
	client, route := ports[:size], ports[size:]
	var routes []string
	for _, p := range route {
		routes = append(routes, "nats-route://"+loopback(p))
	}
	for i := range size {
		dir := l.fresh("nats")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return s, err
		}
		conf := fmt.Sprintf("server_name: n%d\nlisten: %q\njetstream { store_dir: %q, sync_interval: always }\n", i+1, loopback(client[i]), dir)
		if size > 1 {
			conf += fmt.Sprintf("cluster { name: bench, listen: %q, routes: [%s] }\n", loopback(route[i]), strings.Join(routes, ", "))
		}
		file := filepath.Join(dir, "nats.conf")
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			return s, err
		}
		n := &natsNode{command: append(append([]string(nil), command...), "-c", file), log: filepath.Join(dir, "nats.log"), url: "nats://" + loopback(client[i])}
		if err := n.start(); err != nil {
			return s, err
		}
		s.nodes = append(s.nodes, n)
	}
	for _, n := range s.nodes { // JetStream needs most of them, so all start first
		if err := n.proc.wait(ctx, n.ready); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (n *natsNode) start() (err error) {
	n.proc, err = spawn(exec.Command(n.command[0], n.command[1:]...), n.log)
	return err
}

// ready reports whether JetStream answers.
func (n *natsNode) ready() bool {
	nc, err := nats.Connect(n.url, nats.Timeout(readyTimeout), nats.NoReconnect())
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

func (n *natsNode) hang()   { n.proc.signal(syscall.SIGSTOP) }
func (n *natsNode) resume() { n.proc.signal(syscall.SIGCONT) }

// url is where clients connect to.
func (s *natsServers) url() string {
	var urls []string
	for _, n := range s.nodes {
		urls = append(urls, n.url)
	}
	return strings.Join(urls, ",")
}

func (s *natsServers) kill() {
	for _, n := range s.nodes {
		if n.proc != nil {
			n.proc.kill()
		}
	}
}

// connect connects, and makes the streams where there are none.
func connect(ctx context.Context, url string, replicas int) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := stream.Connect(ctx, stream.Config{URL: url, Name: "afterword bench"})
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	for deadline := time.Now().Add(startTimeout); err == nil; {
		if err = stream.Ensure(ctx, js, stream.StreamConfig{Replicas: replicas}); err == nil {
			return nc, js, nil
		}
		if errors.Is(err, stream.ErrUnreachable) && time.Now().Before(deadline) { // a cluster that is choosing its leader
			err = pause(ctx, 20*pollEvery)
		}
	}
	nc.Close()
	return nil, nil, err
}

// ServeNATS runs the nats-server of this program with a configuration file, until
// ctx ends. It is the same code as the nats-server of that version.
func ServeNATS(ctx context.Context, file string) error {
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		return fmt.Errorf("nats-server: %w", err)
	}
	opts.NoSigs = true
	srv, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("nats-server: %w", err)
	}
	srv.ConfigureLogger()
	srv.Start()
	<-ctx.Done()
	srv.Shutdown()
	srv.WaitForShutdown()
	return nil
}

// freePorts returns n different loopback ports that nobody uses right now.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close() // after all are taken, so that they differ
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

func loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
