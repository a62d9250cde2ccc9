package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// redisServer is a redis-server process without persistence.
type redisServer struct {
	*process
	addr string
}

// startRedis starts one, which the caller kills.
func (l *lab) startRedis(ctx context.Context) (*redisServer, error) {
	for attempt := 1; ; attempt++ {
		ports, err := freePorts(1)
		if err != nil {
			return nil, err
		}
		r, err := l.tryRedis(ctx, "127.0.0.1", ports[0], loopback(ports[0]))
		if err == nil || !errors.Is(err, errExited) || attempt == startAttempts {
			return r, err
		}
	}
}

// tryRedis starts a redis-server on bind and waits until it answers at addr; an
// addr of "" is not asked. prefix is a command that runs it.
func (l *lab) tryRedis(ctx context.Context, bind string, port int, addr string, prefix ...string) (*redisServer, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server: %w: install it (Debian: apt-get install --no-install-recommends redis-server)", err)
	}
	dir := l.fresh("redis")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	argv := append(append([]string(nil), prefix...), path, "--port", strconv.Itoa(port), "--bind", bind, "--dir", dir,
		"--daemonize", "no", "--save", "", "--appendonly", "no", "--protected-mode", "no")
	proc, err := spawn(exec.Command(argv[0], argv[1:]...), l.fresh("redis.log"))
	if err != nil {
		return nil, err
	}
	r := &redisServer{proc, addr}
	if err := proc.wait(ctx, func() bool { return addr == "" || pong(addr) }); err != nil {
		proc.kill()
		return nil, err
	}
	return r, nil
}

func pong(addr string) bool {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second)) // a connection that is open takes it
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	return err == nil && strings.TrimSpace(line) == "+PONG"
}

func (r *redisServer) url() string { return "redis://" + r.addr }

// hang stops the process where it is: connections are accepted and nothing answers.
func (r *redisServer) hang()   { r.signal(syscall.SIGSTOP) }
func (r *redisServer) resume() { r.signal(syscall.SIGCONT) }
