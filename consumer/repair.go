package consumer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/cenkalti/backoff/v4"
)

const (
	repairWorkers = 2           // sessions repaired at one time
	repairQueue   = 4096        // damaged sessions that are remembered; others are met again
	repairBound   = time.Minute // of one session: reading its events, writing its files
	repairNames   = 20          // turns named in one line of the log
)

// repairs are the sessions with damaged files, each once.
type repairs struct {
	longest time.Duration // between two attempts
	wake    chan struct{}

	mu   sync.Mutex
	jobs map[string]*repairJob // by token
}

type repairJob struct {
	token   string
	session string // "" when the files do not tell
	due     time.Time
	wait    *backoff.ExponentialBackOff
	taken   bool
}

func newRepairs(longest time.Duration) repairs {
	return repairs{longest: longest, wake: make(chan struct{}, 1), jobs: make(map[string]*repairJob)}
}

// add notes a damaged session; it reports whether it is news.
func (r *repairs) add(token, session string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.jobs[token] != nil || len(r.jobs) >= repairQueue {
		return false
	}
	r.jobs[token] = &repairJob{token: token, session: session, wait: newBackoff(r.longest)}
	r.signal()
	return true
}

func (r *repairs) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take gives out a session that is due; without any, wait says how long until
// the first one is.
func (r *repairs) take(now time.Time) (j *repairJob, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait = time.Hour
	for _, other := range r.jobs {
		if other.taken {
			continue
		}
		if d := other.due.Sub(now); d > 0 {
			wait = min(wait, d)
		} else if j == nil {
			j = other
		} else {
			r.signal() // for another worker
		}
	}
	if j != nil {
		j.taken = true
	}
	return j, wait
}

// settle forgets a session, or has it tried again.
func (r *repairs) settle(j *repairJob, again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !again {
		delete(r.jobs, j.token)
		return
	}
	j.taken, j.due = false, time.Now().Add(j.wait.NextBackOff())
	r.signal()
}

// damaged has a session repaired whose files an operation has found damaged.
func (c *Consumer) damaged(token, session string) {
	if c.repairs.add(token, session) {
		c.cfg.Logger.Warn("a file of a session is damaged; it is going to be set aside and rebuilt", "session", token)
	}
}

// startRepairs begins to repair what the store finds damaged, until stop is called.
func (c *Consumer) startRepairs(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	for range repairWorkers {
		workers.Go(func() { c.repairLoop(ctx) })
	}
	c.cfg.Store.OnCorrupt(func(session string) { c.damaged(transcript.Token(session), session) })
	return func() {
		c.cfg.Store.OnCorrupt(func(string) {})
		cancel()
		workers.Wait()
	}
}

func (c *Consumer) repairLoop(ctx context.Context) {
	reader := NewStreamReader(c.cfg.JS, c.cfg.Request)
	for ctx.Err() == nil {
		j, wait := c.repairs.take(time.Now())
		if j != nil {
			c.repairs.settle(j, c.repair(ctx, reader, j))
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-c.repairs.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// repair mends one session. It reports whether it has to be tried again: nothing
// is set aside before the stream has answered.
func (c *Consumer) repair(ctx context.Context, reader *StreamReader, j *repairJob) (again bool) {
	ctx, cancel := context.WithTimeout(ctx, repairBound)
	defer cancel()
	events, err := reader.events(ctx, j.token)
	if err == nil && j.session == "" {
		if len(events.Turns) == 0 {
			c.stats.lostLines.Add(1)
			c.cfg.Logger.Error("a damaged file does not tell its session, and the stream holds nothing of it; it is left as it is", "session", j.token)
			return false
		}
		j.session = events.Turns[0].SessionID
	}
	var res transcript.Repaired
	if err == nil {
		res, err = c.cfg.Store.Repair(ctx, j.session, events)
	}
	var bad *transcript.CorruptError
	switch {
	case err == nil:
	case context.Cause(ctx) != nil && errors.Is(context.Cause(ctx), context.Canceled): // stopping
		return false
	case transcript.SessionFault(err) && !errors.As(err, &bad):
		c.stats.repairsFailed.Add(1)
		c.cfg.Logger.Error("a damaged session cannot be repaired; it needs a person", "session", j.token, "error", err)
		return false
	default:
		c.stats.repairsFailed.Add(1)
		c.cfg.Logger.Warn("a damaged session could not be repaired; it is tried again", "session", j.token, "error", err)
		return true
	}
	if len(res.SetAside) == 0 {
		return false // somebody else was first, or a reader saw a write under way
	}
	c.report(j.token, res)
	c.stats.repaired.Add(1)
	if c.cfg.Cache != nil {
		c.cfg.Cache.Changed(j.session)
	}
	return false
}

// report logs what a repair did, and counts and names what is lost.
func (c *Consumer) report(token string, res transcript.Repaired) {
	log := c.cfg.Logger.With("session", token, "set_aside", res.SetAside, "reasons", res.Reasons, "turns", res.Turns, "restored", res.Restored)
	if n := len(res.Unverified); n > 0 {
		log = log.With("unverified", n, "unverified_turns", res.Unverified[:min(n, repairNames)])
	}
	if !res.Lost() {
		log.Warn("damaged files were set aside and the transcript rebuilt; nothing is missing")
		return
	}
	c.stats.lostTurns.Add(int64(len(res.Missing)))
	c.stats.lostLines.Add(int64(res.Unreadable))
	log.Error("damaged files were set aside and the transcript rebuilt; what neither they nor the stream have is lost",
		"lost", len(res.Missing), "unreadable_lines", res.Unreadable, "cut_short", res.CutShort)
	for ids := range slices.Chunk(res.Missing, repairNames) {
		c.cfg.Logger.Error("these turns are lost", "session", token, "turns", ids)
	}
}

// events returns what the stream holds of the session of a token.
func (r *StreamReader) events(ctx context.Context, token string) (transcript.Events, error) {
	var turns []transcript.Snapshot
	err := r.subject(ctx, stream.TurnPrefix+token, func(turn transcript.Snapshot, _ uint64) error {
		turns = append(turns, turn)
		return nil
	})
	if err != nil {
		return transcript.Events{}, err
	}
	gone, err := r.removed(ctx)
	if err != nil {
		return transcript.Events{}, err
	}
	events := transcript.Events{Turns: turns, Whole: gone.nothing && len(turns) > 0}
	if gone.oldest {
		events.Since = gone.until
	}
	return events, nil
}
