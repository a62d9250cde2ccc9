package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// fault is what keeps a process from being ready, and what to do about it.
type fault struct {
	Check  string `json:"check"`
	Detail string `json:"detail"`
}

type readiness struct {
	Status string   `json:"status"`
	Checks []string `json:"checks"` // all of them passed
	// Exposed are addresses that other machines may reach, where nobody is asked for credentials.
	Exposed []string `json:"exposed,omitempty"`
}

// health depends on this process alone, so that a supervisor does not restart it
// for trouble elsewhere.
func (g *Gateway) health(w http.ResponseWriter, _ *http.Request, _ place) error {
	if err := g.cfg.Healthy(); err != nil {
		return newProblem(http.StatusServiceUnavailable, "unhealthy", "Unhealthy", err.Error()+". Restart this process.")
	}
	return writeJSON(w, http.StatusOK, readiness{Status: "ok", Checks: []string{}})
}

// ready runs all checks at one time.
func (g *Gateway) ready(w http.ResponseWriter, r *http.Request, _ place) error {
	faults := make([]fault, len(g.checks))
	names := make([]string, len(g.checks))
	var all sync.WaitGroup
	for i, c := range g.checks {
		names[i] = c.name
		all.Go(func() {
			if err := c.ask(r.Context(), g.cfg.CheckTimeout); err != nil {
				if errors.Is(err, errNoAnswer) && r.Context().Err() == nil {
					g.lateChecks.Add(1)
				}
				faults[i] = fault{c.name, err.Error()}
			}
		})
	}
	all.Wait()
	faults = slices.DeleteFunc(faults, func(f fault) bool { return f.Check == "" })
	select {
	case <-g.stopping:
		faults = append(faults, fault{"shutdown", "this process is shutting down"})
	default:
	}
	if len(faults) == 0 {
		if g.otherFaults(nil) {
			g.log.Info("ready again")
		}
		return writeJSON(w, http.StatusOK, readiness{Status: "ready", Checks: names, Exposed: g.cfg.Exposed})
	}
	p := newProblem(http.StatusServiceUnavailable, "not-ready", "Not ready", "")
	for i, f := range faults {
		if i > 0 {
			p.Detail += "; "
		}
		p.Detail += f.Check + ": " + f.Detail
	}
	p.NotReady, p.Exposed = faults, g.cfg.Exposed
	return p
}

// otherFaults reports whether other checks fail than when readiness was asked last: who asks
// every second is not the reason for a log line.
func (g *Gateway) otherFaults(faults []fault) bool {
	var names strings.Builder
	for _, f := range faults {
		names.WriteString(f.Check + " ")
	}
	g.failingMu.Lock()
	defer g.failingMu.Unlock()
	other := names.String() != g.failing
	g.failing = names.String()
	return other
}

// check runs a [Check] once at a time, so that one that hangs holds one goroutine
// however often it is asked for.
type check struct {
	name string
	run  Check
	slot chan struct{}
}

func newChecks(named map[string]Check) []*check {
	checks := make([]*check, 0, len(named))
	for _, name := range slices.Sorted(maps.Keys(named)) {
		checks = append(checks, &check{name, named[name], make(chan struct{}, 1)})
	}
	return checks
}

// errNoAnswer says that a check takes too long.
var errNoAnswer = errors.New("no answer")

// ask returns what the check says, or that it does not answer within the bound.
func (c *check) ask(ctx context.Context, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	late := fmt.Errorf("%w within %s", errNoAnswer, bound)
	select {
	case c.slot <- struct{}{}:
	case <-ctx.Done():
		return late
	}
	answer := make(chan error, 1)
	go func() {
		defer func() { <-c.slot }()
		defer func() {
			if v := recover(); v != nil {
				answer <- fmt.Errorf("the check itself failed: %v", v)
			}
		}()
		answer <- c.run(ctx)
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return late
	}
}
