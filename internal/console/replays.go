package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/transcript"
)

const (
	runningReplays = 2  // at one time
	keptReplays    = 50 // that are remembered, until this process ends
)

// errCancelled is the cause of a replay that somebody cancelled.
var errCancelled = errors.New("cancelled")

// replay is one that was started here.
type replay struct {
	ID      string     `json:"id"`
	Session string     `json:"session_id,omitempty"` // "" is all
	Since   *time.Time `json:"since,omitempty"`
	Rate    int        `json:"rate,omitempty"` // turns/s at most
	State   string     `json:"state"`          // "running", "done", "failed" or "cancelled"
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	Done    uint64     `json:"done"` // messages
	Total   uint64     `json:"total"`
	ETA     *float64   `json:"eta_seconds,omitempty"` // as fast as it went so far
	Turns   uint64     `json:"turns"`                 // merged
	Skipped uint64     `json:"skipped"`               // messages that are no turns
	Error   string     `json:"error,omitempty"`

	cancel context.CancelCauseFunc
}

// replays are those of this process.
type replays struct {
	cfg Config

	mu      sync.Mutex
	isOpen  bool // they can be started
	next    int
	list    []*replay
	ended   map[string]uint64 // how many, by the state in which they ended
	running sync.WaitGroup
}

// ReplayStats are about the replays that were started from a console.
type ReplayStats struct {
	Running     int
	Done, Total uint64 // messages of those that are running
	// Ended counts the others since the process began, by how they ended: "done",
	// "failed" or "cancelled".
	Ended map[string]uint64
}

// ReplayStats returns how far replays are.
func (c *Console) ReplayStats() ReplayStats { return c.replays.stats() }

func (rs *replays) stats() ReplayStats {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	s := ReplayStats{Ended: maps.Clone(rs.ended)}
	for _, r := range rs.list {
		if r.State == "running" {
			s.Running++
			s.Done, s.Total = s.Done+r.Done, s.Total+r.Total
		}
	}
	return s
}

func newReplays(cfg Config) *replays {
	return &replays{cfg: cfg, ended: map[string]uint64{"done": 0, "failed": 0, "cancelled": 0}}
}

// open lets replays be started.
func (rs *replays) open() {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.isOpen = true
}

// close cancels those that are running, and awaits them.
func (rs *replays) close() {
	rs.mu.Lock()
	rs.isOpen = false
	for _, r := range rs.list {
		r.cancel(errors.New("this process is shutting down"))
	}
	rs.mu.Unlock()
	rs.running.Wait()
}

// start begins a replay.
func (rs *replays) start(session string, since *time.Time, rate int) (replay, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	busy := 0
	for _, r := range rs.list {
		if r.State != "running" {
			continue
		}
		if busy++; r.Session == session {
			return replay{}, newProblem(http.StatusConflict, "This is being replayed already.")
		}
	}
	switch {
	case !rs.isOpen:
		return replay{}, newProblem(http.StatusServiceUnavailable, "This process is shutting down.")
	case busy >= runningReplays:
		return replay{}, newProblem(http.StatusConflict, fmt.Sprintf("%d replays are running, which is as many as may: wait for one, or cancel it.", busy))
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	rs.next++
	r := &replay{
		ID: strconv.Itoa(rs.next), Session: session, Since: since, Rate: rate,
		State: "running", Started: time.Now().UTC(), cancel: cancel,
	}
	rs.list = append(rs.list, r)
	if len(rs.list) > keptReplays { // the oldest that has ended
		i := slices.IndexFunc(rs.list, func(r *replay) bool { return r.State != "running" })
		rs.list = slices.Delete(rs.list, i, i+1)
	}
	rs.running.Go(func() {
		defer cancel(nil)
		rs.end(ctx, r, rs.run(ctx, r))
	})
	return *r, nil
}

func (rs *replays) run(ctx context.Context, r *replay) (err error) {
	store, done, err := rs.cfg.Writable()
	if err != nil {
		return err
	}
	defer func() {
		if cerr := done(context.WithoutCancel(ctx)); err == nil {
			err = cerr
		}
	}()
	cfg := consumer.ReplayConfig{
		JS: rs.cfg.JS, Store: store, Session: r.Session, Rate: r.Rate, Logger: rs.cfg.Logger,
		Progress: func(p consumer.Progress) {
			rs.mu.Lock()
			defer rs.mu.Unlock()
			r.Done, r.Total = max(r.Done, p.Done), p.Total
		},
	}
	if r.Since != nil {
		cfg.Since = *r.Since
	}
	res, err := consumer.Replay(ctx, cfg)
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.Turns, r.Skipped = res.Turns, res.Skipped
	return err
}

func (rs *replays) end(ctx context.Context, r *replay, err error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	now := time.Now().UTC()
	r.Ended = &now
	switch {
	case err == nil:
		r.State, r.Done = "done", r.Total
	case errors.Is(context.Cause(ctx), errCancelled):
		r.State = "cancelled"
	default:
		r.State, r.Error = "failed", err.Error()
	}
	rs.ended[r.State]++
	level := slog.LevelInfo
	if r.State == "failed" {
		level = slog.LevelWarn
	}
	session := ""
	if r.Session != "" {
		session = transcript.Token(r.Session)
	}
	attrs := []any{"replay", r.ID, "session", session, "state", r.State, "turns", r.Turns, "took", now.Sub(r.Started)}
	if r.Error != "" {
		attrs = append(attrs, "error", r.Error)
	}
	rs.cfg.Logger.Log(context.WithoutCancel(ctx), level, "replay ended that was started from the console", attrs...)
}

// all lists them, the newest first.
func (rs *replays) all() []replay {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	list := []replay{}
	for _, r := range slices.Backward(rs.list) {
		one := *r
		if took := time.Since(r.Started).Seconds(); r.State == "running" && r.Done > 0 && r.Total >= r.Done {
			one.ETA = value(took * float64(r.Total-r.Done) / float64(r.Done))
		}
		list = append(list, one)
	}
	return list
}

// stop cancels one. One that has ended stays as it is.
func (rs *replays) stop(id string) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, r := range rs.list {
		if r.ID == id {
			r.cancel(errCancelled)
			return nil
		}
	}
	return newProblem(http.StatusNotFound, "There is no such replay in this process.")
}

func (c *Console) listReplays(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string][]replay{"replays": c.replays.all()})
}

func (c *Console) startReplay(w http.ResponseWriter, r *http.Request) error {
	var what struct {
		Session string     `json:"session"`
		All     bool       `json:"all"`
		Since   *time.Time `json:"since"`
		Rate    int        `json:"rate"`
	}
	if err := readJSON(w, r, &what); err != nil {
		return err
	}
	switch {
	case c.cfg.Writable == nil:
		return newProblem(http.StatusNotImplemented, "There are no transcripts on this machine to replay into. Run `afterword replay` where they are.")
	case what.All == (what.Session != ""):
		return newProblem(http.StatusBadRequest, "Say which: session, or all.")
	case what.Rate < 0:
		return newProblem(http.StatusBadRequest, "rate is negative.")
	}
	if what.Session != "" {
		if err := transcript.CheckSessionID(what.Session); err != nil {
			return newProblem(http.StatusBadRequest, "session: "+err.Error())
		}
	}
	begun, err := c.replays.start(what.Session, what.Since, what.Rate)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusAccepted, begun)
}

func (c *Console) cancelReplay(w http.ResponseWriter, r *http.Request) error {
	if err := c.replays.stop(r.PathValue("id")); err != nil {
		return err
	}
	return c.listReplays(w, r)
}
