package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/afterword-io/afterword/internal/httpio"
)

// fullEvery is how often, at most, a line says that there are too many connections.
const fullEvery = time.Minute

// Serve answers connections of ln until ctx ends, and closes ln. Then it takes no
// new ones, ends the waits that clients asked for, and returns when all requests
// are answered: nil, or an error when DrainTimeout cut some off. A gateway that
// was stopped stays so.
func (g *Gateway) Serve(ctx context.Context, ln net.Listener) error {
	conns := httpio.NewConnections(ln, g.cfg.MaxConnections)
	conns.OnFull = g.manyConnections()
	g.connections.Store(conns)
	srv := &http.Server{
		Handler:           g.Handler(),
		ConnState:         conns.State,
		ReadHeaderTimeout: g.cfg.ReadHeaderTimeout,
		ReadTimeout:       g.cfg.ReadTimeout,
		WriteTimeout:      g.cfg.ReadTimeout + max(g.cfg.MaxWait, g.cfg.LookupTimeout) + g.cfg.SendTimeout,
		IdleTimeout:       g.cfg.IdleTimeout,
		MaxHeaderBytes:    g.cfg.MaxHeaderBytes,
		// "OPTIONS *" passes the guard like everything else.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // broken connections
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(conns) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve HTTP on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	g.stopOnce.Do(func() { close(g.stopping) })
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.DrainTimeout)
	defer cancel()
	err := srv.Shutdown(drain)
	if err != nil {
		err = errors.Join(fmt.Errorf("drain HTTP requests within %s: %w", g.cfg.DrainTimeout, err), srv.Close())
	}
	<-ended
	return err
}

// manyConnections returns what logs that there are as many connections as may be.
func (g *Gateway) manyConnections() func() {
	limit := rate.Sometimes{Interval: fullEvery}
	return func() {
		limit.Do(func() {
			g.log.Warn("as many HTTP connections are open as may be: idle ones are ended for new ones", "connections", g.cfg.MaxConnections)
		})
	}
}
