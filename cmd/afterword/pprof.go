package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/afterword-io/afterword/internal/gateway"
	"github.com/afterword-io/afterword/internal/httpio"
)

// partProfiles is the server of profiles, as the log names it.
const partProfiles = "profiles"

// profile serves profiles of this process on an address of their own, if one was
// given. Whoever reaches it can slow the process down and sees what it does, so the guard and the
// rule of loopback are those of the API. The command line is not served: it may hold a password.
func (b *builder) profile() error {
	if b.o.pprof == "" {
		return nil
	}
	ln, err := b.open("--pprof", b.o.pprof, "127.0.0.1:6060")
	if err != nil {
		return err
	}
	conns := httpio.NewConnections(ln, descriptorsFor(b.o.http.connections))
	srv := &http.Server{
		ConnState: conns.State,
		Handler:   b.guard.Around(http.HandlerFunc(serveProfile)), DisableGeneralOptionsHandler: true,
		// There is no bound of an answer: a profile takes as long as it is asked to.
		ReadHeaderTimeout: b.o.http.header, ReadTimeout: b.o.http.read, IdleTimeout: b.o.http.idle,
		MaxHeaderBytes: gateway.DefaultMaxHeaderBytes, ErrorLog: slog.NewLogLogger(b.log.Handler(), slog.LevelDebug),
	}
	b.background(partProfiles, 20, func(ctx context.Context) error {
		defer context.AfterFunc(ctx, func() { srv.Close() })()
		if err := srv.Serve(conns); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	b.log.Info("serving profiles", "url", "http://"+ln.Addr().String()+"/debug/pprof/")
	return nil
}

// serveProfile answers one request for a profile, or for the list of them.
func serveProfile(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.URL.Path, "/debug/pprof/")
	methods := []string{http.MethodGet}
	handle := pprof.Index
	switch name {
	case "profile":
		handle = pprof.Profile
	case "symbol":
		handle, methods = pprof.Symbol, append(methods, http.MethodPost)
	case "trace":
		handle = pprof.Trace
	case "cmdline":
		ok = false
	}
	switch {
	case !ok:
		httpio.NewProblem(http.StatusNotFound, "", "There is nothing at this path. GET /debug/pprof/ lists the profiles.").Write(w)
	case !slices.ContainsFunc(methods, func(m string) bool { return httpio.Answers(m, r) }):
		httpio.NotAllowed(httpio.Allow(methods)).Write(w)
	default:
		handle(w, r)
	}
}
