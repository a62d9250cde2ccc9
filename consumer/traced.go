package consumer

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/stream"
)

// TracedBatch is a batch that is durable and acknowledged, for who traces turns.
type TracedBatch struct {
	Began  time.Time // when the first of its turns was fetched
	Turns  int
	Traced []Traced // those that came with a trace context
}

// Traced is a turn that came with a trace context.
type Traced struct {
	Traceparent string // as it came
	Session     string
	Sequence    uint64 // in the stream
	Fetched     time.Time
}

// tellTraced tells of a batch who traces turns.
func (p *pipeline) tellTraced(b *batch) {
	if p.cfg.OnTraced == nil {
		return
	}
	c := TracedBatch{Began: b.items[0].at, Turns: len(b.items)}
	for i := range b.items {
		it := &b.items[i]
		if it.at.Before(c.Began) {
			c.Began = it.at
		}
		parent := traceparent(it.msg.Headers())
		if parent == "" {
			continue
		}
		t := Traced{Traceparent: parent, Session: it.turn.SessionID, Fetched: it.at}
		if meta, err := it.msg.Metadata(); err == nil {
			t.Sequence = meta.Sequence.Stream
		}
		c.Traced = append(c.Traced, t)
	}
	p.cfg.OnTraced(&c)
}

// traceparent reads the header in any case, as other publishers may write it.
func traceparent(h nats.Header) string {
	if v := h[stream.HeaderTraceparent]; len(v) > 0 {
		return v[0]
	}
	for name, v := range h {
		if len(v) > 0 && strings.EqualFold(name, stream.HeaderTraceparent) {
			return v[0]
		}
	}
	return ""
}
