package embedded_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/embedded"
	"github.com/afterword-io/afterword/internal/secret"
)

// Who has no credentials gets nothing from the NATS server, and who has them everything.
func TestNATSRequiresCredentials(t *testing.T) {
	password := secret.Text()
	srv := startNATS(t, embedded.NATSConfig{Dir: t.TempDir(), Addr: "127.0.0.1:0", User: "afterword", Password: password})
	plain := "nats://" + srv.Addr()
	for name, option := range map[string]nats.Option{
		"nobody": nats.Name("x"), "no password": nats.UserInfo("afterword", ""), "another password": nats.UserInfo("afterword", secret.Text()),
		"another user": nats.UserInfo("sys", password), "a token": nats.Token(password),
	} {
		nc, err := nats.Connect(plain, option)
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s connects, or %v", name, err)
		}
		if nc != nil {
			nc.Close()
		}
	}
	for _, url := range []string{srv.ClientURL(), "nats://afterword:" + password + "@" + srv.Addr()} {
		if _, err := jetStream(t, url).AccountInfo(t.Context()); err != nil {
			t.Error(err)
		}
	}
	unnamed := startNATS(t, embedded.NATSConfig{Dir: t.TempDir(), Addr: "127.0.0.1:0"})
	if nc, err := nats.Connect("nats://" + unnamed.Addr()); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("a server that was given no password takes everybody, or %v", err)
		nc.Close()
	}
}

// No command of Redis is answered before the password.
func TestRedisRequiresCredentials(t *testing.T) {
	srv, err := embedded.StartRedis(embedded.RedisConfig{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	with, err := redis.ParseURL(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(with)
	t.Cleanup(func() { c.Close() })
	if err := c.Set(t.Context(), "k", "said", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for _, user := range []string{"default", ""} { // "" is what redis-cli of Redis 7 makes of the URL
		if err := c.Do(t.Context(), "AUTH", user, with.Password).Err(); err != nil {
			t.Errorf("AUTH %q: %v", user, err)
		}
	}
	for _, command := range []string{
		"GET k", "SET k x", "DEL k", "KEYS *", "SCAN 0", "DBSIZE", "FLUSHALL", "FLUSHDB", "INFO", "RENAME k l", "DUMP k", "HMGET k a", "TYPE k", "TTL k",
		"EVAL return 0", "EVALSHA x 0", "SCRIPT FLUSH", "SUBSCRIBE c", "PUBLISH c x", "MULTI", "EXEC", "SELECT 1", "PING", "CONFIG GET *", "SHUTDOWN", "MONITOR",
		"CLIENT LIST", "AUTH x", "AUTH default x", "AUTH other " + with.Password, "GET k",
	} {
		conn, err := net.Dial("tcp", srv.Addr())
		if err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(command)
		fmt.Fprintf(conn, "*%d\r\n", len(words))
		for _, w := range words {
			fmt.Fprintf(conn, "$%d\r\n%s\r\n", len(w), w)
		}
		if answer, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(answer, "-") {
			t.Errorf("%s: %q, %v", command, answer, err)
		}
		conn.Close()
	}
	if v, err := c.Get(t.Context(), "k").Result(); err != nil || v != "said" {
		t.Errorf("it became %q, %v", v, err)
	}
}

// Each server has one port: there is none for monitoring, for other servers or for browsers.
func TestOnePortEach(t *testing.T) {
	before := listening(t)
	srv := startNATS(t, embedded.NATSConfig{Dir: t.TempDir(), Addr: "127.0.0.1:0"})
	cache := startRedis(t, embedded.RedisConfig{})
	var opened []string
	for _, addr := range listening(t) {
		if !slices.Contains(before, addr) {
			opened = append(opened, addr)
		}
	}
	want := []string{srv.Addr(), cache.Options().Addr}
	slices.Sort(opened)
	slices.Sort(want)
	if !slices.Equal(opened, want) {
		t.Errorf("they listen at %v, not at %v", opened, want)
	}
}

// listening is where this process listens, as the kernel has it.
func listening(t *testing.T) (addrs []string) {
	t.Helper()
	own := make(map[string]bool)
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil { // else closed since
			own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	for _, list := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		b, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); f[3] == "0A" && own[f[9]] {
				var ip [4]byte
				var port int
				if _, err := fmt.Sscanf(f[1], "%02X%02X%02X%02X:%04X", &ip[3], &ip[2], &ip[1], &ip[0], &port); err != nil {
					t.Fatalf("%s: %v", f[1], err)
				}
				addrs = append(addrs, fmt.Sprintf("%s:%d", net.IP(ip[:]), port))
			}
		}
	}
	return addrs
}

// The stream's folder is its owner's alone, however it was made.
func TestFolderIsPrivate(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	for _, there := range []bool{false, true} {
		dir := filepath.Join(t.TempDir(), "data", "nats")
		if there {
			if err := os.MkdirAll(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		}
		stopNATS(t, startNATS(t, embedded.NATSConfig{Dir: dir, Addr: "127.0.0.1:0"}))
		for path, want := range map[string]os.FileMode{dir: os.ModeDir | 0o700, filepath.Join(dir, "lock"): 0o600} {
			if info, err := os.Stat(path); err != nil || info.Mode() != want {
				t.Errorf("%s has the mode %v, %v", path, info.Mode(), err)
			}
		}
	}
}
