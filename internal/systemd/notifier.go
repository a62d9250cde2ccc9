// Package systemd tells the service manager how a service is doing, in the words
// of sd_notify(3): that it is ready, alive, or stopping. It knows nothing of the
// service; who calls it decides what ready and alive mean.
//
// Without a manager (no socket) everything is a no-op. A manager that does not take
// a message costs the caller an error, and no more than [sendTimeout].
package systemd

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// sendTimeout bounds one message: the manager's socket has a queue, which may be full.
const sendTimeout = time.Second

// Variables of the environment in which a manager says what it wants.
const (
	EnvSocket       = "NOTIFY_SOCKET" // where messages go
	EnvWatchdog     = "WATCHDOG_USEC" // how often it wants to hear that the service is alive
	EnvWatchdogOnly = "WATCHDOG_PID"  // which process has to say so
)

// Notifier sends to one manager. Its zero value has none. It is safe for concurrent use.
type Notifier struct {
	conn *net.UnixConn
}

// Dial opens the manager's socket: a path, or an abstract name that begins with @.
// An empty address is no manager.
func Dial(address string) (*Notifier, error) {
	if address == "" {
		return &Notifier{}, nil
	}
	if address[0] != '/' && address[0] != '@' {
		return nil, fmt.Errorf("%s %q: only Unix sockets are supported", EnvSocket, address)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", EnvSocket, err)
	}
	return &Notifier{conn}, nil
}

// Supervised reports whether there is a manager.
func (n *Notifier) Supervised() bool { return n.conn != nil }

// Ready says that the service is up. Saying it again changes only the status.
func (n *Notifier) Ready(status string) error { return n.send("READY=1", "STATUS="+oneLine(status)) }

// Status says in a few words how the service is doing.
func (n *Notifier) Status(status string) error { return n.send("STATUS=" + oneLine(status)) }

// Alive says that the service is alive, as the watchdog wants to hear.
func (n *Notifier) Alive() error { return n.send("WATCHDOG=1") }

// Stopping says that the service stops, and how long it may take at most.
func (n *Notifier) Stopping(status string, within time.Duration) error {
	return n.send("STOPPING=1", "STATUS="+oneLine(status), "EXTEND_TIMEOUT_USEC="+strconv.FormatInt(within.Microseconds(), 10))
}

// Close closes the socket.
func (n *Notifier) Close() error {
	if n.conn == nil {
		return nil
	}
	return n.conn.Close()
}

func (n *Notifier) send(lines ...string) error {
	if n.conn == nil {
		return nil
	}
	err := n.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	if err == nil {
		_, err = n.conn.Write([]byte(strings.Join(lines, "\n") + "\n"))
	}
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// oneLine keeps a text from being more than one assignment.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// Watchdog returns how often the manager wants to hear from this process that it
// is alive; 0 is never. usec and only are the values of the environment.
func Watchdog(usec, only string, pid int) (time.Duration, error) {
	if usec == "" || only != "" && only != strconv.Itoa(pid) {
		return 0, nil
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(365*24*time.Hour/time.Microsecond) {
		return 0, fmt.Errorf("%s %q is no number of microseconds", EnvWatchdog, usec)
	}
	return time.Duration(n) * time.Microsecond, nil
}
