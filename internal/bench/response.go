package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Defaults of a [ResponseConfig].
const (
	DefaultThink        = 200 * time.Millisecond
	DefaultCellDuration = 10 * time.Second
	DefaultRate         = 1000
	DefaultResponseRuns = 3
)

// DefaultUsers are the crowds of the older system's load test, and ten times the larger.
func DefaultUsers() []int { return []int{50, 500, 5000} }

// Most that p95 with afterword may be of p95 with nothing written.
const (
	healthyAtMost = 1.05
	faultAtMost   = 1.10
)

// Of disk that a cell takes, about.
const (
	cellBytes        = 64 << 20
	cellBytesPerUser = 16 << 10
	cellBytesPerTurn = 4 << 10
)

// ResponseConfig says what [Response] measures.
type ResponseConfig struct {
	Config
	// Users are how many chat at the same time, each number by itself.
	Users []int
	// Conditions and Writers are those that are measured; nil means all.
	Conditions []Condition
	Writers    []Writer
	// Think is how long the model takes.
	Think time.Duration
	// Duration is how long each cell is measured.
	Duration time.Duration
	// Rate is how many turns a second all users together start; each waits
	// accordingly between an answer and the next question. 0 means [DefaultRate],
	// negative means no waiting: as fast as answers come.
	Rate int
	// Checks has the older suite's five checks done, too; OnlyChecks nothing else.
	Checks, OnlyChecks bool

	probeTurns int // over six hosts
}

func (c ResponseConfig) withDefaults() (ResponseConfig, error) {
	c.Runs = cmp.Or(c.Runs, DefaultResponseRuns)
	c.Think, c.Duration, c.Rate = cmp.Or(c.Think, DefaultThink), cmp.Or(c.Duration, DefaultCellDuration), cmp.Or(c.Rate, DefaultRate)
	c.Rate, c.probeTurns = max(c.Rate, 0), cmp.Or(c.probeTurns, probeTurns)
	if len(c.Users) == 0 {
		c.Users = DefaultUsers()
	}
	if len(c.Conditions) == 0 {
		c.Conditions = Conditions()
	}
	if len(c.Writers) == 0 {
		c.Writers = Writers()
	}
	for _, w := range c.Writers {
		if !slices.Contains(Writers(), w) {
			return c, fmt.Errorf("bench: unknown writer %q", w)
		}
	}
	for _, w := range c.Conditions {
		if !slices.Contains(Conditions(), w) {
			return c, fmt.Errorf("bench: unknown condition %q", w)
		}
	}
	if slices.Min(c.Users) < 1 || c.Think < 0 || c.Duration < 0 {
		return c, errors.New("bench: users, think time and duration must be positive")
	}
	return c, nil
}

// bytes is how much disk all of it takes, about.
func (c ResponseConfig) bytes() (need int64) {
	if !c.OnlyChecks {
		for _, one := range c.cells() {
			need += one.bytes()
		}
	}
	if c.Checks || c.OnlyChecks {
		need += 2 * cell{users: checkUsers, think: c.Think, duration: c.Duration}.bytes()
	}
	return need * int64(max(c.Runs, 1))
}

func (c cell) bytes() int64 {
	if c.writer == WriterNone {
		return 0
	}
	rate := int64(c.rate)
	if rate == 0 {
		rate = int64(float64(c.users) / c.think.Seconds())
	}
	turns := int64(c.users) + int64(float64(rate)*(c.duration+afterFirst).Seconds())
	return cellBytes + int64(c.users)*cellBytesPerUser + turns*cellBytesPerTurn
}

// cells are all that is played, the writers of a condition next to each other.
func (c ResponseConfig) cells() (list []cell) {
	for _, users := range c.Users {
		for _, condition := range c.Conditions {
			for _, writer := range c.Writers {
				list = append(list, cell{condition, users, writer, c.Think, c.Rate, c.Duration})
			}
		}
	}
	return list
}

// ResponseResult is what [Response] found out: in Measures the figures to reach,
// in Cells everything.
type ResponseResult struct {
	*Result
	Cells []ResponseCell `json:"cells,omitempty"`
}

// ResponseCell is one writer under one condition with so many users.
type ResponseCell struct {
	Condition Condition `json:"condition"`
	Users     int       `json:"users"`
	Writer    Writer    `json:"writer"`
	Skipped   string    `json:"skipped,omitempty"` // why it was not measured

	Turns   Measure  `json:"turns"` // measured
	P50     Measure  `json:"p50"`
	P95     Measure  `json:"p95"`
	P99     Measure  `json:"p99"`
	P999    Measure  `json:"p99_9"`
	Max     Measure  `json:"max"`
	ToNone  *Measure `json:"p95_to_none,omitempty"`
	Errors  Measure  `json:"errors"`
	Lost    Measure  `json:"lost"`    // accepted, and not in the transcript after the fault
	Twice   Measure  `json:"twice"`   // in it more than once
	LagP99  Measure  `json:"lag_p99"` // of the API's scheduler
	LagMax  Measure  `json:"lag_max"`
	History Measure  `json:"history_p95"` // what loading it took, in the API
	Save    Measure  `json:"save_p95"`    // what keeping a turn took, there
	Healed  Measure  `json:"healed"`      // how long after the fault everything was written
}

// Response measures how long users wait for an answer, with nothing written, with
// everything written inside the request, and with afterword, while all is well and
// while it is not; and counts the turns that were lost.
func Response(ctx context.Context, cfg ResponseConfig) (*ResponseResult, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	l, err := openLab(cfg.Config, "response", cfg.bytes())
	if err != nil {
		return nil, err
	}
	r := &ResponseResult{Result: l.result}
	_, err = l.finish(ctx, l.response(ctx, cfg, r))
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (l *lab) response(ctx context.Context, cfg ResponseConfig, r *ResponseResult) error {
	l.set("think", cfg.Think.String())
	l.set("duration of a cell", cfg.Duration.String())
	l.set("turns a second at most", cfg.Rate)
	l.set("runs", l.Runs)
	if !cfg.OnlyChecks {
		if err := l.matrix(ctx, cfg, r); err != nil {
			return err
		}
	}
	if cfg.Checks || cfg.OnlyChecks {
		return l.checks(ctx, cfg, r)
	}
	return nil
}

// matrix plays every cell, run by run.
func (l *lab) matrix(ctx context.Context, cfg ResponseConfig, r *ResponseResult) error {
	cells := cfg.cells()
	found := make(map[cell][]seen)
	skipped := make(map[cell]string)
	done, total := 0, len(cells)*l.Runs
	for run := range l.Runs {
		for _, c := range cells {
			l.Progress(l.step(c.String(), run), done, total)
			done++
			if why := c.cannot(); why != nil {
				skipped[c] = why.Error()
				continue
			}
			o, err := l.play(ctx, c)
			if errors.Is(err, errSkipped) && ctx.Err() == nil {
				skipped[c] = err.Error()
				continue
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
			if o.note != "" {
				r.Notes = append(r.Notes, fmt.Sprintf("run %d: %s", run+1, o.note))
			}
			found[c] = append(found[c], o)
		}
	}
	for _, c := range cells {
		row := ResponseCell{Condition: c.condition, Users: c.users, Writer: c.writer, Skipped: skipped[c]}
		if row.Skipped == "" {
			row.fill(found[c])
			none := c
			none.writer = WriterNone
			row.compare(found[c], found[none])
		} else {
			r.Notes = append(r.Notes, fmt.Sprintf("%s: %s", c, row.Skipped))
		}
		r.Cells = append(r.Cells, row)
	}
	r.summarise(cfg)
	return nil
}

// cannot says why a cell cannot be measured here.
func (c cell) cannot() error {
	if c.condition == DiskHung {
		return canHangDisks()
	}
	return nil
}

// fill makes a cell's figures of its runs.
func (row *ResponseCell) fill(runs []seen) {
	of := func(name, unit string, figure func(seen) float64) Measure {
		list := make([]float64, len(runs))
		for i, o := range runs {
			list[i] = figure(o)
		}
		return measured(name, unit, list)
	}
	ms := func(name string, figure func(seen) time.Duration) Measure {
		return of(name, milliseconds, func(o seen) float64 { return figure(o).Seconds() * 1000 })
	}
	row.Turns = of("turns", "", func(o seen) float64 { return float64(o.turns) })
	row.P50 = ms("p50", func(o seen) time.Duration { return o.P50 })
	row.P95 = ms("p95", func(o seen) time.Duration { return o.P95 })
	row.P99 = ms("p99", func(o seen) time.Duration { return o.P99 })
	row.P999 = ms("p99.9", func(o seen) time.Duration { return o.P999 })
	row.Max = ms("max", func(o seen) time.Duration { return o.Max })
	row.Errors = of("errors", "", func(o seen) float64 { return float64(o.errors) })
	row.Lost = of("lost", "", func(o seen) float64 { return float64(o.lost) })
	row.Twice = of("twice", "", func(o seen) float64 { return float64(o.twice) })
	row.LagP99 = ms("lag p99", func(o seen) time.Duration { return o.lag.P99 })
	row.LagMax = ms("lag max", func(o seen) time.Duration { return o.lag.Max })
	row.History = ms("history p95", func(o seen) time.Duration { return o.history.P95 })
	row.Save = ms("save p95", func(o seen) time.Duration { return o.save.P95 })
	row.Healed = of("healed after", seconds, func(o seen) float64 { return o.healed.Seconds() })
}

// compare adds the ratio to nothing written, run by run, and what it should be.
func (row *ResponseCell) compare(own, none []seen) {
	if row.Writer == WriterNone || len(none) == 0 {
		return
	}
	var base ResponseCell
	base.fill(none)
	m := ratio("p95 to none", row.P95, base.P95)
	if row.Writer == WriterAfterword {
		m = m.atMost(row.target())
		row.Errors, row.Lost, row.Twice = row.Errors.never(), row.Lost.never(), row.Twice.never()
	}
	row.ToNone = &m
}

func (row *ResponseCell) target() float64 {
	if row.Condition == Healthy {
		return healthyAtMost
	}
	return faultAtMost
}

// never is m with the target 0, in every run.
func (m Measure) never() Measure {
	m.Target = &Target{AtMost: true, Reached: len(m.Runs) > 0 && m.Max == 0}
	return m
}

// summarise puts the figures to reach, and the picture, beside the cells.
func (r *ResponseResult) summarise(cfg ResponseConfig) {
	for _, row := range r.Cells {
		if row.Writer != WriterAfterword || row.Skipped != "" {
			continue
		}
		of := fmt.Sprintf("%s, %d users: ", row.Condition, row.Users)
		add := func(name string, m Measure) {
			m.Name = of + name
			r.Measures = append(r.Measures, m)
		}
		if row.ToNone != nil {
			add("p95 afterword / none", *row.ToNone)
		}
		add("errors with afterword", row.Errors)
		add("turns lost with afterword", row.Lost)
		add("turns twice with afterword", row.Twice)
	}
	for _, users := range cfg.Users {
		var bars []Measure
		for _, row := range r.Cells {
			if row.Users == users && row.Skipped == "" {
				m := row.P95
				m.Name, m.Target = fmt.Sprintf("%s, %s", row.Condition, row.Writer), nil
				bars = append(bars, m)
			}
		}
		r.Panels = append(r.Panels, barsOf(fmt.Sprintf("95 of 100 answers come within, %d users", users), bars...))
	}
}
