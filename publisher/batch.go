package publisher

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

const (
	// A batch costs a single server some 3 ms and every turn in it 0.02 ms; a turn by
	// itself costs 0.2 ms (one fsync each). So few turns are faster one by one.
	minBatch      = 16
	maxBatch      = 500 // the server's default limit is 1,000; more is not faster
	maxBatchBytes = 2 << 20
	batchesAtOnce = 4 // in flight; a quarter of the window each

	// aloneAtOnce is how many turns are in flight by themselves before those that come wait
	// to go together. Where a sync takes 4 ms, a full window of them would be a queue of two
	// seconds: at 1,000 turns a second half of all waited 0.8 s to be durable.
	aloneAtOnce = 4

	// gatherFor bounds how long a turn waits for others while an earlier one is in flight.
	gatherFor = 2 * time.Millisecond
	// withoutBatches is how long nothing is sent in batches when the stream takes none.
	withoutBatches = time.Minute
)

// Headers of atomic batches, and the server's codes for refusing one.
const (
	headerBatchID     = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"

	batchDisabled      jetstream.ErrorCode = 10174
	batchTooLarge      jetstream.ErrorCode = 10199
	batchHasDuplicate  jetstream.ErrorCode = 10201
	duplicateInProcess jetstream.ErrorCode = 10158
)

// errNotOneBatch is an acknowledgement that is not of a whole batch: the server
// is too old to know them, and took each message by itself, or none.
var errNotOneBatch = errors.New("the server did not acknowledge the batch as one")

// batches sends groups of turns as atomic batches: all of a group is stored, with
// one fsync, or nothing. It belongs to the sender's goroutine.
//
// A batch that the server refuses is not analysed: its turns are sent again one by
// one, and that tells which of them is a duplicate or at fault.
type batches struct {
	nc      *nats.Conn
	results *results
	limit   int // the most turns in a batch by configuration; below minBatch there are none

	sub    *nats.Subscription
	inbox  string // with a dot at the end
	name   string // of this publisher, in the ids of its batches
	header nats.Header

	last   uint64
	flying []*batch // in the order in which they were sent
	turns  int      // in them
	size   int      // limit, or what the server takes
	paused time.Time
	pause  *backoff.ExponentialBackOff
}

type batch struct {
	number  uint64
	entries []*entry
	sent    time.Time
}

func newBatches(cfg *Config, r *results) *batches {
	limit := min(maxBatch, cfg.Window/batchesAtOnce)
	return &batches{
		nc: cfg.Conn, results: r, limit: limit, size: limit, pause: cfg.backoff(),
		header: nats.Header{headerBatchID: {""}, headerBatchSeq: {""}, stream.HeaderMsgID: {""}},
	}
}

// usable reports whether turns may be sent in batches now.
func (b *batches) usable(now time.Time) bool { return b.size >= minBatch && !now.Before(b.paused) }

// reset forgets what was learned about the server: it may be another one now.
func (b *batches) reset() {
	b.size, b.paused = b.limit, time.Time{}
	b.pause.Reset()
}

// learn draws conclusions from how a batch ended.
func (b *batches) learn(err error, now time.Time) {
	var api *jetstream.APIError
	code := jetstream.ErrorCode(0)
	if errors.As(err, &api) {
		code = api.ErrorCode
	}
	switch {
	case err == nil:
		b.pause.Reset()
	case code == batchDisabled, errors.Is(err, errNotOneBatch):
		b.paused = now.Add(withoutBatches)
	case code == batchTooLarge && b.size > minBatch:
		b.size = max(b.size/2, minBatch)
	case code == batchHasDuplicate, code == duplicateInProcess:
	default:
		b.paused = now.Add(b.pause.NextBackOff())
	}
}

// send publishes a group as one batch and returns it; an error means that it
// was not sent whole, so that the server drops what it has of it.
func (b *batches) send(group []*entry, now time.Time) (*batch, error) {
	b.last++
	sent := &batch{number: b.last, entries: append([]*entry(nil), group...), sent: now}
	if err := b.listen(); err != nil {
		return sent, err
	}
	number := strconv.FormatUint(b.last, 10)
	b.header[headerBatchID][0] = b.name + "-" + number
	for i, e := range group {
		b.header[headerBatchSeq][0] = strconv.Itoa(i + 1)
		b.header[stream.HeaderMsgID][0] = e.messageID()
		delete(b.header, stream.HeaderTraceparent)
		if e.traceparent != "" {
			b.header[stream.HeaderTraceparent] = []string{e.traceparent}
		}
		m := nats.Msg{Subject: stream.TurnSubject(e.snap.SessionID), Header: b.header, Data: e.snap.Payload()}
		if i == len(group)-1 {
			b.header[headerBatchCommit] = []string{"1"}
			m.Reply = b.inbox + number
		}
		err := b.nc.PublishMsg(&m) // encodes at once, so that the header can be used again
		delete(b.header, headerBatchCommit)
		if err != nil {
			return sent, fmt.Errorf("publish turn %d of a batch of %d: %w", i+1, len(group), err)
		}
	}
	b.flying = append(b.flying, sent)
	b.turns += len(sent.entries)
	return sent, nil
}

// listen subscribes to acknowledgements.
func (b *batches) listen() error {
	if b.sub != nil {
		return nil
	}
	inbox := b.nc.NewInbox()
	sub, err := b.nc.Subscribe(inbox+".*", b.acknowledged)
	if err != nil {
		return fmt.Errorf("subscribe to acknowledgements: %w", err)
	}
	b.sub, b.inbox, b.name = sub, inbox+".", inbox[strings.LastIndexByte(inbox, '.')+1:]
	return nil
}

func (b *batches) close() {
	if b.sub != nil {
		_ = b.sub.Unsubscribe() // fails only when the connection is closed
	}
}

// acknowledged runs on a goroutine of nats.go; it only enqueues.
func (b *batches) acknowledged(m *nats.Msg) {
	number, err := strconv.ParseUint(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], 10, 64)
	if err != nil {
		return // nobody else knows the subject
	}
	b.results.put(result{batch: number, err: batchError(m)})
}

func batchError(m *nats.Msg) error {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return jetstream.ErrNoStreamResponse
	}
	var ack struct {
		Error *jetstream.APIError `json:"error"`
		Batch string              `json:"batch"`
	}
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return jetstream.ErrInvalidJSAck
	}
	if ack.Error != nil {
		return ack.Error
	}
	if ack.Batch == "" {
		return errNotOneBatch
	}
	return nil
}

// take removes a batch from those in flight; nil when it has ended before.
func (b *batches) take(number uint64) *batch {
	for i, f := range b.flying {
		if f.number == number {
			b.flying = append(b.flying[:i], b.flying[i+1:]...)
			b.turns -= len(f.entries)
			return f
		}
	}
	return nil
}

// late returns how long until the first batch in flight has used up timeout.
func (b *batches) late(timeout time.Duration) time.Duration {
	if len(b.flying) == 0 {
		return upkeepEvery
	}
	return max(0, time.Until(b.flying[0].sent.Add(timeout)))
}
