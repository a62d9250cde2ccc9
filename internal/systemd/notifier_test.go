package systemd

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const within = 10 * time.Second

// manager is a socket that takes messages as systemd's does.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func received(t *testing.T, m *net.UnixConn) string {
	t.Helper()
	if err := m.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := m.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestMessages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	for _, name := range []string{path, "@afterword-test" + strings.ReplaceAll(path, "/", "-")} {
		m := manager(t, name)
		n, err := Dial(name)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		for _, c := range []struct {
			say  func() error
			want string
		}{
			{func() error { return n.Status("waiting:\n READY=1 ") }, "STATUS=waiting: READY=1\n"}, // an error's text is no message
			{func() error { return n.Ready("consuming") }, "READY=1\nSTATUS=consuming\n"},
			{n.Alive, "WATCHDOG=1\n"},
			{func() error { return n.Stopping("stopping", 25*time.Second) }, "STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=25000000\n"},
		} {
			if err := c.say(); err != nil {
				t.Fatal(err)
			}
			if got := received(t, m); got != c.want {
				t.Errorf("sent %q, want %q", got, c.want)
			}
		}
	}
}

func TestNoManager(t *testing.T) {
	n, err := Dial("")
	if err != nil || n.Supervised() {
		t.Fatalf("supervised %v, %v", n.Supervised(), err)
	}
	if err := n.Ready("x"); err != nil {
		t.Error(err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestManagerThatIsNotThere(t *testing.T) {
	for _, name := range []string{filepath.Join(t.TempDir(), "none"), "vsock:2:1234"} {
		if _, err := Dial(name); err == nil || !strings.Contains(err.Error(), EnvSocket) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A manager that takes nothing holds nobody up.
func TestManagerThatHangs(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	manager(t, name)
	n, err := Dial(name)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for range 100_000 { // until its queue is full
		began := time.Now()
		if err = n.Alive(); err != nil {
			if took := time.Since(began); took > within {
				t.Errorf("it took %s to give up", took)
			}
			return
		}
	}
	t.Error("a queue without end")
}

func TestWatchdog(t *testing.T) {
	for _, c := range []struct {
		usec, only string
		want       time.Duration
		bad        bool
	}{
		{"", "", 0, false},
		{"60000000", "", time.Minute, false},
		{"60000000", "42", time.Minute, false},
		{"60000000", "43", 0, false}, // for another process
		{"0", "", 0, true},
		{"soon", "", 0, true},
		{"-1", "", 0, true},
	} {
		got, err := Watchdog(c.usec, c.only, 42)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("%s=%q, %s=%q: %v, %v", EnvWatchdog, c.usec, EnvWatchdogOnly, c.only, got, err)
		}
	}
}
