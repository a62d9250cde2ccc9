package console

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/status"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// sample is what the charts show of one moment. What was not known is absent.
type sample struct {
	At      int64    `json:"t"` // Unix milliseconds
	Stored  *float64 `json:"stored,omitempty"`
	Written *float64 `json:"written,omitempty"` // turns/s, of the group that is furthest behind
	Lag     *float64 `json:"lag,omitempty"`     // turns
	Age     *float64 `json:"age,omitempty"`     // seconds, of the oldest turn that is not acknowledged
	End     *float64 `json:"end,omitempty"`     // milliseconds from Publish to durable, p99
	Late    *float64 `json:"late,omitempty"`    // of them from stored to durable, p99
	Dead    *float64 `json:"dead,omitempty"`
	Stream  *float64 `json:"stream,omitempty"` // bytes
	Disk    *float64 `json:"disk,omitempty"`   // percent in use
}

// group is a consumer group as the server and its members know it.
type group struct {
	stream.ConsumerInfo
	Lag     uint64            `json:"lag"`
	Age     float64           `json:"age_seconds"`    // of the oldest turn that is not acknowledged
	Rate    *float64          `json:"rate,omitempty"` // turns/s
	Members []consumer.Member `json:"members"`
}

// state is what one look has found.
type state struct {
	At      time.Time           `json:"at"`
	Streams []stream.StreamInfo `json:"streams"`
	Groups  []group             `json:"groups"`
	Space   *transcript.Space   `json:"space,omitempty"` // of the transcripts here
}

// figures takes samples while it runs, and now and then looks at everything.
type figures struct {
	cfg   Config
	asked chan struct{} // somebody looks

	mu      sync.Mutex
	state   *state // the last one that was complete
	err     error  // why there is none since
	report  status.Report
	samples []sample
	looked  time.Time
	stale   bool // the report is to be made again

	// Only run touches these.
	last     *state
	ends     counts // latencies that members had counted: from Publish on
	lates    counts // and from stored on
	reported time.Time
}

func newFigures(cfg Config) *figures {
	return &figures{cfg: cfg, asked: make(chan struct{}, 1), err: errors.New("nothing was looked at yet")}
}

// run takes a sample now and then: often while somebody looks, or something fails.
func (f *figures) run(ctx context.Context) {
	for {
		began := time.Now()
		f.take(ctx)
		for wait := true; wait; {
			every := f.cfg.IdleEvery
			if f.hurried() {
				every = f.cfg.SampleEvery
			}
			timer := time.NewTimer(time.Until(began.Add(every)))
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-f.asked:
			case <-timer.C:
				wait = false
			}
			timer.Stop()
		}
	}
}

func (f *figures) hurried() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err != nil || time.Since(f.looked) < f.cfg.Watched
}

// known is what there is to show.
type known struct {
	state   *state
	err     error // why it is not of now
	report  status.Report
	samples []sample
}

// get returns what is known, with the samples after a moment.
func (f *figures) get(since int64) known {
	f.mu.Lock()
	defer f.mu.Unlock()
	idle := time.Since(f.looked) >= f.cfg.Watched
	f.looked = time.Now()
	from := len(f.samples)
	for from > 0 && f.samples[from-1].At > since {
		from--
	}
	if idle {
		f.wake()
	}
	return known{f.state, f.err, f.report, append([]sample{}, f.samples[from:]...)}
}

// changed says that something was changed here, which the next look is to tell.
func (f *figures) changed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale = true
}

func (f *figures) wake() {
	select {
	case f.asked <- struct{}{}:
	default:
	}
}

// take looks at the figures, and at everything when that is due.
func (f *figures) take(ctx context.Context) {
	bound, cancel := context.WithTimeout(ctx, f.cfg.LookupTimeout)
	defer cancel()
	st, err := f.look(bound)
	s := sample{At: time.Now().UnixMilli()}
	if err == nil {
		f.measure(&s, st)
	}
	f.mu.Lock()
	if (f.err == nil) != (err == nil) {
		f.stale = true
	}
	if f.err = err; err == nil {
		f.state = st
	}
	f.samples = append(f.samples, s)
	oldest := s.At - f.cfg.Kept.Milliseconds()
	for len(f.samples) > 1 && f.samples[0].At < oldest {
		f.samples = f.samples[1:]
	}
	due := f.stale || time.Since(f.reported) >= f.cfg.ReportEvery
	f.stale = false
	f.mu.Unlock()
	if !due || f.cfg.Status == nil {
		return
	}
	report := f.cfg.Status.Gather(ctx)
	f.reported = time.Now()
	if ctx.Err() != nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.report = report
}

func (f *figures) look(ctx context.Context) (*state, error) {
	if nc := f.cfg.JS.Conn(); !nc.IsConnected() {
		return nil, errors.New("there is no connection to NATS")
	}
	st := &state{At: time.Now().UTC(), Groups: []group{}}
	var err error
	if st.Streams, err = stream.Info(ctx, f.cfg.JS); err != nil {
		return nil, err
	}
	members, _, err := consumer.Members(ctx, f.cfg.JS.Conn(), f.cfg.Quiet)
	if err != nil {
		return nil, err
	}
	for _, ci := range st.Streams[0].Consumers {
		if ci.Folder == "" { // somebody reads the stream
			continue
		}
		g := group{ConsumerInfo: ci, Lag: ci.Lag(), Members: []consumer.Member{}}
		for _, m := range members {
			if m.Group == ci.Name {
				g.Members = append(g.Members, m)
			}
		}
		if g.Lag > 0 {
			if g.Age, err = oldest(ctx, f.cfg.JS, ci.AckFloor, st.Streams[0]); err != nil {
				return nil, err
			}
		}
		st.Groups = append(st.Groups, g)
	}
	if s := f.cfg.Store(); s != nil {
		if space, err := s.Space(ctx); err == nil { // else the report says what is wrong with the disk
			st.Space = &space
		}
	}
	return st, nil
}

// oldest is the age of the first turn after what is acknowledged, in seconds.
func oldest(ctx context.Context, js jetstream.JetStream, floor uint64, turns stream.StreamInfo) (float64, error) {
	m, err := stream.Message(ctx, js, stream.Turns, max(floor+1, turns.FirstSeq))
	if errors.Is(err, jetstream.ErrMsgNotFound) { // acknowledged or removed meanwhile
		return 0, nil
	}
	if err != nil {
		return 0, stream.ReadError(stream.Turns, err)
	}
	if m.Time.IsZero() { // its headers, and so when it was stored, cannot be parsed
		return 0, nil
	}
	return max(0, time.Since(m.Time).Seconds()), nil
}

// measure makes a sample of what was found, with rates since the last one.
func (f *figures) measure(s *sample, st *state) {
	turns, dead := st.Streams[0], st.Streams[1]
	s.Stream, s.Dead = value(float64(turns.Bytes)), value(float64(dead.Messages))
	if st.Space != nil && st.Space.Bytes > 0 {
		s.Disk = value(100 * (1 - float64(st.Space.FreeBytes)/float64(st.Space.Bytes)))
	}
	var took float64
	if f.last != nil {
		took = st.At.Sub(f.last.At).Seconds()
		s.Stored = perSecond(f.last.Streams[0].LastSeq, turns.LastSeq, took)
	}
	var lag, age float64
	for i := range st.Groups {
		g := &st.Groups[i]
		if f.last != nil {
			for _, was := range f.last.Groups {
				if was.Name == g.Name {
					g.Rate = perSecond(was.AckFloor, g.AckFloor, took)
				}
			}
		}
		if i == 0 || float64(g.Lag) > lag {
			s.Written = g.Rate
		}
		lag, age = max(lag, float64(g.Lag)), max(age, g.Age)
	}
	if len(st.Groups) > 0 {
		s.Lag, s.Age = value(lag), value(age)
	}
	s.End = quantile(f.ends.since(st, func(m *consumer.Member) []int64 { return m.EndToEnd }), .99)
	s.Late = quantile(f.lates.since(st, func(m *consumer.Member) []int64 { return m.Latency }), .99)
	f.last = st
}

// counts are what members had counted at the last sample; nil before the first.
type counts map[string][]int64

// since returns what all members have counted since the last sample.
func (c *counts) since(st *state, of func(*consumer.Member) []int64) (sum []int64) {
	now := make(counts)
	for _, g := range st.Groups {
		for k := range g.Members {
			m := &g.Members[k]
			list := of(m)
			now[m.Instance] = list
			if sum == nil {
				sum = make([]int64, len(list))
			}
			was := (*c)[m.Instance]
			for i := range min(len(sum), len(list)) {
				n := list[i]
				if i < len(was) {
					n -= was[i]
				}
				sum[i] += n
			}
		}
	}
	if *c == nil { // what came before anybody looked is not of now
		sum = nil
	}
	*c = now
	return sum
}

// quantile is the bound, in milliseconds, under which a part of the counts is.
func quantile(counts []int64, part float64) *float64 {
	var total, below int64
	for _, n := range counts {
		total += n
	}
	if total == 0 {
		return nil
	}
	for i, n := range counts {
		if below += n; float64(below) >= part*float64(total) {
			return value(float64(consumer.LatencyBound(i)) / float64(time.Millisecond))
		}
	}
	return nil
}

func perSecond(was, is uint64, seconds float64) *float64 {
	if seconds <= 0 || is < was { // the stream was made again
		return nil
	}
	return value(math.Round(100*float64(is-was)/seconds) / 100)
}

func value(v float64) *float64 { return &v }
