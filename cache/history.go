package cache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// Defaults of [HistoryConfig].
const (
	DefaultHistoryTimeout = 7 * time.Second
	DefaultFileTimeout    = 5 * time.Second
	DefaultStreamTimeout  = 5 * time.Second
	DefaultMaxReads       = 64
	DefaultMaxRepopulate  = 256
)

// Source says where a history was found.
type Source string

// The sources, in the order in which they are asked.
const (
	FromRedis  Source = "redis"
	FromFile   Source = "file"
	FromStream Source = "stream"
	FromNone   Source = "none"
)

var sources = [...]Source{FromRedis, FromFile, FromStream, FromNone}

// PendingTurns is what a publisher in this process has accepted and what may
// not be readable elsewhere yet.
type PendingTurns interface {
	// Pending returns the snapshots of a session, in any order.
	Pending(session string) []transcript.Snapshot
	// Settle says that every later Load will show this revision, or a newer one,
	// without help.
	Settle(session, id string, rev int)
}

// Trust says how far Redis can be believed about a session.
type Trust int

// Trusts.
const (
	// Trusted: as far as anybody knows, Redis is not behind.
	Trusted Trust = iota
	// Doubted: nobody knows now. Redis is read when the files do not have the
	// session, and the answer is degraded.
	Doubted
	// Refused: Redis could not be told of a change. It is not read.
	Refused
	// Silent: the same, because Redis did not answer. What is found elsewhere is
	// degraded, as when Redis does not answer this process.
	Silent
)

// HistoryConfig says where histories are. The zero value of every member means
// its default, or that there is no such source.
type HistoryConfig struct {
	Redis *Redis // nil means no cache
	File  Reader // the transcript store; nil on a machine without the files
	// Stream is the session's subject in the stream. If it has a method Newest, as the reader of package consumer
	// has, what Redis holds of a session that this process has not read before is compared with it.
	Stream Reader
	// Pending is overlaid on what was found.
	Pending PendingTurns
	// Trust says of a session how far Redis can be believed, as [Shared.Trust] does; it must
	// not block. Nil means that it always can: for a process that knows of no
	// other that writes to Redis.
	Trust func(session string) Trust
	// Observe is told the last timestamp of every history that was found in files or
	// in the stream. Redis moves no clock.
	Observe func(session string, at transcript.Instant)

	// Timeout bounds a Load over all sources; FileTimeout and StreamTimeout bound
	// theirs, even if the reader does not return.
	Timeout, FileTimeout, StreamTimeout time.Duration
	// MaxReads bounds the reads at work on files, and those on the stream.
	MaxReads int
	// MaxRepopulate bounds the sessions that wait to be written to Redis after a
	// miss. More are not written; their next miss is another chance.
	MaxRepopulate int
}

func (c HistoryConfig) withDefaults() HistoryConfig {
	c.Timeout = cmp.Or(c.Timeout, DefaultHistoryTimeout)
	c.FileTimeout = cmp.Or(c.FileTimeout, DefaultFileTimeout)
	c.StreamTimeout = cmp.Or(c.StreamTimeout, DefaultStreamTimeout)
	c.MaxReads = cmp.Or(c.MaxReads, DefaultMaxReads)
	c.MaxRepopulate = cmp.Or(c.MaxRepopulate, DefaultMaxRepopulate)
	if c.Observe == nil {
		c.Observe = func(string, transcript.Instant) {}
	}
	return c
}

func (c HistoryConfig) validate() error {
	if c.Timeout < 0 || c.FileTimeout < 0 || c.StreamTimeout < 0 {
		return errors.New("cache: Timeout, FileTimeout and StreamTimeout must not be negative")
	}
	if c.MaxReads < 1 || c.MaxRepopulate < 1 {
		return errors.New("cache: MaxReads and MaxRepopulate must be 1 or more")
	}
	return nil
}

// Result is the recent history of a session.
type Result struct {
	SessionID string
	// Source says where the history was found. Pending turns may be listed with
	// every source, [FromNone] included.
	Source Source
	// Degraded says that something that should have answered did not, or that no source was read
	// that must have all of these turns: files, or a stream that has removed nothing, or none that is as new. Turns may
	// be missing then, and with [FromNone] nobody knows whether there are any.
	Degraded bool
	// Revision is the sum of rev over the transcript where it was found; pending
	// turns are not in it.
	Revision int64
	Turns    []transcript.Snapshot // answered ones, from the first of them to the leaf; never nil
	// More says that there may be more turns before them.
	More bool
}

// History answers what was said last in a session.
type History struct {
	cfg          HistoryConfig
	file, stream *boundedReader // nil when there is none
	newest       newestReader   // the stream, if it tells the newest event of a session
	repopulate   *repopulation  // nil without Redis
	counters     historyCounters
}

// NewHistory makes a History. The caller closes it, before its Redis.
func NewHistory(cfg HistoryConfig) (*History, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	h := &History{cfg: cfg}
	if cfg.File != nil {
		h.file = newBoundedReader(cfg.File, cfg.FileTimeout, cfg.MaxReads)
	}
	if cfg.Stream != nil {
		h.stream = newBoundedReader(cfg.Stream, cfg.StreamTimeout, cfg.MaxReads)
		h.newest, _ = cfg.Stream.(newestReader)
	}
	if cfg.Redis != nil {
		h.repopulate = newRepopulation(cfg.Redis, cfg.MaxRepopulate)
	}
	return h, nil
}

// Load returns the last answered turns of a session, at most limit (0 means
// [DefaultLimit]), within Timeout. It asks Redis, then the file, then the stream,
// and takes the first that has the session; a limit over what Redis keeps, or an
// id that cannot be cached, leaves Redis out, which is no degradation.
//
// Turns that were accepted by this process and not found are overlaid, the
// newest revision of each winning, so a user's next question sees the last answer
// at once. Where such a turn supersedes or revises one that was found, fewer than
// limit may be listed.
//
// A history from a stream that has removed messages is degraded, unless the files were read too or all of its turns
// are dated more than [transcript.MaxAhead] after all that was removed: turns may be missing. It is not cached.
//
// Trouble is not an error: what does not answer is passed over, the result says
// so with Degraded, and nothing is cached on its account. When nobody who could
// know has answered, that is [FromNone] and degraded: no claim that the session is
// empty. An error means a bad session id or limit, that ctx was cancelled, or that other readers hold
// all memory ([transcript.ErrMemory]), where Redis does not have the session.
func (h *History) Load(ctx context.Context, session string, limit int) (Result, error) {
	if err := transcript.CheckSessionID(session); err != nil {
		return Result{}, err
	}
	if limit == 0 {
		limit = DefaultLimit
	}
	if limit < 0 {
		return Result{}, &transcript.RuleError{Member: "limit", Rule: "must not be negative"}
	}
	inner, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()

	// Pending turns first: one that is settled while we read is in what we read.
	var pending []transcript.Snapshot
	if h.cfg.Pending != nil {
		pending = h.cfg.Pending.Pending(session)
	}
	f := h.find(inner, session, limit)
	if errors.Is(ctx.Err(), context.Canceled) {
		return Result{}, fmt.Errorf("load history: %w", context.Cause(ctx))
	}
	if f.full != nil && f.source == FromNone {
		return Result{}, fmt.Errorf("load history: %w", f.full)
	}
	if f.source == FromFile || f.source == FromStream {
		if h.cfg.Redis != nil && !f.recent.Partial {
			h.cfg.Redis.know(session, f.recent.Version)
		}
		if at := f.recent.Version.LastTimestamp; at > 0 {
			h.cfg.Observe(session, at)
		}
	}
	if f.repopulate {
		h.repopulate.add(Entry{session, f.recent})
	}
	turns, shown, more, known := overlay(f.recent, pending, limit)
	if !known && f.source != FromNone {
		switch path, err := h.path(inner, session, transcript.PathQuery{Limit: limit, With: pending}); {
		case err == nil:
			turns, more = path.Turns, path.More
			f.degraded = f.degraded || path.Degraded
		default: // what is shown may be cut short
			f.degraded = true
		}
	}
	if f.lasting {
		for _, s := range shown {
			h.cfg.Pending.Settle(session, s.ID, s.Rev)
		}
	}
	h.counters.add(f.source, f.degraded)
	return Result{session, f.source, f.degraded, f.recent.Version.Revision, turns, more}, nil
}

// Path returns a part of a path through a session, with the turns that were accepted by this process.
// It asks the file, then the stream. It is [transcript.ErrNoTurn] when a source that must have all
// turns does not have the leaf; every other error means that the answer is not known.
func (h *History) Path(ctx context.Context, session string, q transcript.PathQuery) (Result, error) {
	if err := transcript.CheckSessionID(session); err != nil {
		return Result{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Timeout)
	defer cancel()
	if h.cfg.Pending != nil {
		q.With = h.cfg.Pending.Pending(session)
	}
	return h.path(ctx, session, q)
}

// path reads a path from the first source that has it. A file may be behind the stream.
func (h *History) path(ctx context.Context, session string, q transcript.PathQuery) (Result, error) {
	found, asked := error(transcript.ErrNoTurn), false
	var short Result // from files that lack turns
	for _, s := range [...]struct {
		reader *boundedReader
		source Source
	}{{h.file, FromFile}, {h.stream, FromStream}} {
		if s.reader == nil {
			continue
		}
		path, err := s.reader.Path(ctx, session, q)
		switch {
		case err == nil && path.Short() && short.Source != "": // what is written has been in the stream
		case err == nil:
			r := Result{SessionID: session, Source: s.source, Degraded: path.Short(), Revision: path.Version.Revision, Turns: path.Turns, More: path.More}
			if !r.Degraded || s.source == FromStream {
				return r, nil
			}
			short = r
		case errors.Is(err, transcript.ErrNoTranscripts):
		case errors.Is(err, transcript.ErrPartial) && s.source == FromFile: // the stream says whether it had all
		case errors.Is(err, transcript.ErrNoSession), errors.Is(err, transcript.ErrNoTurn):
			asked = true
		case errors.Is(err, transcript.ErrMemory) && short.Source == "": // no other source takes less
			return Result{}, err
		case errors.Is(err, transcript.ErrPartial) && asked: // the files do not have it, and what is not written yet the stream still has
		default:
			found = err
		}
	}
	switch {
	case short.Source != "":
		return short, nil
	case found == transcript.ErrNoTurn && !asked:
		return Result{}, transcript.ErrNoTranscripts
	}
	if found == transcript.ErrNoTurn && len(q.With) > 0 { // nothing of it is stored yet
		doc, err := transcript.MergeAll(session, q.With...)
		if err != nil {
			return Result{}, err
		}
		q.With = nil
		path, err := doc.Path(q)
		return Result{SessionID: session, Source: FromNone, Turns: path.Turns, More: path.More}, err
	}
	return Result{}, found
}

// Close waits for what is being written to Redis, or for ctx.
func (h *History) Close(ctx context.Context) error {
	if h.repopulate == nil {
		return nil
	}
	return h.repopulate.close(ctx)
}

// found is a history as a source has it.
type found struct {
	recent     transcript.Recent
	source     Source
	degraded   bool
	repopulate bool // Redis should hold recent, and nothing was in trouble on the way to it
	// lasting says that the next Load finds at least this. While Redis may hold
	// the session only Redis itself proves it, since it is asked first and may be
	// behind the file; and the file may be behind the stream.
	lasting bool
	full    error // for want of memory no other source was asked
}

func (h *History) find(ctx context.Context, session string, limit int) found {
	f := found{source: FromNone}
	want := limit
	missed, cacheable := false, h.cfg.Redis != nil && Cacheable(session)
	ask := cacheable && limit <= h.cfg.Redis.Limit()
	trust := Trusted
	if ask {
		trust = h.trust(session)
		want = h.cfg.Redis.Limit() // what goes into Redis is whole
	}
	if ask && trust == Trusted {
		rec, known, hit, err := h.cfg.Redis.recent(ctx, session)
		switch {
		case hit && h.trust(session) == Trusted: // as it was before: a new connection may be to another server
			cached := found{recent: rec, source: FromRedis, degraded: rec.Partial, lasting: true}
			proven, err := h.proven(ctx, session, &rec, known)
			if proven {
				h.cfg.Redis.know(session, rec.Version)
				return cached
			}
			h.cfg.Redis.counters.add(OpRead, Unproven)
			if err != nil {
				trust = Doubted // and the stream would not answer either
			}
			f = h.elsewhere(ctx, session, want, trust, cacheable, missed, f)
			switch {
			case f.source == FromNone: // better than nothing
				cached.degraded = true
				return cached
			case f.degraded && f.source != FromRedis && showsAll(&rec, f.recent.Turns): // and has turns that are missing there
				return cached
			}
			return f
		case hit:
			trust = Refused
			h.cfg.Redis.counters.add(OpRead, Behind)
		case err == nil, errors.Is(err, ErrForged), errors.Is(err, ErrOlder):
			missed = true
		case errors.Is(err, ErrCorrupt):
			f.degraded, missed = true, true
		default:
			f.degraded = true
		}
	} else if ask {
		h.cfg.Redis.counters.add(OpRead, Behind)
		f.degraded = trust == Silent
	}
	return h.elsewhere(ctx, session, want, trust, cacheable, missed, f)
}

// elsewhere goes on after Redis: f is what is known up to there. missed says that Redis does not have the session, or not
// as it should.
func (h *History) elsewhere(ctx context.Context, session string, want int, trust Trust, cacheable, missed bool, f found) found {
	fallbacks := [...]struct {
		reader *boundedReader
		source Source
	}{{h.file, FromFile}, {h.stream, FromStream}}
	asked, late := false, false
	read := false                    // files that have all turns, which do not have the session: what is not written yet, the stream still has
	short := found{source: FromNone} // what files have that lack turns
	unknown := false                 // files that lack turns do not have the session, and no other source has said that there is none
	for _, b := range fallbacks {
		if trust == Doubted && b.source == FromStream { // it is NATS that says nothing
			rec, _, hit, err := h.cfg.Redis.recent(ctx, session)
			if hit {
				return found{recent: rec, source: FromRedis, degraded: true}
			}
			f.degraded = f.degraded || err != nil
		}
		if b.reader == nil {
			continue
		}
		rec, err := b.reader.Path(ctx, session, transcript.PathQuery{Limit: want})
		asked = asked || !errors.Is(err, transcript.ErrNoTranscripts)
		switch {
		case errors.Is(err, transcript.ErrNoTranscripts):
			continue
		case errors.Is(err, transcript.ErrPartial):
			unknown = !read
			continue
		case errors.Is(err, transcript.ErrNoSession):
			read, unknown = read || b.source == FromFile, false
			continue
		case errors.Is(err, transcript.ErrMemory): // no other source takes less
			if short.source == FromFile {
				return short
			}
			f.degraded, f.full = true, err
			return f
		case err != nil:
			f.degraded, late = true, true
			continue
		case rec.Short() && b.source == FromFile:
			short = found{recent: rec, source: FromFile, degraded: true}
			continue
		case rec.Short() && short.source == FromFile:
			continue // what is written has been in the stream
		}
		f.recent, f.source = rec, b.source
		f.lasting = !cacheable && (b.source == FromFile || h.file == nil)
		whole := !rec.Partial || read
		f.degraded = f.degraded || !whole && !rec.Known
		f.repopulate = missed && !late && whole
		return f
	}
	if short.source == FromFile {
		return short
	}
	if unknown || !asked || !read && (trust == Refused || trust == Silent) {
		f.degraded = true // a cache that misses knows nothing, and one that is behind may have the session
	}
	return f
}

// trust is how far Redis can be believed about a session.
func (h *History) trust(session string) Trust {
	t := Trusted
	if h.cfg.Trust != nil {
		t = h.cfg.Trust(session)
	}
	if t == Trusted && h.cfg.Redis.replica() {
		t = Doubted
	}
	return t
}
