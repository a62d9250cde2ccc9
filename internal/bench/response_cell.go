package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/afterword-io/afterword/transcript"
)

// Condition is what goes wrong while users chat.
type Condition string

// The conditions.
const (
	Healthy   Condition = "healthy"
	RedisHung Condition = "redis-hung" // redis-server is stopped where it is
	DiskHung  Condition = "disk-hung"  // writes to the transcripts' file system wait
	NATSDown  Condition = "nats-down"  // nats-server is killed
)

// Conditions are all of them.
func Conditions() []Condition { return []Condition{Healthy, RedisHung, DiskHung, NATSDown} }

const (
	healBound  = 2 * time.Minute // until everything is written, after the fault is over
	afterFirst = time.Second     // after every user has begun
)

// cell is one writer under one condition with so many users.
type cell struct {
	condition Condition
	users     int
	writer    Writer
	think     time.Duration
	rate      int
	duration  time.Duration
}

func (c cell) String() string { return fmt.Sprintf("%s, %d users, %s", c.condition, c.users, c.writer) }

// seen is what one run of a cell found out.
type seen struct {
	Latencies
	turns, errors, lost, twice int
	lag, history, save         Latencies     // in the API
	healed                     time.Duration // from the end of the fault until all turns are where they belong
	note                       string
}

// stage is what one run of a cell runs on. What it holds is nil where a writer does
// not use it.
type stage struct {
	*lab
	cell
	cleaner   *cleaner
	redis     *redisServer
	nats      *natsServers
	disk      *disk
	dir       string // of transcripts
	consumers *part
	api       *part
	addr      string // of the API
}

// close ends everything at once. The disk goes on first: nobody can be killed who
// waits for it.
func (s *stage) close(ctx context.Context) error {
	var err error
	if s.disk != nil {
		err = s.disk.resume(ctx)
	}
	for _, p := range []*part{s.api, s.consumers} {
		if p != nil {
			p.kill()
		}
	}
	if s.redis != nil {
		s.redis.kill()
	}
	if s.nats != nil {
		s.nats.kill()
	}
	if s.cleaner != nil {
		err = errors.Join(err, s.cleaner.clean())
	}
	return err
}

// play runs a cell once, on processes and folders of its own.
func (l *lab) play(ctx context.Context, c cell) (_ seen, err error) {
	s := &stage{lab: l, cell: c}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err := s.start(ctx); err != nil {
		return seen{}, err
	}
	people := newCrowd(s.addr, c.users, c.think, c.rate)
	got, err := people.run(ctx, people.first+afterFirst, c.duration, func() error {
		if err := s.breakIt(ctx); err != nil {
			return err
		}
		_, err := people.report(ctx) // forget the lag of the warm-up
		return err
	})
	if err != nil {
		return seen{}, err
	}
	said, err := people.report(ctx)
	if err != nil {
		return seen{}, fmt.Errorf("ask the API for its lag: %w", err)
	}
	people.client.CloseIdleConnections()
	o := seen{Latencies: Quantiles(got.took), turns: len(got.took), errors: got.errors, lag: said.Lag, history: said.History, save: said.Save}
	if got.why != nil {
		o.note = fmt.Sprintf("%s: %d errors, the first: %v", c, got.errors, got.why)
	}
	if o.turns == 0 {
		return seen{}, fmt.Errorf("%s: no turn began within %v", c, c.duration)
	}
	return o, s.settle(ctx, got.accepted, &o)
}

// start starts what the writer needs.
func (s *stage) start(ctx context.Context) (err error) {
	if s.writer == WriterNone {
		return s.startAPI(ctx)
	}
	s.dir = s.fresh("transcripts")
	if s.condition == DiskHung {
		if s.cleaner, err = s.startCleaner(); err != nil {
			return err
		}
		if s.disk, err = s.mountDisk(ctx, s.cleaner); err != nil {
			return err
		}
		s.dir = s.disk.transcripts()
	}
	if s.redis, err = s.startRedis(ctx); err != nil {
		return err
	}
	if s.writer == WriterAfterword {
		if s.nats, err = s.startNATS(ctx, 1); err != nil {
			return err
		}
		nc, _, err := connect(ctx, s.nats.url(), 1)
		if err != nil {
			return err
		}
		nc.Close()
		if s.consumers, _, err = s.startPart(ctx, partJob{Part: consumersPart, NATS: s.nats.url(), Redis: s.redis.url(), Dir: s.dir}); err != nil {
			return err
		}
	}
	return s.startAPI(ctx)
}

func (s *stage) startAPI(ctx context.Context) error {
	j := partJob{Part: apiPart, Writer: s.writer, Think: s.think, Dir: s.dir}
	if s.redis != nil {
		j.Redis = s.redis.url()
	}
	if s.nats != nil {
		j.NATS = s.nats.url()
	}
	api, said, err := s.startPart(ctx, j)
	s.api, s.addr = api, said.Addr
	return err
}

// breakIt makes the condition true.
func (s *stage) breakIt(ctx context.Context) error {
	switch {
	case s.condition == RedisHung && s.redis != nil:
		s.redis.hang()
	case s.condition == DiskHung && s.disk != nil:
		return s.disk.hang(ctx)
	case s.condition == NATSDown && s.nats != nil:
		s.nats.kill()
	}
	return nil
}

// heal makes everything whole again.
func (s *stage) heal(ctx context.Context) error {
	switch {
	case s.condition == RedisHung && s.redis != nil:
		s.redis.resume()
	case s.condition == DiskHung && s.disk != nil:
		return s.disk.resume(ctx)
	case s.condition == NATSDown && s.nats != nil:
		return s.nats.restart(ctx)
	}
	return nil
}

// settle ends the fault, lets everybody finish, and counts what is missing.
func (s *stage) settle(ctx context.Context, accepted map[string][]string, o *seen) error {
	if err := s.heal(ctx); err != nil {
		return fmt.Errorf("end %s: %w", s.condition, err)
	}
	began := time.Now()
	var trouble error
	trouble = errors.Join(trouble, s.api.finish(ctx, healBound))
	if s.consumers != nil {
		trouble = errors.Join(trouble, drained(ctx, s.nats.url(), healBound))
		o.healed = time.Since(began)
		trouble = errors.Join(trouble, s.consumers.finish(ctx, healBound))
	} else {
		o.healed = time.Since(began)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if trouble != nil { // what it cost is counted now
		o.note = fmt.Sprintf("%s: %v", s.cell, trouble)
	}
	if s.writer == WriterNone {
		return nil
	}
	return s.count(ctx, accepted, o)
}

// count looks for every accepted turn in its transcript.
func (s *stage) count(ctx context.Context, accepted map[string][]string, o *seen) error {
	texts := func(session string) ([]string, error) { return inlineTexts(s.dir, session) }
	if s.writer == WriterAfterword {
		store, err := transcript.Open(transcript.Config{Dir: s.dir, ReadOnly: true})
		if err != nil {
			return err
		}
		defer store.Close(ctx)
		texts = func(session string) ([]string, error) { return storeTexts(ctx, store, session) }
	} else if _, err := os.Stat(s.dir); err != nil {
		return err
	}
	for session, said := range accepted {
		list, err := texts(session)
		if err != nil {
			return fmt.Errorf("look for the turns of %s: %w", session, err)
		}
		found := make(map[string]int, len(list))
		for _, text := range list {
			found[label(text)]++
		}
		for _, text := range said {
			switch n := found[text]; {
			case n == 0:
				o.lost++
			case n > 1:
				o.twice++
			}
		}
	}
	return nil
}
