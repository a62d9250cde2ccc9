package cache

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/afterword-io/afterword/internal/credentials"
)

const noRetries = -1

// newClient makes the client of t; nothing is connected yet. Embedded, unless nil, finds the
// credentials. connected is called with every new connection before it is used.
func newClient(t target, c Config, tls *tls.Config, embedded *credentials.Dialer, connected func(context.Context, *redis.Conn)) redis.UniversalClient {
	o := &redis.UniversalOptions{
		Addrs: t.addrs, DB: t.db, MasterName: t.master,
		Username: t.user, Password: t.password,
		SentinelUsername: t.sentinelUser, SentinelPassword: t.sentinelPassword,

		DialTimeout: c.DialTimeout, ReadTimeout: c.ReadTimeout, WriteTimeout: c.WriteTimeout,
		ContextTimeoutEnabled: true,
		MaxRetries:            noRetries,
		DialerRetries:         1, // the default dials five times, each with its own timeout
		PoolSize:              c.PoolSize,
		PoolTimeout:           c.PoolTimeout,
		PipelinePoolSize:      -1, // or pipelines have ten connections of their own

		TLSConfig:     tls,
		IsClusterMode: t.mode == cluster,
		// Neither a name nor an identity: a round trip less when connecting, and a user
		// whose ACL has no CLIENT can connect.
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		OnConnect: func(ctx context.Context, c *redis.Conn) error {
			connected(ctx, c)
			return nil
		},
	}
	dial := dialer(redis.NewDialer(&redis.Options{DialTimeout: c.DialTimeout, TLSConfig: tls}))
	if embedded != nil {
		dial = embedded.DialContext
		o.CredentialsProvider = embedded.Userinfo
	}
	o.Dialer = dial.bounded(c.MaxEntry)
	if t.mode == cluster {
		co := o.Cluster()
		// Otherwise the first command asks a node for COMMAND, for up to 5 s and
		// with no regard to the operation's context.
		co.DisableRoutingPolicies = true
		// One more try finds the node that a slot has moved to. The default of
		// three takes longer than OpTimeout while one node hangs, and the sessions
		// of the others, which were written, would count as failed.
		co.MaxRedirects = 1
		return redis.NewClusterClient(co)
	}
	return redis.NewUniversalClient(o)
}

// embeddedOf is what finds the credentials of t when it may be an embedded server.
func embeddedOf(t target, c Config) *credentials.Dialer {
	if len(c.DataDirs) == 0 || t.mode != standalone || t.tls || t.user != "" || t.password != "" {
		return nil
	}
	return credentials.Redis(c.DataDirs, c.DialTimeout)
}

// LogClient makes the Redis client library log to l. The library has one logger
// for the whole process, standard error unless told otherwise, so a program
// calls this once, before it uses Redis. Nil discards its lines.
func LogClient(l *slog.Logger) { redis.SetLogger(clientLogger{orDiscard(l)}) }

type clientLogger struct{ log *slog.Logger }

func (c clientLogger) Printf(ctx context.Context, format string, v ...any) {
	if c.log.Enabled(ctx, slog.LevelDebug) {
		c.log.DebugContext(ctx, "Redis client", "msg", fmt.Sprintf(format, v...))
	}
}
