package cache

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"
)

// Defaults of [Config].
const (
	DefaultURL             = "redis://127.0.0.1:6379"
	DefaultTTL             = 24 * time.Hour
	DefaultLimit           = 10
	DefaultOpTimeout       = 2 * time.Second
	DefaultDialTimeout     = 500 * time.Millisecond
	DefaultReadTimeout     = 500 * time.Millisecond
	DefaultWriteTimeout    = 500 * time.Millisecond
	DefaultPoolSize        = 10
	DefaultPoolTimeout     = 250 * time.Millisecond
	DefaultStallAfter      = 100 * time.Millisecond
	DefaultPipeline        = 64
	DefaultPipelineBytes   = 1 << 20
	DefaultMaxEntry        = 8 << 20
	DefaultBreakerFailures = 3
	DefaultBreakerWait     = time.Second
	// DefaultCheckEvery is how late trouble shows while nothing is asked of Redis.
	DefaultCheckEvery = 5 * time.Second
)

// Config says how to use Redis. The zero value of every member means its default.
type Config struct {
	// URL is one of
	//
	//	redis://[user:password@]host[:port][/db]
	//	redis+cluster://[user:password@]host[:port],host[:port],…
	//	redis+sentinel://[user:password@]sentinel[:port],…/master[/db]
	//
	// with rediss in place of redis for TLS (the system's roots, SSL_CERT_FILE, or CA).
	// Ports are 6379, or 26379 for sentinels. User and password are those of Redis;
	// sentinels with their own take ?sentinel_user= and ?sentinel_password=.
	// Bytes other than letters, digits and - . _ ~ are percent-encoded in both.
	URL string
	// CA is a PEM file of who may have signed the server's certificate; Cert and CertKey are
	// those of the client. They are for rediss.
	CA, Cert, CertKey string
	// Key signs what is written and proves what is read (HMAC-SHA-256). All processes that
	// share a Redis have the same. Without one nothing is read or written until
	// [Redis.SetKey]; [NewShared] gives it one that is kept in NATS.
	Key []byte
	// DataDirs are folders that may be the data folder of an `afterword serve` on this machine. When
	// URL is that of its embedded server, and has no password, the one in the folder is used.
	DataDirs []string
	// TTL is how long both keys of a session live after their last write.
	TTL time.Duration
	// Limit is how many turns are kept per session.
	Limit int
	// OpTimeout bounds every operation, even if the client does not return.
	OpTimeout time.Duration
	// DialTimeout, ReadTimeout and WriteTimeout bound the client's connections.
	DialTimeout, ReadTimeout, WriteTimeout time.Duration
	// PoolSize is how many connections the client has, per node; PoolTimeout is
	// how long an operation waits for one.
	PoolSize    int
	PoolTimeout time.Duration
	// StallAfter is how long no operation has been answered, with as many under way as
	// there are connections, when a read is not made but [ErrUnavailable]: it would only
	// wait for a connection.
	StallAfter time.Duration
	// Pipeline and PipelineBytes bound how many sessions, and about how many
	// bytes, are written in one round trip.
	Pipeline, PipelineBytes int
	// MaxEntry is how large, in bytes, both values of a session may be together.
	// A larger one is not cached, and what is cached of the session is removed.
	MaxEntry int
	// BreakerFailures in a row open the circuit breaker of reads, or that of writes; a write
	// that Redis refuses opens it at once. BreakerWait is how long it stays open
	// before a check asks again.
	BreakerFailures int
	BreakerWait     time.Duration
	// CheckEvery is how often [Redis.Run] looks whether Redis takes reads and writes.
	CheckEvery time.Duration
	// Logger gets one line when Redis stops answering, or refuses, and one when it does
	// not any more. Nil discards them.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.URL = cmp.Or(c.URL, DefaultURL)
	c.TTL = cmp.Or(c.TTL, DefaultTTL)
	c.Limit = cmp.Or(c.Limit, DefaultLimit)
	c.OpTimeout = cmp.Or(c.OpTimeout, DefaultOpTimeout)
	c.DialTimeout = cmp.Or(c.DialTimeout, DefaultDialTimeout)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, DefaultReadTimeout)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, DefaultWriteTimeout)
	c.PoolSize = cmp.Or(c.PoolSize, DefaultPoolSize)
	c.PoolTimeout = cmp.Or(c.PoolTimeout, DefaultPoolTimeout)
	c.StallAfter = cmp.Or(c.StallAfter, DefaultStallAfter)
	c.Pipeline = cmp.Or(c.Pipeline, DefaultPipeline)
	c.PipelineBytes = cmp.Or(c.PipelineBytes, DefaultPipelineBytes)
	c.MaxEntry = cmp.Or(c.MaxEntry, DefaultMaxEntry)
	c.BreakerFailures = cmp.Or(c.BreakerFailures, DefaultBreakerFailures)
	c.BreakerWait = cmp.Or(c.BreakerWait, DefaultBreakerWait)
	c.CheckEvery = cmp.Or(c.CheckEvery, DefaultCheckEvery)
	c.Logger = orDiscard(c.Logger)
	return c
}

func (c Config) validate() error {
	for _, d := range [...]struct {
		name string
		d    time.Duration
	}{
		{"TTL", c.TTL}, {"OpTimeout", c.OpTimeout}, {"DialTimeout", c.DialTimeout},
		{"ReadTimeout", c.ReadTimeout}, {"WriteTimeout", c.WriteTimeout},
		{"PoolTimeout", c.PoolTimeout}, {"StallAfter", c.StallAfter}, {"BreakerWait", c.BreakerWait}, {"CheckEvery", c.CheckEvery},
	} {
		if d.d < time.Millisecond {
			return fmt.Errorf("cache: %s is %s; it must be 1ms or more", d.name, d.d)
		}
	}
	for _, n := range [...]struct {
		name string
		n    int
	}{
		{"Limit", c.Limit}, {"PoolSize", c.PoolSize}, {"Pipeline", c.Pipeline}, {"PipelineBytes", c.PipelineBytes},
		{"MaxEntry", c.MaxEntry}, {"BreakerFailures", c.BreakerFailures},
	} {
		if n.n < 1 {
			return fmt.Errorf("cache: %s is %d; it must be 1 or more", n.name, n.n)
		}
	}
	return nil
}

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
