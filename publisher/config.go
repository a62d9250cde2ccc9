package publisher

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/transcript"
)

// Defaults of [Config].
const (
	DefaultBufferTurns   = 100_000
	DefaultBufferBytes   = 256 << 20
	DefaultWindow        = 2000
	DefaultAckTimeout    = 5 * time.Second
	DefaultRetryMin      = 100 * time.Millisecond
	DefaultRetryMax      = 30 * time.Second
	DefaultClockSessions = 100_000
	DefaultSettleFor     = 5 * time.Minute
	DefaultSettleTurns   = 50_000
	DefaultSettleBytes   = 64 << 20
	DefaultSpoolMaxBytes = 1 << 30
	DefaultSpoolTimeout  = 5 * time.Second
)

// Config says how to publish. Only Conn is asked for; zero means the default.
type Config struct {
	// Conn is the connection to publish over; it stays the caller's, to be closed after
	// the publisher. It should buffer nothing while it is disconnected
	// (nats.ReconnectBufSize(-1)) and reconnect for ever.
	Conn *nats.Conn
	// JetStream reads back, over Conn, what the stream says it has already. Nil uses the API of
	// the connection's own account; it is needed where the stream is in another domain or account.
	JetStream jetstream.JetStream
	// Logger gets a line when the stream stops or resumes taking turns, and one for
	// each turn that is refused while others are taken. Nil discards them.
	Logger *slog.Logger

	// BufferTurns and BufferBytes (of payload) bound the turns that are not stored
	// yet, those in flight included. BufferBytes is at least MaxPayload.
	BufferTurns int
	BufferBytes int64
	// Window is how many turns wait for their acknowledgement at a time. A quarter of it
	// bounds one atomic batch, and the turns that are sent one by one.
	Window int
	// AckTimeout is how long an acknowledgement may take before the turn is sent again.
	AckTimeout time.Duration
	// RetryMin and RetryMax bound the backoff between tries.
	RetryMin, RetryMax time.Duration
	// MaxPayload bounds the encoding of a turn, in bytes; 0 means what the connected server
	// allows: its max_payload less 16 KiB, [transcript.MaxPayload] until it is known. That,
	// BufferBytes and half of SpoolMaxBytes bound it in any case.
	MaxPayload int
	// MaxMsgSize, if set, returns what the streams allow a message to be, in bytes; 0 means no
	// limit of their own. It is asked now and then on the publishing goroutine, and must not block.
	MaxMsgSize func() int64

	// SpoolDir is a folder of this publisher alone in which turns are kept until they are
	// stored; "" means no spool. See the package comment.
	SpoolDir string
	// SpoolMaxBytes bounds its files. It is at least twice MaxPayload.
	SpoolMaxBytes int64
	// SpoolTimeout is how long its disk may take to answer before New goes on without it,
	// and before it is reported as hung.
	SpoolTimeout time.Duration

	// ClockSessions is for how many sessions the last timestamp is remembered.
	ClockSessions int
	// SettleFor, SettleTurns and SettleBytes bound how long, and how many, stored turns
	// stay in Pending when nobody settles them; the oldest go first.
	SettleFor   time.Duration
	SettleTurns int
	SettleBytes int64

	// Now is the wall clock of timestamps; nil means time.Now. Ages and waits
	// are measured with the monotonic clock, whatever this says.
	Now func() time.Time
	// NewID makes the id of a turn without one; nil means UUIDv7. It is called concurrently.
	NewID func() string
	// Trace, if set, gives the W3C trace context of a call, for the header "traceparent" ("" means
	// none), and what is told how it ended (nil means nothing): with nil when the stream has the
	// turn, with the error when it was not accepted. A turn that leaves memory for the spool
	// is not heard of again. Both must not block: they run inside Publish and on the publishing goroutine.
	Trace func(context.Context) (traceparent string, ended func(error))
	// OnStored, if set, is told for every stored turn how long that took since it was
	// accepted. It runs on the publishing goroutine and must not block.
	OnStored func(took time.Duration)
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&c.BufferTurns, DefaultBufferTurns)
	orDefault(&c.BufferBytes, DefaultBufferBytes)
	orDefault(&c.Window, DefaultWindow)
	orDefault(&c.AckTimeout, DefaultAckTimeout)
	orDefault(&c.RetryMin, DefaultRetryMin)
	orDefault(&c.RetryMax, DefaultRetryMax)
	orDefault(&c.ClockSessions, DefaultClockSessions)
	orDefault(&c.SettleFor, DefaultSettleFor)
	orDefault(&c.SettleTurns, DefaultSettleTurns)
	orDefault(&c.SettleBytes, DefaultSettleBytes)
	orDefault(&c.SpoolMaxBytes, DefaultSpoolMaxBytes)
	orDefault(&c.SpoolTimeout, DefaultSpoolTimeout)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.NewID == nil {
		c.NewID = newUUID
	}
	return c
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c *Config) validate() error {
	if c.Conn == nil {
		return errors.New("publisher: Config.Conn is missing")
	}
	for _, f := range [...]struct {
		name  string
		value int64
	}{
		{"BufferTurns", int64(c.BufferTurns)}, {"BufferBytes", c.BufferBytes}, {"Window", int64(c.Window)},
		{"AckTimeout", int64(c.AckTimeout)}, {"RetryMin", int64(c.RetryMin)}, {"RetryMax", int64(c.RetryMax)},
		{"MaxPayload", int64(c.MaxPayload)}, {"ClockSessions", int64(c.ClockSessions)},
		{"SettleFor", int64(c.SettleFor)}, {"SettleTurns", int64(c.SettleTurns)}, {"SettleBytes", c.SettleBytes},
		{"SpoolMaxBytes", c.SpoolMaxBytes}, {"SpoolTimeout", int64(c.SpoolTimeout)},
	} {
		if f.value < 0 {
			return fmt.Errorf("publisher: Config.%s is negative", f.name)
		}
	}
	if c.RetryMin > c.RetryMax {
		return fmt.Errorf("publisher: Config.RetryMin %s is over RetryMax %s", c.RetryMin, c.RetryMax)
	}
	longest := cmp.Or(c.MaxPayload, transcript.MaxPayload)
	if c.BufferBytes < int64(longest) {
		return fmt.Errorf("publisher: Config.BufferBytes %d is under MaxPayload %d, so the longest turns could never be accepted", c.BufferBytes, longest)
	}
	if c.SpoolDir != "" && c.SpoolMaxBytes < 2*int64(longest) {
		return fmt.Errorf("publisher: Config.SpoolMaxBytes %d is under twice MaxPayload %d, so the longest turns could never be spooled", c.SpoolMaxBytes, longest)
	}
	return nil
}

// backoff returns a new jittered exponential backoff that never ends.
func (c *Config) backoff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(c.RetryMin),
		backoff.WithMaxInterval(c.RetryMax),
		backoff.WithMultiplier(2),
		backoff.WithMaxElapsedTime(0))
}

// newUUID returns a UUIDv7. It is [uuid.NewV7] without the allocation of its bytes.
func newUUID() string {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(time.Now().UnixMilli()))
	var u uuid.UUID
	copy(u[:6], at[2:])
	_, _ = rand.Read(u[6:]) // never fails
	u[6] = u[6]&0x0f | 0x70 // version 7
	u[8] = u[8]&0x3f | 0x80 // RFC 9562
	return u.String()
}
