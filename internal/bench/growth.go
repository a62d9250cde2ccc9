package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/afterword-io/afterword/transcript"
)

// Defaults of a [GrowthConfig].
const (
	DefaultGrowthTurns = 100_000
	DefaultGrowthBatch = 10
	DefaultGrowthRate  = 1000
)

// GrowthConfig says what [Growth] measures.
type GrowthConfig struct {
	Config
	// Turns is how long the session becomes; zero means [DefaultGrowthTurns].
	Turns int
	// Size is that of a payload in bytes; zero means [DefaultSize].
	Size int
	// Batch is how many turns of the session become durable together; zero means [DefaultGrowthBatch].
	Batch int
	// Rate is how many turns come a second; zero means [DefaultGrowthRate]. With more than 500 a
	// second folds wait for turns to gather.
	Rate int
}

const (
	growthSession = "the-long-one"
	growthFolds   = 3     // at least so many are measured at each size
	growthShare   = 0.25  // but no more turns than this share of the session
	growthLeast   = 20    // turns
	growthTail    = 0.075 // of the session; from 8 % on it is folded
	growthReads   = 200
	growthHistory = 10
	growthIdle    = 10 * time.Millisecond
	settleBound   = 3 * time.Minute
)

// Growth measures what a session costs as it grows: a turn, folds included, a
// fold, and reading its last ten turns, at each power of ten; and loading a history, from
// Redis and from a file. No NATS takes part.
func Growth(ctx context.Context, cfg GrowthConfig) (*Result, error) {
	cfg.Turns = cmp.Or(cfg.Turns, DefaultGrowthTurns)
	cfg.Batch = cmp.Or(cfg.Batch, DefaultGrowthBatch)
	cfg.Rate = cmp.Or(cfg.Rate, DefaultGrowthRate)
	if cfg.Batch < 1 || cfg.Rate < 1 || cfg.Turns < 1 {
		return nil, errors.New("bench: turns, batch and rate are positive")
	}
	all := cfg.Turns + cfg.Turns/2 + 100*growthLeast
	c, err := Source{Turns: all, Sessions: 1, Size: cfg.Size}.open()
	if err != nil {
		return nil, err
	}
	runs := int64(max(cfg.Runs, 1))
	l, err := openLab(cfg.Config, "growth", 3*runs*int64(all)*int64(c.Size))
	if err != nil {
		return nil, err
	}
	return l.finish(ctx, l.growth(ctx, cfg, c))
}

// Names of what is measured.
const (
	turnCost    = "cost of a turn"
	appendCost  = "of that, append and sync"
	foldShare   = "of that, folds"
	cpuCost     = "processor time of a turn"
	foldCost    = "a fold"
	readFolded  = "reading the last ten, folded"
	readGrowing = "reading the last ten, the tail full"
)

func sizeName(name string, turns int) string {
	return fmt.Sprintf("%s, at %s", name, Short(float64(turns)))
}

func (l *lab) growth(ctx context.Context, cfg GrowthConfig, c *conversations) error {
	l.set("turns", cfg.Turns)
	l.set("bytes a turn", c.Size)
	l.set("batch", cfg.Batch)
	l.set("turns a second", cfg.Rate)
	if err := l.profileSelf("growth"); err != nil {
		return err
	}
	got := newCollected()
	for run := range l.Runs {
		g := &growing{lab: l, cfg: cfg, c: c, dir: l.fresh("transcripts"), got: got, run: run}
		if err := g.history(ctx); err != nil {
			return err
		}
		for at := 1; at <= cfg.Turns; at *= 10 {
			if err := g.at(ctx, at); err != nil {
				return err
			}
		}
	}
	l.grown(cfg, got)
	return nil
}

// grown makes the result of what was collected.
func (l *lab) grown(cfg GrowthConfig, got *collected) {
	names := []string{turnCost, appendCost, foldShare, cpuCost, foldCost, readFolded, readGrowing}
	var list []Measure
	lines := make(map[string]*Line)
	for _, name := range names {
		lines[name] = &Line{Name: name}
		for at := 1; at <= cfg.Turns; at *= 10 {
			m := got.measure(sizeName(name, at))
			if len(m.Runs) == 0 {
				continue
			}
			list = append(list, m)
			if m.Median > 0 {
				lines[name].X, lines[name].Y = append(lines[name].X, float64(at)), append(lines[name].Y, m.Median)
			}
		}
	}
	const long = 100_000
	if cfg.Turns >= long {
		compare := func(name string, to int) Measure {
			return ratio(fmt.Sprintf("%s: %s / %s turns", name, Short(long), Short(float64(to))), got.measure(sizeName(name, long)), got.measure(sizeName(name, to))).atMost(1.5)
		}
		list = append(list, compare(turnCost, 1000), compare(readFolded, 100), compare(readGrowing, 100))
	}
	history, note := historyMeasures(got)
	l.result.Measures = append(list, history...)
	if note != "" {
		l.result.Notes = append(l.result.Notes, note)
	}
	var curves []Line
	for _, name := range []string{turnCost, foldCost, readFolded, readGrowing} {
		if len(lines[name].X) > 0 {
			curves = append(curves, *lines[name])
		}
	}
	l.result.Panels = []Panel{{Title: "What a session costs as it grows", Unit: milliseconds, X: "turns in the session", Lines: curves}}
}

// growing is a session of one run.
type growing struct {
	*lab
	cfg  GrowthConfig
	c    *conversations
	dir  string
	got  *collected
	run  int
	next int // turns so far
}

// at measures around one size. A store of its own fills the session up to it.
func (g *growing) at(ctx context.Context, size int) error {
	if err := g.fillUp(ctx, size); err != nil {
		return err
	}
	store, err := transcript.Open(transcript.Config{Dir: g.dir})
	if err != nil {
		return err
	}
	defer store.Close(context.WithoutCancel(ctx))
	read := func(name string) error {
		runtime.GC() // what folding has left is not swept while reads are timed
		took := make([]time.Duration, growthReads)
		for i := range took {
			from := time.Now()
			recent, err := store.Recent(ctx, growthSession, growthHistory)
			if took[i] = time.Since(from); err != nil {
				return err
			}
			if len(recent.Turns) != min(growthHistory, g.next) {
				return fmt.Errorf("read %d turns of %d", len(recent.Turns), g.next)
			}
		}
		g.add(sizeName(name, size), took)
		return nil
	}
	if err := read(readFolded); err != nil {
		return err
	}
	if err := g.learn(ctx, store); err != nil {
		return err
	}
	if err := g.grow(ctx, store, size); err != nil {
		return err
	}
	if err := g.settle(ctx, store); err != nil {
		return err
	}
	if err := g.learn(ctx, store); err != nil {
		return err
	}
	// As much as a large document leaves in its tail before it is folded.
	if err := g.append(ctx, store, max(1, int(growthTail*float64(g.next)))); err != nil {
		return err
	}
	return read(readGrowing)
}

func (g *growing) add(name string, took []time.Duration) {
	g.got.add(name, milliseconds, Quantiles(took).P50.Seconds()*1000)
}

// grow lets turns come at the rate, through a few folds, and takes the costs.
func (g *growing) grow(ctx context.Context, store *transcript.Store, size int) error {
	what := g.step(fmt.Sprintf("a session of %s turns", Short(float64(size))), g.run)
	most := max(growthLeast, int(growthShare*float64(size)))
	before, cpu, first := store.Stats(), cpuTime(), g.next
	every := time.Second * time.Duration(g.cfg.Batch) / time.Duration(g.cfg.Rate)
	var appending time.Duration
	waiting, folds := 0, int64(0)
	for due := time.Now(); g.next-first < most && folds < growthFolds || g.next-first < growthLeast; due = due.Add(every) {
		if err := pause(ctx, time.Until(due)); err != nil {
			return err
		}
		waiting += g.cfg.Batch
		from := time.Now()
		busy, err := g.write(ctx, store, waiting)
		if err != nil {
			return err
		}
		if !busy { // else a fold has the session: the turns go with the next batch
			appending += time.Since(from)
			waiting = 0
		}
		folds = store.Stats().Folds - before.Folds
		g.Progress(what, g.next-first, most)
	}
	turns := float64(g.next - first)
	if folds == 0 { // what these turns cost has the fold in it that carries them
		if err := g.settle(ctx, store); err != nil {
			return err
		}
	}
	if err := g.idle(ctx, store); err != nil {
		return err
	}
	after := store.Stats()
	perTurn := func(d time.Duration) float64 { return d.Seconds() * 1000 / turns }
	folding := after.FoldTime - before.FoldTime
	g.got.add(sizeName(turnCost, size), milliseconds, perTurn(appending+folding))
	g.got.add(sizeName(appendCost, size), milliseconds, perTurn(appending))
	g.got.add(sizeName(foldShare, size), milliseconds, perTurn(folding))
	g.got.add(sizeName(cpuCost, size), milliseconds, perTurn(cpuTime()-cpu))
	if n := after.Folds - before.Folds; n > 0 {
		g.got.add(sizeName(foldCost, size), milliseconds, folding.Seconds()*1000/float64(n))
	}
	return nil
}

// write appends the next turns; busy says that a fold has the session.
func (g *growing) write(ctx context.Context, store *transcript.Store, n int) (busy bool, err error) {
	turns, err := g.turns(n)
	if err != nil {
		return false, err
	}
	b := store.Write(ctx, []transcript.Group{{SessionID: turns[0].SessionID, Turns: turns}})
	if err := b.Sync(ctx); err != nil {
		return false, err
	}
	switch err := b.Err(0); {
	case errors.Is(err, transcript.ErrBusy):
		return true, nil
	case err != nil:
		return false, err
	}
	g.next += n
	return false, nil
}

// append is write, for as long as it takes.
func (g *growing) append(ctx context.Context, store *transcript.Store, n int) error {
	turns, err := g.turns(n)
	if err != nil {
		return err
	}
	if err := store.Append(ctx, turns...); err != nil {
		return err
	}
	g.next += n
	return nil
}

func (g *growing) turns(n int) ([]transcript.Snapshot, error) {
	list := make([]transcript.Snapshot, n)
	for i := range list {
		t := g.c.turn(g.next + i)
		t.SessionID = growthSession
		d, err := t.Draft()
		if err != nil {
			return nil, err
		}
		if list[i], err = d.Snapshot(0); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// fillUp brings the session to a size, folded and with an empty tail.
func (g *growing) fillUp(ctx context.Context, size int) error {
	const chunk = 5000
	store, err := transcript.Open(transcript.Config{Dir: g.dir, QuietAfter: growthIdle})
	if err != nil {
		return err
	}
	what := g.step(fmt.Sprintf("growing to %s turns", Short(float64(size))), g.run)
	for g.next < size && err == nil {
		g.Progress(what, g.next, size)
		err = g.append(ctx, store, min(chunk, size-g.next))
	}
	return errors.Join(err, store.Close(ctx)) // which folds
}

// settle waits until the session is folded.
func (g *growing) settle(ctx context.Context, store *transcript.Store) error {
	for deadline := time.Now().Add(settleBound); store.Stats().Dirty > 0; {
		if time.Now().After(deadline) {
			return errors.New("the session is not folded")
		}
		if err := pause(ctx, growthIdle); err != nil {
			return err
		}
	}
	return nil
}

// learn lets the store find out how large the document is, which it does at a fold
// and forgets when the session has gone quiet.
func (g *growing) learn(ctx context.Context, store *transcript.Store) error {
	before := store.Stats().Folds
	if err := g.append(ctx, store, 1); err != nil {
		return err
	}
	for deadline := time.Now().Add(settleBound); store.Stats().Folds == before; {
		if time.Now().After(deadline) {
			return errors.New("the session is not folded")
		}
		if err := pause(ctx, growthIdle); err != nil {
			return err
		}
	}
	return nil
}

// idle waits until no fold is under way: two looks find the same figures.
func (g *growing) idle(ctx context.Context, store *transcript.Store) error {
	for last := store.Stats(); ; {
		if err := pause(ctx, 20*growthIdle); err != nil {
			return err
		}
		now := store.Stats()
		if now.FoldTime == last.FoldTime && now.Folds == last.Folds && now.Operations == 0 {
			return nil
		}
		last = now
	}
}

// cpuTime is the processor time that this process has used.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
