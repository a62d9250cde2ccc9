package servertest

import (
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// NATSOption changes the server of [NATS] before it starts.
type NATSOption func(*server.Options)

// MaxPayload sets the server's max_payload, in bytes.
func MaxPayload(n int32) NATSOption { return func(o *server.Options) { o.MaxPayload = n } }

// UserPass makes the server demand a user and a password; URL contains them.
func UserPass(user, pass string) NATSOption {
	return func(o *server.Options) { o.Username, o.Password = user, pass }
}

// WithoutJetStream starts a server that has no JetStream.
func WithoutJetStream() NATSOption { return func(o *server.Options) { o.JetStream = false } }

// MaxStore bounds what all streams together may hold, in bytes.
func MaxStore(n int64) NATSOption { return func(o *server.Options) { o.JetStreamMaxStore = n } }

// Settings are those of a configuration file's text: accounts, leaf nodes, domains. Where the
// server listens and keeps its data stays as it is.
func Settings(t testing.TB, text string) NATSOption {
	return func(o *server.Options) {
		t.Helper()
		c := &server.Options{}
		if err := c.ProcessConfigString(text); err != nil {
			t.Fatalf("settings of NATS: %v", err)
		}
		if c.ServerName == "" {
			c.ServerName = o.ServerName
		}
		c.Host, c.Port, c.StoreDir, c.JetStream, c.SyncAlways, c.NoSigs, c.NoLog = o.Host, o.Port, o.StoreDir, o.JetStream, o.SyncAlways, o.NoSigs, o.NoLog
		*o = *c
	}
}

// NATSServer is a NATS server in the test's process. Its JetStream syncs every message.
type NATSServer struct {
	t    testing.TB
	opts server.Options

	mu  sync.Mutex
	srv *server.Server // nil while stopped
}

// NATS starts a server; it stops when the test ends.
func NATS(t testing.TB, options ...NATSOption) *NATSServer {
	t.Helper()
	n := &NATSServer{t: t, opts: server.Options{
		ServerName: "servertest",
		Host:       "127.0.0.1",
		Port:       freePorts(t, 1)[0],
		JetStream:  true,
		StoreDir:   t.TempDir(),
		SyncAlways: true,
		NoSigs:     true,
		NoLog:      true,
	}}
	for _, set := range options {
		set(&n.opts)
	}
	n.Restart()
	t.Cleanup(n.Stop)
	return n
}

// URL is the URL to connect to, credentials included. It stays the same over a restart.
func (n *NATSServer) URL() string {
	u := url.URL{Scheme: "nats", Host: n.Addr()}
	if n.opts.Username != "" {
		u.User = url.UserPassword(n.opts.Username, n.opts.Password)
	}
	return u.String()
}

// Addr is the host:port of the server.
func (n *NATSServer) Addr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return loopback(n.opts.Port)
}

// Server is the running server, nil while stopped.
func (n *NATSServer) Server() *server.Server {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.srv
}

// Reload changes options while the server runs, as a signal to nats-server does.
func (n *NATSServer) Reload(options ...NATSOption) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, set := range options {
		set(&n.opts)
	}
	if err := n.srv.ReloadOptions(n.opts.Clone()); err != nil {
		n.t.Fatalf("reload NATS: %v", err)
	}
}

// Stop stops the server and waits for it. A stopped one is left alone.
func (n *NATSServer) Stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.srv == nil {
		return
	}
	n.srv.Shutdown()
	n.srv.WaitForShutdown()
	n.srv = nil
}

// Restart stops the server if it runs and starts it again on the same port and
// data. Options change it first, credentials for example.
func (n *NATSServer) Restart(options ...NATSOption) {
	n.t.Helper()
	n.Stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, set := range options {
		set(&n.opts)
	}
	var last error
	err := poll(StartTimeout, func() bool { // a client of the old port may hold it for a moment
		var srv *server.Server
		srv, last = startNATS(n.opts)
		n.srv = srv
		return last == nil
	})
	if err != nil {
		n.t.Fatalf("start NATS: %v: %v", err, last)
	}
	n.opts.Port = n.srv.Addr().(*net.TCPAddr).Port
}

func startNATS(opts server.Options) (*server.Server, error) {
	srv, err := server.NewServer(&opts) // a copy: the server writes to its options
	if err != nil {
		return nil, err
	}
	log := &fatalLog{}
	srv.SetLoggerV2(log, false, false, false)
	srv.Start()
	if err := log.fatal(); err != nil {
		srv.Shutdown()
		return nil, err
	}
	if !srv.ReadyForConnections(StartTimeout) {
		srv.Shutdown()
		return nil, fmt.Errorf("not ready after %s", StartTimeout)
	}
	return srv, nil
}

// fatalLog keeps the first fatal error: the server carries on after one.
type fatalLog struct {
	mu    sync.Mutex
	first error
}

func (l *fatalLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *fatalLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = fmt.Errorf(format, v...)
	}
}
func (*fatalLog) Errorf(string, ...any)  {}
func (*fatalLog) Warnf(string, ...any)   {}
func (*fatalLog) Noticef(string, ...any) {}
func (*fatalLog) Debugf(string, ...any)  {}
func (*fatalLog) Tracef(string, ...any)  {}
