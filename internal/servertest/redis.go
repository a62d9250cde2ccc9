package servertest

import (
	"bufio"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const pingTimeout = time.Second

// RedisServer is a redis-server process without persistence: a restart
// empties it.
type RedisServer struct {
	t    testing.TB
	proc *process
	port int
	tls  int // port; 0 for none
}

// Redis starts a redis-server; it is killed when the test ends.
func Redis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	return startRedis(t, func([]int) []string { return append(withoutPersistence(), args...) })
}

// RedisTLS starts a redis-server that takes connections over TLS at TLSURL, from who has a
// certificate of ca; those without TLS are for the test.
func RedisTLS(t testing.TB, ca *Authority, args ...string) *RedisServer {
	t.Helper()
	cert, key := ca.Issue("redis")
	var tls int
	r := startRedis(t, func(ports []int) []string {
		tls = ports[1]
		return append(append(withoutPersistence(), "--tls-port", strconv.Itoa(tls), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca.CA), args...)
	})
	r.tls = tls
	return r
}

// RedisConfig starts a redis-server with a configuration file, of which only
// address and folder are overridden.
func RedisConfig(t testing.TB, file string) *RedisServer {
	t.Helper()
	return startRedis(t, func([]int) []string { return nil }, file)
}

// startRedis starts one server with free ports, the first of which is its own;
// args makes further arguments of three of them.
func startRedis(t testing.TB, args func(ports []int) []string, file ...string) *RedisServer {
	t.Helper()
	path := redisBinary(t)
	for attempt := 1; ; attempt++ {
		ports := freePorts(t, 3)
		r := &RedisServer{t: t, port: ports[0]}
		r.proc = newProcess(t, "redis", path, slices.Concat(file, []string{
			"--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--daemonize", "no",
		}, args(ports))...)
		err := r.proc.start(r.answers)
		if err == nil {
			return r
		}
		if !errors.Is(err, errExited) || attempt == startAttempts {
			t.Fatalf("start redis-server: %v", err)
		}
	}
}

func withoutPersistence() []string { return []string{"--save", "", "--appendonly", "no"} }

func redisBinary(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("this test needs redis-server, which is not installed; `make test` installs it (Debian: apt-get install --no-install-recommends redis-server)")
	}
	return path
}

// Addr is the host:port of the server. It stays the same over a restart.
func (r *RedisServer) Addr() string { return loopback(r.port) }

// URL is the URL to connect to.
func (r *RedisServer) URL() string { return "redis://" + r.Addr() }

// TLSURL is the URL to connect to over TLS.
func (r *RedisServer) TLSURL() string { return "rediss://" + loopback(r.tls) }

// Hang stops the process where it is (SIGSTOP): connections are still accepted, nothing answers.
func (r *RedisServer) Hang() { r.proc.signal(syscall.SIGSTOP) }

// Resume lets a hung process go on; it then answers what had piled up.
func (r *RedisServer) Resume() { r.proc.signal(syscall.SIGCONT) }

// Kill ends the process at once (SIGKILL), hung or not.
func (r *RedisServer) Kill() { r.proc.kill() }

// Restart kills the process if it runs and starts an empty one on the same port.
func (r *RedisServer) Restart() {
	r.t.Helper()
	r.proc.kill()
	restart(r.t, r.proc, r.answers)
}

// restart starts p again. Its port may be held for a moment, so it tries for a while.
func restart(t testing.TB, p *process, ready func() bool) {
	t.Helper()
	var last error
	if err := poll(StartTimeout, func() bool {
		last = p.start(ready)
		return last == nil
	}); err != nil {
		t.Fatalf("restart: %v: %v", err, last)
	}
}

func (r *RedisServer) answers() bool {
	reply, err := r.command("PING")
	return err == nil && reply == "+PONG"
}

// command sends one command and returns the first line of the reply.
func (r *RedisServer) command(words ...string) (string, error) {
	c, err := net.DialTimeout("tcp", r.Addr(), pingTimeout)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(pingTimeout))
	if _, err := c.Write([]byte(strings.Join(words, " ") + "\r\n")); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && strings.HasPrefix(line, "-") {
		err = errors.New(strings.TrimSpace(line))
	}
	return strings.TrimSpace(line), err
}

// Pid is the process id, for faults that this package does not know.
func (r *RedisServer) Pid() int { return r.proc.pid() }

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
