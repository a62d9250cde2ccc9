package cache

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

// maxBehind is how many sessions a process names that Redis is behind with, 300 KB of ids
// at most. When there are more, none is read from Redis.
const maxBehind = 500

// state is what Redis is behind with, as one process knows.
type state struct {
	all, silent bool
	sessions    map[string]struct{}

	seq   uint64    // in the stream; 0 when it was not read there
	since time.Time // when this process learned of it
}

// wireState is a state as it is in the stream. Nothing at all is {}.
type wireState struct {
	All      bool     `json:"all,omitempty"`
	Silent   bool     `json:"silent,omitempty"` // because Redis does not answer
	Sessions []string `json:"sessions,omitempty"`
}

// stateOf is what Redis is behind with, as this process knows.
func (s *Shared) stateOf(writable bool) wireState {
	sessions, all := s.cfg.Refresher.stale.behindWith(maxBehind, writable)
	slices.Sort(sessions) // so that the same is the same text
	behind := all || len(sessions) > 0
	return wireState{all, behind && s.cfg.Redis.writes.quiet.Load(), sessions}
}

// parseState reads a state. What does not parse may be anything, so it is all.
func parseState(data []byte) *state {
	var w wireState
	if err := json.Unmarshal(data, &w); err != nil {
		return &state{all: true}
	}
	o := &state{all: w.All, silent: w.Silent, sessions: make(map[string]struct{}, len(w.Sessions))}
	for _, session := range w.Sessions {
		o.sessions[session] = struct{}{}
	}
	return o
}

func (o *state) empty() bool { return !o.all && len(o.sessions) == 0 }

func (o *state) behind(session string) bool {
	_, named := o.sessions[session]
	return o.all || named
}

// announce tells the others what has changed here, and takes over from those that are gone.
func (s *Shared) announce(ctx context.Context) error {
	f := s.cfg.Refresher
	if f == nil {
		return nil
	}
	if err := s.tell(ctx, s.stateOf(s.cfg.Redis.Writable())); err != nil {
		return err
	}
	return s.takeOver(ctx)
}

// tell publishes a state when it is not what was said last. One that is not empty is repeated,
// so that others see that this process is there.
func (s *Shared) tell(ctx context.Context, w wireState) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DoubtAfter/2)
	defer cancel()
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	const nothing = "{}"
	switch text := string(data); {
	case text == nothing && (s.told == "" || s.told == nothing):
		return nil
	case text == s.told && time.Since(s.toldAt) < s.cfg.OrphanAfter/3:
		return nil
	}
	var opts []jetstream.PublishOpt
	if string(data) == nothing {
		opts = append(opts, jetstream.WithMsgTTL(stream.CacheClearedFor))
	}
	if _, err := s.cfg.JS.Publish(ctx, stream.CacheBehindPrefix+s.id, data, opts...); err != nil {
		return fmt.Errorf("tell what Redis is behind with: %w", err)
	}
	s.told, s.toldAt = string(data), time.Now()
	return nil
}

// takeOver removes what processes that are gone were behind with, once a walk that began
// later has refreshed it.
func (s *Shared) takeOver(ctx context.Context) error {
	f := s.cfg.Refresher
	if _, all := f.stale.behindWith(0, s.cfg.Redis.Writable()); all {
		return nil // Redis does not even take what is known here
	}
	walked, now := f.stale.lastWalk(), time.Now()
	for id, o := range s.orphans(now) {
		if !walked.After(o.since) {
			if now.Sub(s.walkedAt) > walkAgain {
				s.walkedAt = now
				s.cfg.Walk()
			}
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, s.cfg.DoubtAfter/2)
		_, err := s.cfg.JS.Publish(ctx, stream.CacheBehindPrefix+id, []byte("{}"),
			jetstream.WithExpectLastSequencePerSubject(o.seq), jetstream.WithMsgTTL(stream.CacheClearedFor))
		cancel()
		if err != nil && !stream.WrongLast(err) { // otherwise it has said something, so it is not gone
			return fmt.Errorf("take over what Redis is behind with: %w", err)
		}
	}
	return nil
}

// orphans are the states of processes that have not repeated them.
func (s *Shared) orphans(now time.Time) map[string]*state {
	s.mu.RLock()
	defer s.mu.RUnlock()
	gone := make(map[string]*state)
	for id, o := range s.others {
		if o.seq > 0 && now.Sub(o.since) > s.cfg.OrphanAfter {
			gone[id] = o
		}
	}
	return gone
}
