package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// partProfiles is the server of profiles, as the log names it.
const partProfiles = "profiles"

// profile serves profiles of this process on an address of their own, if one was
// given. Whoever reaches it can slow the process down: keep it on loopback.
func (b *builder) profile() error {
	if b.o.pprof == "" {
		return nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(b.ctx, "tcp", b.o.pprof)
	if err != nil {
		return fmt.Errorf("--pprof %s: %w: give a free host:port, as in 127.0.0.1:6060", b.o.pprof, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	b.background(partProfiles, 20, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { srv.Close() })()
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	b.log.Info("serving profiles", "url", "http://"+ln.Addr().String()+"/debug/pprof/")
	return nil
}
