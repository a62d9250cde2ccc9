package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/afterword-io/afterword/internal/systemd"
)

const (
	// readyEvery is how often a service is asked whether it is ready, and alive
	// where its supervisor wants to know that seldom.
	readyEvery = 2 * time.Second
	// pulseBound is how long this process may take to answer itself.
	pulseBound = 10 * time.Second
	// stopSlack is what a stop takes on top of --drain-timeout, at most.
	stopSlack = 5 * time.Second
)

// notNeeded are the checks of readiness that a service can start without: turns
// and transcripts do not need Redis.
var notNeeded = []string{partRedis}

// supervisor tells systemd how a service is doing.
type supervisor struct {
	*builder
	notify *systemd.Notifier
	every  time.Duration // how often to look
	window time.Duration // of the watchdog; 0 is none

	mu       sync.Mutex
	stopping bool

	said    string // last status
	ready   bool   // it was ready once
	refused bool   // a message could not be sent, which was logged
	dead    bool   // it was not alive when looked at last
}

// supervise starts to tell the supervisor, if there is one, that the service is
// ready, once everything it needs is there, and from then on that it is alive, as
// long as it really moves. stopping is called when a stop begins, and end when it
// is over.
func (b *builder) supervise(env lookup) (stopping, end func(), err error) {
	get := func(name string) string { v, _ := env(name); return v }
	window, err := systemd.Watchdog(get(systemd.EnvWatchdog), get(systemd.EnvWatchdogOnly), os.Getpid())
	if err != nil {
		return nil, nil, err
	}
	n, err := systemd.Dial(get(systemd.EnvSocket))
	if err != nil {
		return nil, nil, err
	}
	if !n.Supervised() {
		return func() {}, func() {}, nil
	}
	s := &supervisor{builder: b, notify: n, window: window, every: readyEvery}
	if window > 0 {
		s.every = min(readyEvery, window/4)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		s.run(done)
	}()
	return s.stop, func() {
		close(done)
		<-ended
		n.Close()
	}, nil
}

func (s *supervisor) run(done <-chan struct{}) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		s.look()
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

func (s *supervisor) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	s.tell(s.notify.Stopping("stopping, within "+s.drain.String(), s.drain+stopSlack))
}

// look asks once, and tells what has changed.
func (s *supervisor) look() {
	status, ready := s.status()
	alive := s.alive()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping { // bounded by the supervisor's own patience
		s.tell(s.notify.Alive())
		return
	}
	switch {
	case ready && !s.ready:
		s.ready = true
		s.tell(s.notify.Ready(status))
	case status != s.said:
		s.tell(s.notify.Status(status))
	}
	s.said = status
	if s.window == 0 {
		return
	}
	if dead := alive != nil; dead != s.dead {
		s.dead = dead
		if dead {
			s.log.Error("this process does not move any more; its supervisor is not told that it is alive", "error", alive)
		} else {
			s.log.Info("this process moves again")
		}
	}
	if alive == nil {
		s.tell(s.notify.Alive())
	}
}

func (s *supervisor) tell(err error) {
	if err != nil && !s.refused {
		s.refused = true
		s.log.Warn("the supervisor cannot be told how this service is doing", "error", err)
	}
}

// status says what the service waits for; ready is true when that is nothing it needs.
func (s *supervisor) status() (status string, ready bool) {
	ctx, cancel := context.WithTimeout(s.ctx, pulseBound)
	defer cancel()
	var waiting []string
	ready = true
	for _, name := range slices.Sorted(maps.Keys(s.builder.ready)) {
		if err := s.builder.ready[name](ctx); err != nil {
			waiting = append(waiting, name+": "+err.Error())
			ready = ready && slices.Contains(notNeeded, name)
		}
	}
	switch {
	case len(waiting) == 0:
		return "ready", ready
	case ready:
		return "working without " + strings.Join(waiting, "; "), ready
	}
	return "not ready: " + strings.Join(waiting, "; "), ready
}

// alive is an error when this process itself is at fault: its consumer is stuck in
// one step, or nobody answers its own requests. Trouble of disks and servers is not.
func (s *supervisor) alive() error {
	if s.consumer != nil && s.window > 0 {
		if d := s.consumer.Stalled(); d > s.window/2 {
			return fmt.Errorf("the consumer has been at one step for %s", d.Round(time.Second))
		}
	}
	if s.listener == nil {
		return nil
	}
	return s.answers()
}

// answers asks this process over HTTP, as whoever uses it does.
func (s *supervisor) answers() error {
	addr, ok := s.listener.Addr().(*net.TCPAddr)
	if !ok {
		return errors.New("not a TCP listener")
	}
	host := addr.IP
	if host.IsUnspecified() {
		host = net.IPv4(127, 0, 0, 1)
		if addr.IP.To4() == nil {
			host = net.IPv6loopback
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), pulseBound)
	defer cancel()
	url := "http://" + (&net.TCPAddr{IP: host, Port: addr.Port, Zone: addr.Zone}).String() + "/healthz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true} // a connection of its own each time, by no proxy
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("no answer to its own request: %w", err)
	}
	return resp.Body.Close()
}
