package consumer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/afterword-io/afterword/internal/plural"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go/jetstream"
)

// DefaultSettle is how long [Verify] lets turns that are still on their way
// arrive before it calls them missing.
const DefaultSettle = 15 * time.Second

// CacheReader reads what the cache holds; a timeout is an error, not a miss.
type CacheReader interface {
	Recent(ctx context.Context, session string) (rec transcript.Recent, hit bool, err error)
}

// VerifyConfig says what to compare. JS, Store and Scratch are asked for.
type VerifyConfig struct {
	JS    jetstream.JetStream
	Store *transcript.Store // may be open for reading only
	// Cache is compared too when it is set; a session that is not in it is fine.
	Cache CacheReader
	// Scratch is a folder in which the stream is replayed for the comparison; what
	// is made in it is removed. It takes as much disk as the transcripts.
	Scratch string
	// Session is the one to verify; "" means all.
	Session string
	// Since compares only what was stored then or later, Rate bounds the turns read per
	// second; zero means all, and no bound.
	Since time.Time
	Rate  int
	// Settle bounds the wait for turns that are on their way; zero means
	// [DefaultSettle], negative means none.
	Settle time.Duration
	// Repair mends what differs: damaged files are set aside and rebuilt, what is
	// missing or out of date is merged from the stream, and the cache refreshed.
	// Store is then open for writing. It works beside running consumers.
	Repair bool
	// RefreshCache makes the cache hold what is true of a session now, or nothing.
	// Repair needs it when there is a Cache.
	RefreshCache func(ctx context.Context, session string) error
	// Difference is told of every session that differs.
	Difference func(Difference)
	Progress   func(Progress)
	// Request bounds each request to the server; zero means what JS was made with.
	Request time.Duration
	Logger  *slog.Logger
}

// Difference is what is wrong with one session.
type Difference struct {
	Session string  `json:"session_id"`
	Missing int     `json:"missing,omitempty"` // turns that the stream has and the transcript has not
	Stale   int     `json:"stale,omitempty"`   // turns whose newer snapshot is in the stream
	Cache   string  `json:"cache,omitempty"`   // how the cache differs from the transcript
	Error   string  `json:"error,omitempty"`   // why the transcript cannot be read
	Mended  *Mended `json:"repair,omitempty"`  // what was done about it
}

// VerifyResult sums a verification up.
type VerifyResult struct {
	Sessions  int `json:"sessions"`           // compared
	Turns     int `json:"turns"`              // in their transcripts
	Differing int `json:"differing"`          // sessions with a Difference
	Missing   int `json:"missing"`            // turns
	Stale     int `json:"stale"`              // turns
	FileOnly  int `json:"file_only"`          // turns that the stream does not have: trimmed from it, or adopted
	Cached    int `json:"cached"`             // sessions found in the cache
	Repaired  int `json:"repaired,omitempty"` // differing sessions that do not differ any more
	Lost      int `json:"lost,omitempty"`     // sessions of whose damaged files something is lost

	// BrokenPaths counts the turns at which a path through a conversation ends, because a parent is
	// missing or the path comes back to itself, and Broken has the first of them. They were published so: they
	// are no difference, and no repair changes them.
	BrokenPaths int                 `json:"broken_paths,omitempty"`
	Broken      []transcript.Broken `json:"broken,omitempty"`
}

// brokenShown bounds how many turns are named.
const brokenShown = 20

// Right reports whether nothing differs any more and nothing is lost.
func (r *VerifyResult) Right() bool { return r.Differing == r.Repaired && r.Lost == 0 }

// Verify compares the stream with transcripts, and transcripts with the cache.
// Its memory does not depend on the stream's size: the stream is replayed into
// a scratch folder, and sessions are compared one by one.
func Verify(ctx context.Context, cfg VerifyConfig) (res VerifyResult, err error) {
	cfg.Settle = cmp.Or(cfg.Settle, DefaultSettle)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := os.MkdirTemp(cfg.Scratch, "verify-")
	if err != nil {
		return res, fmt.Errorf("make a scratch folder: %w", err)
	}
	defer func() {
		if rerr := os.RemoveAll(dir); err == nil && rerr != nil {
			err = fmt.Errorf("remove the scratch folder: %w", rerr)
		}
	}()
	scratch, err := transcript.Open(transcript.Config{Dir: filepath.Join(dir, "transcripts"), Logger: cfg.Logger})
	if err != nil {
		return res, err
	}
	defer scratch.Close(ctx)
	started := time.Now()
	if _, err := Replay(ctx, ReplayConfig{JS: cfg.JS, Store: scratch, Session: cfg.Session, Since: cfg.Since, Rate: cfg.Rate, Progress: cfg.Progress, Request: cfg.Request, Logger: cfg.Logger}); err != nil {
		return res, err
	}
	v := &verifier{cfg: cfg, stream: scratch, res: &res, settled: started.Add(cfg.Settle)}
	if cfg.Session != "" {
		return res, v.session(ctx, cfg.Session)
	}
	if err := each(ctx, scratch, v.session); err != nil {
		return res, err
	}
	return res, v.others(ctx)
}

// each calls fn with every session of a store.
func each(ctx context.Context, store *transcript.Store, fn func(ctx context.Context, session string) error) error {
	for cursor := ""; ; {
		page, err := store.List(ctx, "", cursor, 1000)
		if err != nil {
			return err
		}
		for _, s := range page.Sessions {
			if err := fn(ctx, s.ID); err != nil {
				return err
			}
		}
		if cursor = page.Next; cursor == "" {
			return nil
		}
	}
}

type verifier struct {
	cfg     VerifyConfig
	stream  *transcript.Store // what the stream makes
	res     *VerifyResult
	settled time.Time // from when on everything has had the time to arrive
}

// session compares one session that the stream has.
func (v *verifier) session(ctx context.Context, session string) error {
	want, err := v.stream.Read(ctx, session)
	if errors.Is(err, transcript.ErrNoSession) {
		return v.fileOnly(ctx, session) // asked for by name
	}
	if err != nil {
		return err
	}
	found, err := v.compare(ctx, session, want)
	if err == nil && found.diff() && time.Now().Before(v.settled) {
		if !sleep(ctx, time.Until(v.settled)) {
			return context.Cause(ctx)
		}
		found, err = v.compare(ctx, session, want)
	}
	if err != nil {
		return err
	}
	v.res.Missing += found.Missing
	v.res.Stale += found.Stale
	return v.note(ctx, found, want)
}

// note counts a finding, and mends it if it is to be mended.
func (v *verifier) note(ctx context.Context, found finding, want *transcript.Document) error {
	if found.diff() {
		v.res.Differing++
		if v.cfg.Repair {
			if err := v.mend(ctx, &found, want); err != nil {
				return err
			}
		}
		if v.cfg.Difference != nil {
			v.cfg.Difference(found.Difference)
		}
	}
	v.res.Sessions++
	v.res.Turns += found.turns
	v.res.FileOnly += found.fileOnly
	v.res.BrokenPaths += found.brokenPaths
	v.res.Broken = append(v.res.Broken, found.broken[:min(len(found.broken), brokenShown-len(v.res.Broken))]...)
	if found.cached {
		v.res.Cached++
	}
	return nil
}

// finding is what one comparison found.
type finding struct {
	Difference
	turns, fileOnly int
	cached          bool
	damaged         bool // a file is corrupt
	brokenPaths     int
	broken          []transcript.Broken // the first of them
}

// holds notes what a transcript has.
func (f *finding) holds(have *transcript.Document) (err error) {
	f.turns = have.Len()
	f.brokenPaths, f.broken, err = have.Broken(brokenShown)
	return err
}

func (f *finding) diff() bool { return f.Missing+f.Stale > 0 || f.Cache != "" || f.Error != "" }

func (v *verifier) compare(ctx context.Context, session string, want *transcript.Document) (finding, error) {
	f := finding{Difference: Difference{Session: session}}
	have, err := v.cfg.Store.Read(ctx, session)
	switch {
	case errors.Is(err, transcript.ErrNoSession):
		f.Missing = want.Len()
		return f, nil
	case err != nil && ctx.Err() != nil:
		return f, context.Cause(ctx)
	case err != nil:
		f.unreadable(err)
		return f, nil
	}
	if err := errors.Join(f.holds(have), v.turns(&f, have, want)); err != nil {
		return f, fmt.Errorf("session %s: %w", transcript.Token(session), err)
	}
	return f, v.cache(ctx, &f, have)
}

func (v *verifier) turns(f *finding, have, want *transcript.Document) error {
	a, err := have.Bytes()
	if err != nil {
		return err
	}
	b, err := want.Bytes()
	if err != nil || bytes.Equal(a, b) {
		return err
	}
	turns, err := want.Turns()
	if err != nil {
		return err
	}
	held, err := have.Turns()
	if err != nil {
		return err
	}
	byID := make(map[string]*transcript.Snapshot, len(held))
	for i := range held {
		byID[held[i].ID] = &held[i]
	}
	for i := range turns {
		switch h := byID[turns[i].ID]; {
		case h == nil:
			f.Missing++
		case turns[i].Beats(h):
			f.Stale++
		}
	}
	f.fileOnly = len(held) + f.Missing - len(turns)
	return nil
}

// cache compares a hit with the transcript. An older state is a difference only
// once the refresh has had its time.
func (v *verifier) cache(ctx context.Context, f *finding, have *transcript.Document) error {
	if v.cfg.Cache == nil {
		return nil
	}
	rec, hit, err := v.cfg.Cache.Recent(ctx, f.Session)
	if err != nil {
		f.Cache = "not readable: " + err.Error()
		return nil
	}
	if f.cached = hit; !hit {
		return nil
	}
	want, err := have.Recent(max(len(rec.Turns), 1))
	if err != nil {
		return err
	}
	switch {
	case rec.Version.Compare(want.Version) < 0:
		f.Cache = "older than the transcript"
	case rec.Version.Compare(want.Version) > 0:
		f.Cache = "newer than the transcript"
	case len(rec.Turns) != len(want.Turns):
		f.Cache = fmt.Sprintf("holds %s", plural.Of(len(rec.Turns), "turn"))
	default:
		for i := range want.Turns {
			if !bytes.Equal(rec.Turns[i].Payload(), want.Turns[i].Payload()) {
				f.Cache = "holds other turns"
			}
		}
	}
	return nil
}

// fileOnly counts a session that the stream does not have any more, or never had.
func (v *verifier) fileOnly(ctx context.Context, session string) error {
	if _, err := v.stream.Read(ctx, session); !errors.Is(err, transcript.ErrNoSession) {
		return err // compared already
	}
	f := finding{Difference: Difference{Session: session}}
	have, err := v.cfg.Store.Read(ctx, session)
	if errors.Is(err, transcript.ErrNoSession) {
		if v.cfg.Session != "" {
			return fmt.Errorf("session %s: %w, neither in the stream nor in %s", transcript.Token(session), transcript.ErrNoSession, v.cfg.Store.Dir())
		}
		return nil
	}
	if err != nil {
		f.unreadable(err)
	} else {
		f.fileOnly = have.Len()
		if err := errors.Join(f.holds(have), v.cache(ctx, &f, have)); err != nil {
			return err
		}
	}
	return v.note(ctx, f, transcript.NewDocument(session))
}

// unreadable notes why a transcript cannot be read.
func (f *finding) unreadable(err error) {
	var bad *transcript.CorruptError
	f.Error, f.damaged = err.Error(), errors.As(err, &bad)
}

// others looks at every session that the folder has and the stream has not,
// those included whose files cannot be read.
func (v *verifier) others(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	failed := func(err error) {
		if err != nil {
			stop(err)
		}
	}
	err := v.cfg.Store.Walk(ctx, transcript.WalkConfig{
		Stale:   math.MaxInt64, // folding is up to consumers
		Changed: func(session string) { failed(v.fileOnly(ctx, session)) },
		Fault:   func(token string, err error) { failed(v.nameless(ctx, token, err)) },
	})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
