package tracing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/stream"
)

const (
	// tracedTurns bounds the spans of the turns of one batch: a large one must not be
	// held up by them. It is also how many links a span has at most.
	tracedTurns = 128
	// awaitedTurns bounds the commits of one session that one refresh ends.
	awaitedTurns = 8
)

// messaging are the attributes of all spans about the stream.
var messaging = []attribute.KeyValue{
	attribute.String("messaging.system", "nats"),
	attribute.String("messaging.destination.name", stream.Turns),
}

// awaited is a commit after which the cache has to be refreshed.
type awaited struct {
	span trace.SpanContext
	at   time.Time
}

// Publish begins the span of a turn that is published: it ends when the stream has it.
func (t *Tracing) Publish(ctx context.Context) (traceparent string, ended func(error)) {
	ctx, span := t.tracer.Start(ctx, "publish turn", trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(append(messaging[:len(messaging):len(messaging)], attribute.String("messaging.operation.type", "send"))...))
	if !span.SpanContext().IsValid() {
		return "", nil
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	if !span.IsRecording() { // not sampled, which others are to know
		return carrier.Get(stream.HeaderTraceparent), nil
	}
	return carrier.Get(stream.HeaderTraceparent), func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "not accepted")
		}
		span.End()
	}
}

// Committed makes the spans of a batch that was made durable and acknowledged: one of
// itself, and one in the trace of each turn. refresh says that the cache will be refreshed.
func (t *Tracing) Committed(c *consumer.TracedBatch, refresh bool) {
	var parents []trace.SpanContext
	var of []*consumer.Traced
	for i := range c.Traced {
		carrier := propagation.MapCarrier{stream.HeaderTraceparent: c.Traced[i].Traceparent}
		parent := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
		if parent.IsSampled() {
			parents, of = append(parents, parent), append(of, &c.Traced[i])
		}
		if len(parents) == tracedTurns {
			break
		}
	}
	if len(parents) == 0 {
		return
	}
	links := make([]trace.Link, len(parents))
	for i := range parents {
		links[i].SpanContext = parents[i]
	}
	now := time.Now()
	_, batch := t.tracer.Start(context.Background(), "commit batch", trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithTimestamp(c.Began), trace.WithLinks(links...), trace.WithAttributes(messaging...),
		trace.WithAttributes(attribute.String("messaging.operation.type", "process"), attribute.Int("messaging.batch.message_count", c.Turns)))
	for i, parent := range parents {
		_, span := t.tracer.Start(trace.ContextWithRemoteSpanContext(context.Background(), parent), "commit turn",
			trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(of[i].Fetched),
			trace.WithLinks(trace.Link{SpanContext: batch.SpanContext()}), trace.WithAttributes(messaging...),
			trace.WithAttributes(attribute.String("messaging.operation.type", "process"), attribute.Int64("afterword.stream.sequence", int64(of[i].Sequence))))
		span.End(trace.WithTimestamp(now))
		if refresh && span.SpanContext().IsSampled() {
			t.await(of[i].Session, awaited{span.SpanContext(), now})
		}
	}
	batch.End(trace.WithTimestamp(now))
}

func (t *Tracing) await(session string, a awaited) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before, _ := t.waiting.Get(session)
	if len(before) < awaitedTurns {
		t.waiting.Add(session, append(before, a))
	}
}

// Refreshed makes the spans of a session that Redis has now, or did not take.
func (t *Tracing) Refreshed(session string, err error) {
	t.mu.Lock()
	all, ok := t.waiting.Get(session)
	t.waiting.Remove(session)
	t.mu.Unlock()
	if !ok {
		return
	}
	now := time.Now()
	for _, a := range all {
		_, span := t.tracer.Start(trace.ContextWithSpanContext(context.Background(), a.span), "refresh cache", trace.WithTimestamp(a.at),
			trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("db.system.name", "redis")))
		if err != nil {
			span.SetStatus(codes.Error, "not refreshed, it is tried again")
		}
		span.End(trace.WithTimestamp(now))
	}
}
