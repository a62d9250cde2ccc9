package consumer

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"
)

// DefaultRoundBytes is how much a [Replay] puts apart before it merges.
const DefaultRoundBytes = 1 << 30

// ReplayConfig says what to replay, and into which store. JS and Store are asked for.
type ReplayConfig struct {
	JS    jetstream.JetStream
	Store *transcript.Store
	// Session is the one to replay; "" means all.
	Session string
	// Since leaves out what was stored before; zero leaves out nothing.
	Since time.Time
	// Resume keeps a checkpoint in the store's folder, and goes on from the one that
	// an interrupted replay of the same has left there. It trusts that what was merged by
	// then is still there. [ErrCheckpoint] is one of another replay.
	Resume bool
	// Checkpoint is how much time is worked for at most before what was read is merged and, with
	// Resume, a checkpoint written; zero means [DefaultCheckpoint]. Without Resume and
	// Rate nothing but RoundBytes matters.
	Checkpoint time.Duration
	// Rate bounds the turns read per second; 0 means no bound.
	Rate int
	// Progress, if set, is told now and then how far it is, from several goroutines. It
	// does not block.
	Progress func(Progress)
	// RoundBytes is how much is put apart by session before it is merged; it bounds
	// the scratch file. A session that goes on after that is written once more.
	RoundBytes int64
	// PayloadLimit bounds the encoding of a turn, in bytes; 0 asks the server.
	PayloadLimit int
	// Request bounds each request to the server; zero means what JS was made with.
	Request time.Duration
	Logger  *slog.Logger
}

func (c ReplayConfig) withDefaults() ReplayConfig {
	c.RoundBytes = cmp.Or(c.RoundBytes, DefaultRoundBytes)
	c.Request = stream.RequestBound(c.Request, c.JS)
	c.Checkpoint = cmp.Or(c.Checkpoint, DefaultCheckpoint)
	if c.PayloadLimit == 0 {
		c.PayloadLimit = stream.PayloadLimit(c.JS.Conn().MaxPayload())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *ReplayConfig) subject() string {
	if c.Session == "" {
		return ""
	}
	return stream.TurnSubject(c.Session)
}

// part is what is read, after what is there already.
func (c *ReplayConfig) part(after uint64) span {
	part := span{after: after, since: c.Since}
	if c.Rate > 0 {
		part.ahead = min(readAhead, 10*c.Rate)
	}
	return part
}

// Progress is how far a replay or verification is.
type Progress struct {
	Done, Total uint64 // messages, or sessions
}

// ReplayResult is what a replay did.
type ReplayResult struct {
	Turns   uint64 `json:"turns"`              // snapshots merged
	LeftOut uint64 `json:"left_out,omitempty"` // turns that their sessions have no room for
	Skipped uint64 `json:"skipped"`            // messages that are no turns; they are dead letters
	LastSeq uint64 `json:"last_sequence"`
	Resumed uint64 `json:"resumed_after,omitempty"` // sequence up to which an interrupted replay had come
	Unread  uint64 `json:"unread,omitempty"`        // messages that the stream had removed before a folder that was empty could read them
}

// Replay merges what the stream holds into a store: all of it or one session.
// Turns that are there already, or that the stream does not have any more, stay.
// It returns when all of it is durable in the documents. Its memory does not depend on the
// size of the stream: what does not fit goes through a scratch file.
func Replay(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	r := &replay{cfg: cfg.withDefaults(), round: time.Now()}
	if r.cfg.Rate > 0 {
		r.limit = rate.NewLimiter(rate.Limit(r.cfg.Rate), max(1, r.cfg.Rate/10))
	}
	var err error
	if r.progress, err = openProgress(ctx, &r.cfg); err != nil {
		return ReplayResult{}, err
	}
	leftOut := r.cfg.Store.Stats().LeftOut
	info, err := turnsInfo(ctx, r.cfg.JS, r.cfg.Request) // before what is read
	if err != nil {
		return ReplayResult{}, err
	}
	fresh, err := r.begin(ctx, info)
	if err != nil {
		return ReplayResult{}, err
	}
	r.spill = newSpill(r.cfg.Store)
	defer r.spill.close()
	last, err := readSpan(ctx, r.cfg.JS, stream.Turns, r.cfg.subject(), r.cfg.part(r.progress.after()), r.cfg.Request, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		return r.take(ctx, m, meta)
	})
	if err == nil {
		err = r.merge(ctx, last)
	}
	if err == nil {
		err = r.progress.finish(ctx, &r.cfg)
	}
	if err == nil && (fresh || r.progress.after() > 0) && r.cfg.Session == "" && r.cfg.Since.IsZero() {
		err = r.follows(ctx, info)
	}
	res := ReplayResult{Turns: r.turns.Load(), Skipped: r.skipped.Load(), LeftOut: uint64(r.cfg.Store.Stats().LeftOut - leftOut), LastSeq: last, Resumed: r.progress.after(), Unread: r.unread}
	return res, err
}

// replay is one on its way.
type replay struct {
	cfg      ReplayConfig
	spill    *spill
	limit    *rate.Limiter // nil without a bound
	progress *progress
	round    time.Time // when the last merge ended

	read, merged   atomic.Uint64 // messages
	left           uint64        // messages in the stream behind the last one read
	turns, skipped atomic.Uint64
	unread         uint64
}

// take puts one message aside.
func (r *replay) take(ctx context.Context, m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	if r.limit != nil {
		if err := r.limit.Wait(ctx); err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
	}
	r.left = meta.NumPending
	if r.read.Add(1)%1024 == 0 {
		r.report()
	}
	seq := meta.Sequence.Stream
	if err := checkType(m); err != nil {
		r.skip(seq, err)
	} else if err := r.spill.add(ctx, strings.TrimPrefix(m.Subject(), stream.TurnPrefix), seq, meta.Timestamp, m.Data()); err != nil {
		return err
	}
	if r.spill.size >= r.cfg.RoundBytes || r.due() {
		return r.merge(ctx, seq)
	}
	return nil
}

func (r *replay) skip(seq uint64, reason error) {
	r.skipped.Add(1)
	r.merged.Add(1)
	r.cfg.Logger.Warn("skipped a message that is no turn", "sequence", seq, "reason", cleanReason(reason.Error()))
}

// due says that what was read is to be seen, and need not be read again.
func (r *replay) due() bool {
	return (r.cfg.Resume || r.cfg.Rate > 0) && time.Since(r.round) >= r.cfg.Checkpoint
}

// merge writes what was put aside into documents: all up to a sequence.
func (r *replay) merge(ctx context.Context, upTo uint64) error {
	err := r.spill.drain(ctx, r.mergeSlice)
	if err == nil {
		err = r.cfg.Store.SyncMerges(ctx)
	}
	r.report()
	if err != nil {
		return err
	}
	err = r.progress.reached(ctx, upTo)
	r.round = time.Now()
	return err
}

func (r *replay) mergeSlice(ctx context.Context, slice []spilled) error {
	turns := make([]transcript.Snapshot, 0, len(slice))
	for i := range slice {
		turn, err := decodeTurn(slice[i].payload, string(slice[i].token), slice[i].stored, r.cfg.PayloadLimit)
		if err != nil {
			r.skip(slice[i].seq, err)
			continue
		}
		turns = append(turns, turn)
	}
	if err := r.cfg.Store.Merge(ctx, transcript.GroupBySession(turns)); err != nil {
		return err
	}
	r.turns.Add(uint64(len(turns)))
	r.merged.Add(uint64(len(turns)))
	r.report()
	return nil
}

// report tells how far it is. A message is half done when it was read.
func (r *replay) report() {
	if r.cfg.Progress == nil {
		return
	}
	read := r.read.Load()
	r.cfg.Progress(Progress{Done: (read + r.merged.Load()) / 2, Total: read + r.left})
}
