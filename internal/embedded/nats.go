package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/internal/folder"
	"github.com/afterword-io/afterword/internal/secret"
	"github.com/afterword-io/afterword/internal/stream"
)

const (
	// DefaultNATS is the address of the embedded NATS server.
	DefaultNATS = "127.0.0.1:4222"
	// DefaultMaxBytes is the most that the stream of turns holds on an embedded server.
	DefaultMaxBytes = 10 << 30

	natsFlag     = "--embedded-nats"
	natsURLFlag  = "--nats-url"
	natsReady    = 5 * time.Second
	natsLockName = "lock"
	madeUpUser   = "afterword"
)

// NATSConfig says where an embedded NATS server listens and keeps its data.
type NATSConfig struct {
	// Dir holds the streams. It is created; one server uses it at a time.
	Dir string
	// Addr is a loopback host:port. Empty means [DefaultNATS]; port 0 takes a free one.
	Addr string
	// MaxBytes bounds all streams together. Zero means three quarters of what
	// the disk has free.
	MaxBytes int64
	// User and Password are required of every client; without a password both are made up, and
	// only [NATS.ClientURL] tells them.
	User, Password string
	// MaxPayload in bytes. Zero means [stream.DefaultMaxPayload].
	MaxPayload int32
	// Logger gets the server's log. Nil discards it.
	Logger *slog.Logger
}

// NATS is a NATS server in this process, with JetStream. Every message is
// synced to disk before it is acknowledged.
type NATS struct {
	srv  *server.Server
	user *url.Userinfo
	lock *os.File
	once sync.Once
}

// StartNATS starts a server and returns when it accepts connections, or with
// an error within 5 s: an address in use (naming --embedded-nats), one that is
// not loopback, a folder that cannot be used or that another server uses.
// Recovering the streams of a large folder comes on top of the 5 s.
func StartNATS(cfg NATSConfig) (*NATS, error) {
	if cfg.Addr == "" {
		cfg.Addr = DefaultNATS
	}
	if cfg.MaxPayload == 0 {
		cfg.MaxPayload = stream.DefaultMaxPayload
	}
	if cfg.Password == "" {
		cfg.User, cfg.Password = madeUpUser, secret.Text()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	host, port, err := loopback(cfg.Addr, natsFlag)
	if err != nil {
		return nil, err
	}
	if cfg.Dir == "" {
		return nil, errors.New("embedded NATS: no folder given")
	}
	if err := folder.Make(cfg.Dir); err != nil {
		return nil, fmt.Errorf("embedded NATS: create folder: %w", err)
	}
	if err := os.Chmod(cfg.Dir, 0o700); err != nil { // somebody may have made it with another mode
		return nil, fmt.Errorf("embedded NATS: keep others out of the folder: %w: give %s to the user of this process", err, cfg.Dir)
	}
	// Before JetStream opens its files: two servers on one folder ruin it.
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	e, err := startNATS(cfg, host, port)
	if err != nil {
		lock.Close()
		return nil, err
	}
	e.lock = lock
	return e, nil
}

func startNATS(cfg NATSConfig, host string, port int) (*NATS, error) {
	// The server opens its streams before its port; find out about the port first.
	l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return nil, listenError(cfg.Addr, natsFlag, natsURLFlag, err)
	}
	if err := l.Close(); err != nil {
		return nil, fmt.Errorf("%s %s: %w", natsFlag, cfg.Addr, err)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	// The server warns of passwords that it is given as they are. The cost of a hash protects
	// weak ones; this one cannot be guessed.
	hash, err := bcrypt.GenerateFromPassword([]byte(cfg.Password), bcrypt.MinCost)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: password: %w", err)
	}
	srv, err := server.NewServer(&server.Options{
		ServerName:            "afterword-embedded",
		Host:                  host,
		Port:                  port,
		JetStream:             true,
		StoreDir:              cfg.Dir,
		JetStreamMaxStore:     cfg.MaxBytes,
		SyncAlways:            true, // the default syncs every 2 minutes: a power cut loses what was acknowledged
		MaxPayload:            cfg.MaxPayload,
		Users:                 []*server.User{{Username: cfg.User, Password: string(hash)}},
		NoSigs:                true, // signals are the command's business
		DisableShortFirstPing: true,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	log := &natsLog{log: cfg.Logger}
	srv.SetLoggerV2(log, false, false, false)
	srv.Start() // returns when it listens, or has logged a fatal error
	if err := log.fatal(); err != nil {
		srv.Shutdown()
		return nil, fmt.Errorf("embedded NATS in %s at %s: %w", cfg.Dir, cfg.Addr, err)
	}
	if !srv.ReadyForConnections(natsReady) {
		srv.Shutdown()
		return nil, fmt.Errorf("embedded NATS at %s is not ready after %s", cfg.Addr, natsReady)
	}
	return &NATS{srv: srv, user: url.UserPassword(cfg.User, cfg.Password)}, nil
}

// Addr is the host:port that it listens on.
func (e *NATS) Addr() string { return e.srv.Addr().String() }

// ClientURL is the URL to connect to, with the credentials.
func (e *NATS) ClientURL() string {
	return (&url.URL{Scheme: "nats", User: e.user, Host: e.Addr()}).String()
}

// MaxBytes is what all streams together may hold. A stream with a greater
// limit of its own cannot be created.
func (e *NATS) MaxBytes() int64 {
	if c := e.srv.JetStreamConfig(); c != nil {
		return c.MaxStore
	}
	return 0
}

// Room is what [NATS.MaxBytes] will be of a server whose folder is not there yet; 0 when it is there, or that is not known.
func Room(dir string) int64 {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return 0 // its streams keep their limits
	}
	for at := dir; ; at = filepath.Dir(at) {
		var st unix.Statfs_t
		err := unix.Statfs(at, &st)
		switch {
		case err == nil:
			return int64(st.Bavail * uint64(st.Bsize) / 4 * 3) // as the server does
		case !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at):
			return 0
		}
	}
}

// Running reports whether the server and its JetStream work. JetStream stops by
// itself when its disk fails.
func (e *NATS) Running() bool { return e.srv.Running() && e.srv.JetStreamEnabled() }

// Shutdown stops the server and waits for it until ctx ends. What was
// acknowledged is on disk whether it waits or not. A second call waits again.
func (e *NATS) Shutdown(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
		e.once.Do(func() { e.lock.Close() })
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop embedded NATS: %w", ctx.Err())
	}
}

func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, natsLockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("embedded NATS: another process uses %s: stop it, or choose another folder with --data-dir", dir)
		}
		return nil, fmt.Errorf("embedded NATS: lock %s: %w", dir, err)
	}
	return f, nil
}

// natsLog is the server's logger. The server carries on after a fatal error
// unless its logger exits, so the first one is kept.
type natsLog struct {
	log *slog.Logger

	mu    sync.Mutex
	first error
}

func (l *natsLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

func (l *natsLog) line(level slog.Level, format string, v []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	if text := fmt.Sprintf(format, v...); text != "" { // its banner has empty lines
		l.log.Log(context.Background(), level, text, "component", "nats-server")
	}
}

func (l *natsLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	if l.first == nil {
		l.first = fmt.Errorf(format, v...)
	}
	l.mu.Unlock()
	l.line(slog.LevelError, format, v)
}

func (l *natsLog) Errorf(format string, v ...any)  { l.line(slog.LevelError, format, v) }
func (l *natsLog) Warnf(format string, v ...any)   { l.line(slog.LevelWarn, format, v) }
func (l *natsLog) Noticef(format string, v ...any) { l.line(slog.LevelDebug, format, v) } // chatter next to afterword's own log
func (l *natsLog) Debugf(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
func (l *natsLog) Tracef(format string, v ...any)  { l.line(slog.LevelDebug, format, v) }
