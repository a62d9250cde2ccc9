package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

// maxBehind is how many sessions a process names that Redis is behind with, 300 KB of ids
// at most. When there are more, none is read from Redis.
const maxBehind = 500

// state is what a process that refreshes has said: where it writes to, and what that is behind with.
type state struct {
	wireState
	sessions map[string]struct{}

	seq   uint64    // in the stream; 0 when it was not read there
	since time.Time // when this process learned of it
	heard time.Time // when the process was heard last; zero for never

	want    int64 // the mark that has to be in the Redis of this process
	reached bool  // it is there: both use one Redis, and that has not lost what the process wrote
	foreign bool  // another is there, which was not signed with the key of this process
}

// wireState is a state as it is in the stream. {} is that of nobody.
type wireState struct {
	Group string `json:"group,omitempty"`
	Redis string `json:"redis,omitempty"` // its URL, without secrets
	Keys  int    `json:"keys,omitempty"`  // of its mark
	Mark  int64  `json:"mark,omitempty"`  // the last that Redis has taken; 0 for none
	Ended bool   `json:"ended,omitempty"` // the process has stopped, and what it is behind with is named

	All      bool     `json:"all,omitempty"`
	Silent   bool     `json:"silent,omitempty"` // because Redis does not answer
	Sessions []string `json:"sessions,omitempty"`
}

// beat is what a process says to be heard.
type beat struct {
	Mark int64 `json:"mark"`
}

// stateOf is what this process says of itself.
func (s *Shared) stateOf(writable, ended bool) wireState {
	w := wireState{Group: s.cfg.Group, Redis: s.cfg.Redis.String(), Keys: s.cfg.Redis.markKeys(), Mark: s.marked.Load(), Ended: ended}
	w.Sessions, w.All = s.cfg.Refresher.stale.behindWith(maxBehind, writable)
	slices.Sort(w.Sessions) // so that the same is the same text
	w.Silent = (w.All || len(w.Sessions) > 0) && s.cfg.Redis.writes.quiet.Load()
	return w
}

// parseState reads a state. What does not parse may be anything, so it is all.
func parseState(data []byte) *state {
	o := &state{}
	if err := json.Unmarshal(data, &o.wireState); err != nil || o.Mark < 0 || o.Keys < 0 || o.Keys > clusterMarks {
		o.wireState = wireState{All: true}
	}
	o.sessions = make(map[string]struct{}, len(o.Sessions))
	for _, session := range o.Sessions {
		o.sessions[session] = struct{}{}
	}
	o.Sessions, o.want, o.reached = nil, o.Mark, o.Mark == 0
	return o
}

// empty reports whether the state is that of nobody.
func (o *state) empty() bool { return o.Keys == 0 && !o.isBehind() }

// isBehind reports whether Redis is behind with anything, as the process has said.
func (o *state) isBehind() bool { return o.All || len(o.sessions) > 0 }

func (o *state) behind(session string) bool {
	_, named := o.sessions[session]
	return o.All || named
}

// gone reports whether the process says nothing any more, without having said that it stops: then nobody
// knows with what Redis is behind.
func (o *state) gone(now time.Time, after time.Duration) bool {
	return !o.Ended && now.Sub(o.heard) > after
}

// keep takes over what is known of the process, when the state of it is newer.
func (o *state) keep(old *state) {
	if old == nil {
		return
	}
	o.heard, o.want, o.reached, o.foreign, o.Mark = later(o.heard, old.heard), old.want, old.reached, old.foreign, max(o.Mark, old.Mark)
	if o.seq == old.seq {
		o.since = old.since
	}
}

// announce tells the others what has changed here, and takes over from those that are gone.
func (s *Shared) announce(ctx context.Context) error {
	if s.cfg.Refresher == nil {
		if !s.asked { // so that what is there is heard at once
			s.asked = true
			return s.cfg.JS.Conn().Publish(stream.CacheBeatNow, nil)
		}
		return nil
	}
	mark := s.marked.Load() // before the state: it may have come with a loss
	if err := s.tell(ctx, s.stateOf(s.cfg.Redis.Writable(), false)); err != nil {
		return err
	}
	if err := s.beat(mark); err != nil {
		return err
	}
	return s.takeOver(ctx)
}

// beat says that this process is there.
func (s *Shared) beat(mark int64) error {
	if !s.beatNow.Swap(false) && time.Since(s.beatAt) < s.cfg.OrphanAfter/3 {
		return nil
	}
	if !s.asked {
		s.asked = true
		if err := s.cfg.JS.Conn().Publish(stream.CacheBeatNow, nil); err != nil {
			return err
		}
	}
	data, err := json.Marshal(beat{mark})
	if err != nil {
		return err
	}
	s.beatAt = time.Now()
	return s.cfg.JS.Conn().Publish(stream.CacheBeatPrefix+s.id, data)
}

// tell publishes a state when it is not what was said last, or that was long ago.
func (s *Shared) tell(ctx context.Context, w wireState) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DoubtAfter/2)
	defer cancel()
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	w.Mark = min(w.Mark, 1) // that there is one; the beats tell which
	same, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if string(same) == s.told && time.Since(s.toldAt) < tellAgain*s.cfg.OrphanAfter {
		return nil
	}
	if _, err := s.cfg.JS.Publish(ctx, stream.CacheBehindPrefix+s.id, data, jetstream.WithMsgTTL(stream.CacheToldFor)); err != nil {
		return fmt.Errorf("tell what Redis is behind with: %w", err)
	}
	s.told, s.toldAt = string(same), time.Now()
	return nil
}

// takeOver removes the states of processes that have stopped, or are gone: at once when there is nothing to do, or
// once a walk that began later has refreshed what they were behind with.
func (s *Shared) takeOver(ctx context.Context) error {
	stale, now := s.cfg.Refresher.stale, time.Now()
	if stale.hasLost() {
		s.walk(now, true)
	}
	if _, all := stale.behindWith(0, s.cfg.Redis.Writable()); all || s.marked.Load() == 0 || !s.looked(now) {
		return nil // Redis does not even take what is known here
	}
	for id, o := range s.left(now) {
		lost := o.Keys > 0 && !o.reached // what it wrote is not in this Redis
		switch {
		case o.Ended && !o.isBehind() && o.reached, lost && s.cfg.Fresh:
			if o.Group != s.cfg.Group {
				continue // its mark may be all that tells others that they share its Redis
			}
		case lost && o.Group != s.cfg.Group:
			continue // it has a Redis of its own
		case !stale.lastWalk(lost).After(later(o.since, o.heard)):
			s.walk(now, lost)
			continue
		}
		if err := s.clear(ctx, id, o.seq); err != nil {
			return err
		}
	}
	return nil
}

// walk asks for a walk, but not too often.
func (s *Shared) walk(now time.Time, all bool) {
	if now.Sub(s.walkedAt) > walkAgain {
		s.walkedAt = now
		s.cfg.Walk(all)
	}
}

// clear says that there is nothing more to say of a process, unless it has said something since.
func (s *Shared) clear(ctx context.Context, id string, seq uint64) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DoubtAfter/2)
	defer cancel()
	_, err := s.cfg.JS.Publish(ctx, stream.CacheBehindPrefix+id, []byte("{}"),
		jetstream.WithExpectLastSequencePerSubject(seq), jetstream.WithMsgTTL(stream.CacheClearedFor))
	if err != nil && !stream.WrongLast(err) { // otherwise it is not gone
		return fmt.Errorf("take over what Redis is behind with: %w", err)
	}
	return nil
}

// left are the states of processes that have stopped or are gone.
func (s *Shared) left(now time.Time) map[string]state {
	s.mu.RLock()
	defer s.mu.RUnlock()
	left := make(map[string]state)
	for id, o := range s.others {
		if o.seq > 0 && (o.Ended || o.gone(now, s.cfg.OrphanAfter) && now.Sub(o.since) > s.cfg.OrphanAfter/3) { // after it was asked
			left[id] = *o
		}
	}
	return left
}

// takeStates reads what all other processes have said last.
func (s *Shared) takeStates(ctx context.Context, st jetstream.Stream) error {
	began := time.Now()
	info, err := st.Info(ctx, jetstream.WithSubjectFilter(stream.CacheBehind))
	if err != nil {
		return fmt.Errorf("list what Redis is behind with: %w", err)
	}
	states := make(map[string]*state)
	for subject := range info.State.Subjects {
		id := strings.TrimPrefix(subject, stream.CacheBehindPrefix)
		if id == s.id {
			continue
		}
		msg, err := st.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // it has expired
		}
		if err != nil {
			return fmt.Errorf("read what Redis is behind with: %w", err)
		}
		o := parseState(msg.Data)
		if o.empty() {
			continue
		}
		o.seq, o.since = msg.Sequence, time.Now()
		states[id] = o
	}
	s.mu.Lock()
	for id, o := range states {
		o.keep(s.others[id])
	}
	for id, o := range s.others {
		if o.seq == 0 && o.since.After(began) { // it was said meanwhile
			states[id] = o
		}
	}
	s.others = states
	s.mu.Unlock()
	return nil
}

// listen takes what another process has just said, before the stream is asked.
func (s *Shared) listen(m *nats.Msg) {
	if m.Subject == stream.CacheBeatNow {
		s.beatNow.Store(true)
		s.hurry(s.wake)
		return
	}
	if id, ok := strings.CutPrefix(m.Subject, stream.CacheBeatPrefix); ok {
		var b beat
		if json.Unmarshal(m.Data, &b) != nil {
			return
		}
		s.mu.Lock()
		if o := s.others[id]; o != nil {
			o.heard, o.Mark = time.Now(), max(o.Mark, b.Mark)
		}
		s.mu.Unlock()
		return
	}
	id, ok := strings.CutPrefix(m.Subject, stream.CacheBehindPrefix)
	if !ok || id == s.id {
		return
	}
	if o := parseState(m.Data); !o.empty() {
		o.since, o.heard = time.Now(), time.Now()
		s.mu.Lock()
		o.keep(s.others[id])
		s.others[id] = o // the stream is asked whether it is less
		s.mu.Unlock()
	}
	s.hurry(s.wake)
}
