package consumer

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// ReplayConfig says what to replay, and into which store. JS and Store are asked for.
type ReplayConfig struct {
	JS    jetstream.JetStream
	Store *transcript.Store
	// Session is the one to replay; "" means all.
	Session string
	// Progress, if set, is told now and then how far it is. It does not block.
	Progress func(Progress)
	// BatchTurns and BatchBytes bound what is in memory: two batches.
	BatchTurns int
	BatchBytes int
	// PayloadLimit bounds the encoding of a turn, in bytes; 0 asks the server.
	PayloadLimit int
	// Request bounds each request to the server; zero means [DefaultRequest].
	Request time.Duration
	Logger  *slog.Logger
}

func (c ReplayConfig) withDefaults() ReplayConfig {
	c.BatchTurns = cmp.Or(c.BatchTurns, DefaultBatchTurns)
	c.BatchBytes = cmp.Or(c.BatchBytes, DefaultBatchBytes)
	c.Request = cmp.Or(c.Request, DefaultRequest)
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

// Progress is how far a replay or verification is.
type Progress struct {
	Done, Total uint64 // messages, or sessions
}

// ReplayResult is what a replay did.
type ReplayResult struct {
	Turns   uint64 `json:"turns"`   // snapshots merged
	Skipped uint64 `json:"skipped"` // messages that are no turns; they are dead letters
	LastSeq uint64 `json:"last_sequence"`
}

// Replay merges what the stream holds into a store: all of it or one session.
// Turns that are there already, or that the stream does not have any more, stay.
// It returns when all of it is durable and folded into the documents.
func Replay(ctx context.Context, cfg ReplayConfig) (ReplayResult, error) {
	cfg = cfg.withDefaults()
	var res ReplayResult
	batches := make(chan []transcript.Snapshot)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for turns := range batches {
			if err := cfg.Store.Append(gctx, turns...); err != nil {
				return fmt.Errorf("replay: %w", err)
			}
		}
		return nil
	})
	g.Go(func() error {
		defer close(batches)
		var turns []transcript.Snapshot
		size := 0
		send := func() error {
			select {
			case batches <- turns:
				turns, size = nil, 0
				return nil
			case <-gctx.Done():
				return context.Cause(gctx)
			}
		}
		first := uint64(0)
		last, err := read(gctx, cfg.JS, stream.Turns, cfg.subject(), cfg.Request, func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
			turn, err := decode(m, cfg.PayloadLimit)
			if err != nil {
				res.Skipped++
				cfg.Logger.Warn("skipped a message that is no turn", "sequence", meta.Sequence.Stream, "reason", cleanReason(err.Error()))
			} else {
				res.Turns++
				turns, size = append(turns, turn), size+turn.Size()
			}
			if first++; cfg.Progress != nil && first%1024 == 0 {
				cfg.Progress(Progress{Done: first, Total: first + meta.NumPending})
			}
			if len(turns) >= cfg.BatchTurns || size >= cfg.BatchBytes {
				return send()
			}
			return nil
		})
		if err != nil {
			return err
		}
		res.LastSeq = last
		if cfg.Progress != nil {
			cfg.Progress(Progress{Done: first, Total: first})
		}
		if len(turns) > 0 {
			return send()
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return res, err
	}
	if err := cfg.Store.FoldAll(ctx); err != nil {
		return res, fmt.Errorf("replay: %w", err)
	}
	return res, nil
}
