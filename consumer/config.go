package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go/jetstream"
)

// Defaults of a [Config].
const (
	DefaultGroup         = "transcripts"
	DefaultBatchTurns    = 4000
	DefaultBatchBytes    = 16 << 20
	DefaultAckWait       = 15 * time.Second
	DefaultMaxAckPending = 20_000
	DefaultDrain         = 20 * time.Second
	DefaultWalkEvery     = 10 * time.Minute
	DefaultProbeMax      = 15 * time.Second
	DefaultDeliveries    = 10
)

// Refresher brings the cache up to date.
type Refresher interface {
	// Changed says that turns of sessions were acknowledged. It returns at once.
	Changed(sessions ...string)
	// ChangedWait is Changed for a walk: it waits for room instead of missing any.
	ChangedWait(ctx context.Context, sessions ...string) error
	// Flush waits until the cache has all of what it was told of.
	Flush(ctx context.Context) error
}

// Config says what to consume and where to put it. JS and Store are asked for.
type Config struct {
	JS    jetstream.JetStream
	Store *transcript.Store

	// Streams looks at the streams before the group is joined, and makes them if that is its
	// caller's business; nil is [stream.Ensure] with its defaults.
	Streams func(ctx context.Context) error

	// Group is the durable consumer that members share. 1 to 64 of [A-Za-z0-9_-].
	Group string
	// Machine tells this machine from others; "" asks the system.
	Machine string
	// Host and Version are shown to people: the one beside the machine's identity, both
	// of a [Member].
	Host, Version string
	// Exposed are the addresses on which this process listens and which other machines may reach, for
	// people to see: nobody is asked for credentials there.
	Exposed []string
	// Rebind takes the group over for this folder: it replays the stream into it
	// before the first fetch. For a lost disk.
	Rebind bool
	// Cache is told of changes; nil means there is none.
	Cache Refresher
	// OnWalked is told when a walk began that has refreshed all that it found in the cache, and whether
	// it was about all that the cache can hold (see [Consumer.Walk]).
	// It must not block. Nil tells nobody.
	OnWalked func(began time.Time, all bool)

	// BatchTurns and BatchBytes bound a batch. Three are under way at one time. The
	// size of turns that were not fetched yet is guessed from the last batch.
	BatchTurns int
	BatchBytes int
	// AckWait is when the server gives a turn to somebody else; at least twice the
	// store's file bound plus 5 s.
	AckWait       time.Duration
	MaxAckPending int
	// FileTimeout is the store's bound, against which AckWait is checked.
	FileTimeout time.Duration
	// Request bounds each request to the server; zero means what JS was made with.
	Request time.Duration
	// Drain bounds the end: what was fetched is made durable and acknowledged.
	Drain time.Duration
	// LookEvery is how often the durable consumer is looked at, and repaired if others changed it.
	LookEvery time.Duration
	// WalkEvery is how often the folder is walked.
	WalkEvery time.Duration
	// ProbeMax is the longest delay between two probes of a disk in trouble.
	ProbeMax time.Duration
	// Deliveries is how often a turn is tried whose session cannot be written,
	// before it becomes a dead letter.
	Deliveries int
	// PayloadLimit bounds the encoding of a turn, in bytes; 0 asks the server.
	PayloadLimit int

	// OnCommit, if set, is told of every batch that was made durable and acknowledged.
	// It returns at once.
	OnCommit func(Committed)
	// OnTraced, if set, is told of such a batch too, with what came with a trace context, before
	// the cache is told. It must not block.
	OnTraced func(*TracedBatch)

	Logger *slog.Logger
}

// Committed is a batch that is durable and acknowledged.
type Committed struct {
	Turns, Bytes int           // messages, and of their payloads
	Took         time.Duration // since the first of them was fetched
	Latency      time.Duration // since the oldest of them was stored, by the clocks of NATS and of this machine
}

func (c Config) withDefaults() Config {
	c.Group = cmp.Or(c.Group, DefaultGroup)
	c.BatchTurns = cmp.Or(c.BatchTurns, DefaultBatchTurns)
	c.BatchBytes = cmp.Or(c.BatchBytes, DefaultBatchBytes)
	c.AckWait = cmp.Or(c.AckWait, DefaultAckWait)
	c.MaxAckPending = cmp.Or(c.MaxAckPending, DefaultMaxAckPending)
	c.FileTimeout = cmp.Or(c.FileTimeout, transcript.DefaultFileTimeout)
	c.Request = stream.RequestBound(c.Request, c.JS)
	c.Drain = cmp.Or(c.Drain, DefaultDrain)
	c.LookEvery = cmp.Or(c.LookEvery, stream.DefaultWatchEvery)
	c.WalkEvery = cmp.Or(c.WalkEvery, DefaultWalkEvery)
	c.ProbeMax = cmp.Or(c.ProbeMax, DefaultProbeMax)
	c.Deliveries = cmp.Or(c.Deliveries, DefaultDeliveries)
	if c.Streams == nil {
		c.Streams = func(ctx context.Context) error { return stream.Ensure(ctx, c.JS, stream.StreamConfig{}) }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	if c.JS == nil || c.Store == nil {
		return errors.New("consumer: a JetStream context and a transcript store are needed")
	}
	if err := stream.CheckGroup(c.Group); err != nil {
		return err
	}
	if least := 2*c.FileTimeout + 5*time.Second; c.AckWait < least {
		return fmt.Errorf("consumer: an ack wait of %v is too short for a file bound of %v: it must be at least %v", c.AckWait, c.FileTimeout, least)
	}
	if c.BatchTurns < 1 || c.BatchBytes < 1 || c.MaxAckPending < c.BatchTurns {
		return fmt.Errorf("consumer: batches of %d turns and %d bytes do not go with %d unacknowledged turns", c.BatchTurns, c.BatchBytes, c.MaxAckPending)
	}
	return nil
}
