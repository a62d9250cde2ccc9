package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/afterword-io/afterword/internal/credentials"
	"github.com/afterword-io/afterword/internal/embedded"
	"github.com/afterword-io/afterword/internal/stream"
)

// errServerStopped says that an embedded server has stopped by itself.
var errServerStopped = errors.New("the embedded NATS server has stopped, which it does when its disk fails: see the log, and start afterword again")

// watchEvery is how often an embedded server is looked at.
const watchEvery = time.Second

// checkEmbedded refuses what the embedded servers would not start with, before a folder is made.
func (b *builder) checkEmbedded() error {
	if err := b.o.store.checkData(); err != nil {
		return err
	}
	var nats, redis string
	if b.o.nats.url == "" {
		if b.o.nats.domain != "" || b.o.nats.prefix != "" {
			return errors.New("--nats-js-domain and --nats-js-prefix are for servers given with --nats-url: the embedded one has neither a domain nor other accounts")
		}
		if b.o.nats.Credentials != (stream.Credentials{}) {
			return errors.New("NATS credentials and certificates are for servers given with --nats-url: the embedded one has credentials of its own, and no TLS")
		}
		if b.o.limits.replicas > 1 {
			return errors.New("--stream-replicas is for a cluster given with --nats-url: the embedded server keeps one copy")
		}
		if most := embedded.Room(b.natsDir()); most > 0 && b.o.limits.maxBytes > most {
			return fmt.Errorf("--stream-max-bytes %s is more than the embedded server may hold on this disk: give %s or less", formatBytes(b.o.limits.maxBytes), formatBytes(most))
		}
		if err := refuseRoot("the folder of the embedded NATS server", b.natsDir()); err != nil {
			return err
		}
		nats = b.o.embeddedNATS
	}
	if b.o.redis.url == "" {
		redis = b.o.embeddedRedis
	}
	return embedded.Check(nats, redis)
}

// startEmbedded starts the servers that no URL was given for, and points the URLs at them. Their
// credentials are in the data folder, for all who connect.
func (b *builder) startEmbedded() error {
	if b.o.nats.url != "" && b.o.redis.url != "" {
		return nil
	}
	keys, err := credentials.Make(b.o.store.dir, embedded.DefaultNATS, embedded.DefaultRedis)
	if err != nil {
		return err
	}
	if b.o.nats.url == "" {
		srv, err := embedded.StartNATS(embedded.NATSConfig{
			Dir: b.natsDir(), Addr: b.o.embeddedNATS, User: keys.NATS.User, Password: keys.NATS.Password, Logger: b.log,
		})
		if err != nil {
			return err
		}
		b.server = srv
		old := b.o.nats
		b.o.nats = natsOptions{url: srv.ClientURL(), dataDirs: old.dataDirs, connect: old.connect, request: old.request, inbox: old.inbox}
		if b.o.limits.maxBytes == 0 {
			b.o.limits.maxBytes = embedded.DefaultMaxBytes
			if most := srv.MaxBytes(); most > 0 { // a small disk
				b.o.limits.maxBytes = min(b.o.limits.maxBytes, most)
			}
		}
		b.onStop("embedded nats", 100, srv.Shutdown)
		b.watch(srv)
		if err := keys.NATS.Listens(srv.Addr()); err != nil {
			return err
		}
	}
	if b.o.redis.url == "" {
		srv, err := embedded.StartRedis(embedded.RedisConfig{Addr: b.o.embeddedRedis, Password: keys.Redis.Password})
		if err != nil {
			return err
		}
		b.o.redis.url, b.embeddedRedis = srv.URL(), true
		b.onStop("embedded redis", 100, func(context.Context) error { srv.Close(); return nil })
		if err := keys.Redis.Listens(srv.Addr()); err != nil {
			return err
		}
	}
	return keys.Save()
}

// watch ends the process when its embedded server has stopped: only a new start helps.
func (b *builder) watch(srv *embedded.NATS) {
	ctx, cancel := context.WithCancel(b.ctx)
	b.onStop("watch", 100, func(context.Context) error { cancel(); return nil })
	go func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !srv.Running() {
				b.fatal(errServerStopped)
				return
			}
		}
	}()
}
