package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/internal/stream"
)

// Trust says how far Redis can be believed about a session. It asks nobody.
func (s *Shared) Trust(session string) Trust {
	trust := Trusted
	if s.cfg.Refresher != nil {
		trust = s.cfg.Refresher.trust(session)
	}
	now := time.Now()
	s.mu.RLock()
	distrusted := s.distrustedLocked(now) != nil
	for _, o := range s.others {
		switch {
		case !o.reached || !o.behind(session): // a Redis of its own is no concern
		case o.Silent:
			trust = Silent
		case trust == Trusted:
			trust = Refused
		}
	}
	s.mu.RUnlock()
	switch {
	case trust != Trusted:
		return trust
	case !s.heardOfNATS():
		return Doubted
	case distrusted && s.cfg.Redis.Up(): // otherwise it is not read anyway, which is degraded
		return Refused
	}
	return Trusted
}

// heardOfNATS reports whether the stream was read lately.
func (s *Shared) heardOfNATS() bool {
	at := s.answered.Load()
	return at != 0 && time.Since(s.start)-time.Duration(at) <= s.cfg.DoubtAfter
}

// looked reports whether it is known which marks are in Redis.
func (s *Shared) looked(now time.Time) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.lookedLocked(now)
}

func (s *Shared) lookedLocked(now time.Time) bool {
	return len(s.others) == 0 || now.Sub(s.lookedAt) <= s.cfg.DoubtAfter
}

// distrusted is why no session is read from Redis though it answers; nil when that is not so.
func (s *Shared) distrusted(now time.Time) *TroubleError {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.distrustedLocked(now)
}

func (s *Shared) distrustedLocked(now time.Time) *TroubleError {
	if !s.lookedLocked(now) {
		return &TroubleError{What: notTrusted, Why: "it was not looked yet whether it has what consumers wrote", Do: "wait a few seconds"}
	}
	running := s.cfg.Refresher != nil // a consumer that has not stopped; those that have write nothing any more
	for _, o := range s.others {
		if o.Keys > 0 && o.reached && o.gone(now, s.cfg.OrphanAfter) {
			return &TroubleError{
				What: notTrusted, Why: fmt.Sprintf("a consumer of the group %q is gone without a word, and what it may have left was not refreshed yet", o.Group),
				Do: "start it again, or another one of the group; if it runs, let NATS users publish and subscribe to afterword.cache.>",
			}
		}
		running = running || o.Keys > 0 && !o.Ended
	}
	covered := s.cfg.Refresher != nil && s.coversLocked(s.cfg.Group)
	var missing *state
	for _, o := range s.others {
		switch {
		case o.Keys == 0: // of an older version, which has no marks
		case !o.reached:
			missing = o
		case !covered && (!o.Ended || !running):
			covered = s.coversLocked(o.Group)
		}
	}
	if covered || missing == nil {
		return nil
	}
	if missing.foreign {
		return &TroubleError{
			What: notTrusted,
			Why:  fmt.Sprintf("what a consumer of the group %q wrote to it is signed with another key", missing.Group),
			Do:   "give all processes the same --cache-key-file, or none of them one; or see who else writes to Redis",
		}
	}
	return &TroubleError{
		What: notTrusted,
		Why:  fmt.Sprintf("%s does not have what a consumer of the group %q wrote to %s", s.cfg.Redis, missing.Group, missing.Redis),
		Do:   "give all processes the same --redis-url; if it is the same, Redis lost what it had, or is a replica that is behind, and consumers write it anew",
	}
}

// coversLocked reports whether all consumers of a group write to the Redis of this process.
func (s *Shared) coversLocked(group string) bool {
	for _, o := range s.others {
		if o.Keys > 0 && !o.reached && o.Group == group {
			return false
		}
	}
	return true
}

const notTrusted = "Redis is not trusted"

// Check returns nil, or a [*TroubleError] while histories do not come from Redis though it answers.
func (s *Shared) Check(context.Context) error {
	s.mu.RLock()
	err := s.failed
	s.mu.RUnlock()
	if !s.heardOfNATS() {
		if err == nil {
			err = errors.New("NATS has not answered yet")
		}
		return &TroubleError{
			What: notTrusted, Why: reason(err), err: err,
			Do: "start NATS and the consumers, and let this NATS user publish and subscribe to " + stream.CachePrefix + ">, and use the stream " + stream.Cache,
		}
	}
	if s.hasLost() {
		return &TroubleError{What: notTrusted, Why: "it has lost what was written to it, and is written anew", Do: "look at the log of Redis if that was not on purpose"}
	}
	if t := s.distrusted(time.Now()); t != nil {
		return t
	}
	return nil
}

// CheckShared is [Shared.Check] for a process that looks once. It changes nothing, and without a stream
// of what processes share it finds nothing wrong.
func CheckShared(ctx context.Context, cfg SharedConfig) error {
	st, err := cfg.JS.Stream(ctx, stream.Cache)
	if err != nil {
		return nil
	}
	if !cfg.Redis.hasKey() {
		msg, err := st.GetLastMsgForSubject(ctx, stream.CacheKey)
		if err != nil {
			return nil // nobody has used Redis yet
		}
		cfg.Redis.SetKey(msg.Data)
	}
	s, err := NewShared(cfg)
	if err != nil {
		return err
	}
	defer s.Close(ctx)
	late := time.NewTimer(s.cfg.Wait)
	defer late.Stop()
	tick := time.NewTicker(sharedRest)
	defer tick.Stop()
	for {
		if s.heardOfNATS() && s.Check(ctx) == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-late.C:
			return s.Check(ctx)
		case <-ctx.Done():
			return s.Check(ctx)
		}
	}
}

// report logs that Redis is not trusted, once. That NATS is not there is said elsewhere, and
// streams that do not exist yet are made.
func (s *Shared) report(err error) {
	s.mu.Lock()
	s.failed = err
	s.mu.Unlock()
	now := time.Now()
	var t *TroubleError
	switch {
	case err == nil || !s.cfg.JS.Conn().IsConnected() || errors.Is(err, stream.ErrUnreachable) || errors.Is(err, stream.ErrNoStream):
		if s.heardOfNATS() && s.cfg.Redis.Up() {
			errors.As(s.Check(context.Background()), &t)
		}
	default:
		t = &TroubleError{What: "what processes share about Redis cannot be read or told", Why: reason(err), Do: "let this NATS user publish and subscribe to " + stream.CachePrefix + ">, and use the stream " + stream.Cache}
		s.troubleFrom = s.start // at once
	}
	switch {
	case t == nil:
		if s.noted != "" {
			s.cfg.Logger.Info("Redis is trusted again", "after", now.Sub(s.troubleFrom).Round(time.Millisecond))
		}
		s.noted, s.troubleFrom = "", time.Time{}
	case s.troubleFrom.IsZero():
		s.troubleFrom = now
	}
	if t != nil && s.noted == "" && (s.hasLost() || now.Sub(s.troubleFrom) >= s.cfg.OrphanAfter) { // it passes while processes start and stop
		s.noted = t.What
		s.cfg.Logger.Warn(t.What+", so histories come from elsewhere", "error", t.Why, "do", t.Do)
	}
}

// hasLost reports whether Redis has lost what this process wrote.
func (s *Shared) hasLost() bool { return s.cfg.Refresher != nil && s.cfg.Refresher.stale.hasLost() }

// watch writes the mark of this process to Redis, and looks for those of others.
func (s *Shared) watch(ctx context.Context) {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		if s.answered.Load() != 0 {
			s.findMarks(ctx, nil)
			s.writeMark(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.look:
		}
	}
}

// connected looks for the marks through a new connection before that is used: there may be another
// server at its end, or one that was restored.
func (s *Shared) connected(ctx context.Context, c redis.Cmdable) { s.findMarks(ctx, c) }

// findMarks looks for the marks of others in Redis: through one connection, or with nil through all.
func (s *Shared) findMarks(ctx context.Context, c redis.Cmdable) {
	s.mu.RLock()
	var ids []string
	var wanted []mark
	for id, o := range s.others {
		if o.Keys > 0 && o.want > 0 {
			ids, wanted = append(ids, id), append(wanted, mark{id, o.Keys, o.want})
		}
	}
	marks := make(map[string]int64, len(s.others)) // that were said before Redis is asked
	for id, o := range s.others {
		marks[id] = o.Mark
	}
	s.mu.RUnlock()
	var found []presence
	var err error
	switch {
	case len(wanted) == 0:
	case c == nil:
		found, err = s.cfg.Redis.readMarks(ctx, wanted)
	default:
		found, err = s.cfg.Redis.findMarks(ctx, c, wanted)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		if c != nil {
			s.lookedAt = time.Time{} // nobody knows what is at the end of it
		}
		return
	}
	for i, id := range ids {
		if o := s.others[id]; o != nil && o.want == wanted[i].n {
			o.reached, o.foreign = found[i] == there, found[i] == foreign
		}
	}
	if c != nil {
		return
	}
	s.lookedAt = time.Now()
	for id, n := range marks { // the next time: a Redis may take a moment to have it
		if o := s.others[id]; o != nil {
			o.want = max(o.want, n)
		}
	}
	s.hurry(s.wake)
}

// writeMark writes the next mark of this process. When Redis does not have the one before, it has lost what was
// written to it; and sessions that were refreshed since may be lost when the connection was.
func (s *Shared) writeMark(ctx context.Context) {
	f, r := s.cfg.Refresher, s.cfg.Redis
	if f == nil || !r.Writable() || time.Since(s.markedAt) < s.cfg.OrphanAfter/3 && r.connections.Load() == s.connections {
		return
	}
	unmarked, tooMany := f.stale.takeUnmarked()
	m := mark{s.id, r.markKeys(), s.marked.Load() + 1}
	lost, err := r.writeMark(ctx, m, s.lastMark)
	if lost {
		s.lastMark = 0
		f.stale.lose()
		if lost, err = r.writeMark(ctx, m, 0); lost {
			err = errors.New("a mark was not written")
		}
		unmarked, tooMany = nil, false
	}
	connections := r.connections.Load()
	if err != nil || connections != s.connections {
		f.Changed(unmarked...)
		if tooMany {
			f.stale.lose()
		}
	}
	s.connections = connections
	if err != nil {
		return
	}
	s.markedAt, s.lastMark = time.Now(), m.n
	s.marked.Store(m.n)
	s.beatNow.Store(true)
	s.hurry(s.wake)
}
