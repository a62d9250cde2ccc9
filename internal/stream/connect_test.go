package stream_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

const secret = servertest.Secret

// logBuffer is a log that tests may read while it is written.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// connect connects, closes at cleanup and waits until the callbacks are done.
func connect(t *testing.T, cfg stream.Config) *nats.Conn {
	t.Helper()
	nc, err := stream.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// deadAddr is an address where nothing listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	return servertest.FreeAddr(t)
}

// hungAddr is an address that accepts and never says a word.
func hungAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestConnectRefusesMalformedURLs(t *testing.T) {
	for _, wait := range []bool{false, true} {
		for url, part := range map[string]string{
			"nats://host:port":                         "port",
			"nats://host:99999":                        "port",
			"nats://":                                  "no host",
			"http://host:4222":                         "scheme",
			"nats://a:4222,,nats://b:4222":             "URL 2 of 3",
			"nats://user:" + secret + "/x@h:bad":       "***@",
			"nats://u:" + secret + "%zz@host:4222":     "***@",
			"nats://u:p," + secret + "@h:4222":         "malformed",
			"nats://u:" + secret + ",b@h:4222":         "malformed",
			"nats://a:4222,ws://b:80":                  "one kind",
			"bogus://token" + secret + "@host:4222":    "scheme",
			"nats://host:4222,nats://" + secret + ":x": "URL 2 of 2",
		} {
			_, err := stream.Connect(t.Context(), stream.Config{URL: url, Wait: wait})
			if err == nil {
				t.Errorf("%s: no error", url)
				continue
			}
			servertest.OneLine(t, err, part)
		}
	}
}

func TestConnectRefusesUnreadableCreds(t *testing.T) {
	garbage := filepath.Join(t.TempDir(), "garbage.creds")
	if err := os.WriteFile(garbage, []byte("not credentials"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, wait := range []bool{false, true} {
		for _, path := range []string{filepath.Join(t.TempDir(), "absent.creds"), garbage, t.TempDir()} {
			_, err := stream.Connect(t.Context(), stream.Config{URL: deadAddr(t), Credentials: stream.Credentials{Creds: path}, Wait: wait})
			servertest.OneLine(t, err, path, "--nats-creds")
		}
	}
}

// A credentials file that can be read is used, and one that the server does not know is refused.
func TestConnectCreds(t *testing.T) {
	// The seed is that of nats.go's own tests, so no secret.
	creds := filepath.Join(t.TempDir(), "user.creds")
	err := os.WriteFile(creds, []byte(`-----BEGIN NATS USER JWT-----
e30.e30.e30
------END NATS USER JWT------
-----BEGIN USER NKEY SEED-----
SUAGMJH5XLGZKQQWAWKRZJIGMOU4HPFUYLXJMXOO5NLFEO2OOQJ5LPRDPM
------END USER NKEY SEED------
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	connect(t, stream.Config{URL: servertest.NATS(t).URL(), Credentials: stream.Credentials{Creds: creds}}) // it asks nobody

	strict := servertest.NATS(t, servertest.UserPass("app", "right"))
	_, err = stream.Connect(t.Context(), stream.Config{URL: strict.Addr(), Credentials: stream.Credentials{Creds: creds}, Wait: true})
	if !errors.Is(err, stream.ErrRefused) {
		t.Fatalf("got %v, want ErrRefused", err)
	}
	servertest.OneLine(t, err, creds, "--nats-creds")
}

func TestConnectRefusedCredentials(t *testing.T) {
	srv := servertest.NATS(t, servertest.UserPass("app", "right"))
	wrong := "nats://app:" + secret + "@" + srv.Addr()
	for _, wait := range []bool{false, true} {
		for name, url := range map[string]string{
			"alone":               wrong,
			"none":                "nats://" + srv.Addr(),
			"before a dead one":   wrong + ",nats://" + deadAddr(t),
			"behind a hung one":   "nats://" + hungAddr(t) + "," + wrong,
			"in front of a hung":  wrong + ",nats://" + hungAddr(t),
			"token":               "nats://" + secret + "@" + srv.Addr(),
			"special characters":  "nats://app:" + secret + "%2F%40@" + srv.Addr(),
			"behind two that are": "nats://" + deadAddr(t) + ",nats://" + deadAddr(t) + "," + wrong,
		} {
			start := time.Now()
			// A hung server takes 2 s. More than the default remains, for a machine that is busy: who
			// has not asked all servers in time does not know of a refusal.
			_, err := stream.Connect(t.Context(), stream.Config{URL: url, Wait: wait, Timeout: 20 * time.Second})
			if !errors.Is(err, stream.ErrRefused) {
				t.Errorf("%s: got %v, want ErrRefused", name, err)
				continue
			}
			servertest.OneLine(t, err, "--nats-url")
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("%s: took %s", name, d)
			}
		}
	}
}

func TestConnectUnreachableOnce(t *testing.T) {
	tenHung := make([]string, 10)
	for i := range tenHung {
		tenHung[i] = hungAddr(t)
	}
	for name, c := range map[string]struct{ url, says string }{
		"dead":     {"nats://app:" + secret + "@" + deadAddr(t), "nothing listens there"},
		"hung":     {"nats://app:" + secret + "@" + hungAddr(t), "no answer in time"}, // the read's bound ends first
		"ten hung": {strings.Join(tenHung, ","), "no answer in time"},                 // 20 s, one after the other
	} {
		start := time.Now()
		_, err := stream.Connect(t.Context(), stream.Config{URL: c.url})
		if !errors.Is(err, stream.ErrUnreachable) {
			t.Errorf("%s: got %v, want ErrUnreachable", name, err)
			continue
		}
		servertest.OneLine(t, err, c.says, "--nats-url")
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%s: took %s", name, d)
		}
	}
}

func TestConnectCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, wait := range []bool{false, true} {
		if _, err := stream.Connect(ctx, stream.Config{URL: hungAddr(t), Wait: wait}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

func TestConnectWaits(t *testing.T) {
	srv := servertest.NATS(t, servertest.UserPass("app", secret))
	srv.Stop()
	var log logBuffer
	nc := connect(t, stream.Config{URL: srv.URL(), Wait: true, Logger: log.logger()})
	if nc.IsConnected() {
		t.Fatal("connected to a stopped server")
	}
	if err := nc.Publish("x", nil); err == nil {
		t.Error("a publish while disconnected was buffered")
	}
	srv.Restart()
	servertest.Eventually(t, 10*time.Second, "the connection", nc.IsConnected)

	srv.Stop()
	servertest.Eventually(t, 10*time.Second, "the disconnect", func() bool { return !nc.IsConnected() })
	srv.Restart()
	servertest.Eventually(t, 10*time.Second, "the reconnect", nc.IsConnected)
	for _, line := range []string{"NATS is unreachable, waiting for it", `msg="connected to NATS"`, "disconnected from NATS", "reconnected to NATS"} {
		servertest.Eventually(t, 5*time.Second, "log line "+line, func() bool { return strings.Contains(log.String(), line) })
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("%q is logged %d times", line, n)
		}
	}
	if strings.Contains(log.String(), secret) {
		t.Errorf("the secret is logged:\n%s", &log)
	}
}

// A service whose credentials are refused later must learn of it: after a
// first connection, and when the server was not there at start.
func TestConnectRefusedLater(t *testing.T) {
	for _, there := range []bool{true, false} {
		srv := servertest.NATS(t, servertest.UserPass("app", secret))
		url := srv.URL()
		if !there {
			srv.Stop()
		}
		refused := make(chan error, 8)
		nc := connect(t, stream.Config{URL: url, Wait: true, OnClosed: func(err error) { refused <- err }})
		srv.Restart(servertest.UserPass("app", "changed"))
		select {
		case err := <-refused:
			if !errors.Is(err, stream.ErrRefused) {
				t.Errorf("got %v", err)
			}
			servertest.OneLine(t, err, "--nats-url")
		case <-time.After(15 * time.Second):
			t.Fatal("nobody was told")
		}
		nc.Close()
		if len(refused) != 0 {
			t.Error("told more than once")
		}
	}
}

// A server that has lowered max_payload ends a connection for good at the first message over it.
func TestConnectEndedByTheServer(t *testing.T) {
	srv := servertest.NATS(t)
	closed := make(chan error, 8)
	nc := connect(t, stream.Config{URL: srv.URL(), Wait: true, OnClosed: func(err error) { closed <- err }})
	srv.Reload(servertest.MaxPayload(100))
	if err := nc.Publish("x", make([]byte, 200)); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-closed:
		if errors.Is(err, stream.ErrRefused) || !errors.Is(err, stream.ErrEnded) {
			t.Errorf("got %v", err)
		}
		servertest.OneLine(t, err, "Maximum Payload", "start again")
	case <-time.After(15 * time.Second):
		t.Fatal("nothing was told")
	}
}

func TestConnectList(t *testing.T) {
	srv := servertest.NATS(t)
	for _, url := range []string{deadAddr(t) + ", " + srv.Addr(), srv.URL() + "," + deadAddr(t)} {
		nc := connect(t, stream.Config{URL: url, Name: "list"})
		if nc.Opts.ReconnectBufSize != -1 || nc.Opts.MaxReconnect != -1 || nc.Opts.FlusherTimeout != 5*time.Second || nc.Opts.Name != "list" {
			t.Errorf("options: %+v", nc.Opts)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for in, want := range map[string]string{
		"nats://h:4222":                     "nats://h:4222",
		"h:4222":                            "h:4222",
		"":                                  "",
		"nats://u:p@h:4222":                 "nats://u:***@h:4222",
		"u:p@h:4222":                        "u:***@h:4222",
		"nats://token@h:4222":               "nats://***@h:4222",
		"nats://u:p@a:1, nats://b:2":        "nats://u:***@a:1,nats://b:2",
		"redis://:p@h:6379/0?password=x":    "redis://:***@h:6379/0",
		"nats://u:12/3@h:4222":              "nats://***@h:4222",
		"nats://u:a%zz@h:4222?x=p":          "nats://***@h:4222",
		"nats://secret:x":                   "nats://***",
		"rediss://default:p@redis.prod:1/2": "rediss://default:***@redis.prod:1/2",
	} {
		if got := stream.RedactURL(in); got != want {
			t.Errorf("RedactURL(%q) = %q, want %q", in, got, want)
		}
	}
}
