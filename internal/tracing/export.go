package tracing

import (
	"context"
	"log/slog"
	"sync/atomic"

	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// exporter sends spans, and says when that begins to fail and when it works again. The SDK
// calls it one batch at a time.
type exporter struct {
	to      sdk.SpanExporter
	log     *slog.Logger
	failing atomic.Bool

	exported, failed atomic.Uint64
}

// ExportSpans implements [sdk.SpanExporter]. A failure is logged here, and so is none for
// the SDK, which would print it.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.to.ExportSpans(ctx, spans)
	if err != nil {
		e.failed.Add(uint64(len(spans)))
		if !e.failing.Swap(true) {
			e.log.Warn("the collector does not take spans, they are dropped", "error", err)
		}
		return nil
	}
	e.exported.Add(uint64(len(spans)))
	if e.failing.Swap(false) {
		e.log.Info("the collector takes spans again")
	}
	return nil
}

// Shutdown implements [sdk.SpanExporter].
func (e *exporter) Shutdown(ctx context.Context) error { return e.to.Shutdown(ctx) }

// counter counts spans that end.
type counter struct{ n *atomic.Uint64 }

func (c counter) OnStart(context.Context, sdk.ReadWriteSpan) {}
func (c counter) OnEnd(sdk.ReadOnlySpan)                     { c.n.Add(1) }
func (c counter) Shutdown(context.Context) error             { return nil }
func (c counter) ForceFlush(context.Context) error           { return nil }
