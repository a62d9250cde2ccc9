package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	scope = "github.com/afterword-io/afterword"
	// waitingSessions bounds the sessions whose refresh is awaited; what is awaited longest
	// is given up.
	waitingSessions = 10_000
)

// Config says who makes spans, and where they go. Exporter is asked for.
type Config struct {
	Exporter sdk.SpanExporter
	// Service and Version name this process, unless OTEL_SERVICE_NAME or
	// OTEL_RESOURCE_ATTRIBUTES do.
	Service, Version string
	// Logger gets a line when the collector stops or resumes taking spans. Nil discards it.
	Logger *slog.Logger
}

// OTLP sends spans over HTTP, as the OTEL_EXPORTER_OTLP_ variables say.
func OTLP(ctx context.Context) (sdk.SpanExporter, error) { return otlptracehttp.New(ctx) }

// Tracing makes spans. It is safe for concurrent use.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	export   *exporter
	spans    atomic.Uint64

	mu      sync.Mutex
	waiting *simplelru.LRU[string, []awaited] // commits whose session is not refreshed yet
}

// Stats is what became of spans since the start; the others wait, or were dropped
// because too many did.
type Stats struct{ Ended, Exported, Failed uint64 }

// New starts tracing. The caller shuts it down. Sampling, limits and queue are those of the SDK,
// which takes them from the environment.
func New(ctx context.Context, cfg Config) (*Tracing, error) {
	if cfg.Exporter == nil {
		return nil, errors.New("tracing: Config.Exporter is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", cfg.Service), attribute.String("service.version", cfg.Version)),
		resource.WithTelemetrySDK(), resource.WithHost(), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("tracing: describe this process: %w", err)
	}
	waiting, err := simplelru.NewLRU[string, []awaited](waitingSessions, nil)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	t := &Tracing{export: &exporter{to: cfg.Exporter, log: cfg.Logger}, waiting: waiting}
	t.provider = sdk.NewTracerProvider(sdk.WithResource(about),
		sdk.WithSpanProcessor(counter{&t.spans}), sdk.WithBatcher(t.export))
	t.tracer = t.provider.Tracer(scope, trace.WithInstrumentationVersion(cfg.Version))
	return t, nil
}

// Tracer makes spans of requests.
func (t *Tracing) Tracer() trace.Tracer { return t.tracer }

// Stats returns the figures so far.
func (t *Tracing) Stats() Stats {
	return Stats{t.spans.Load(), t.export.exported.Load(), t.export.failed.Load()}
}

// Shutdown sends what is queued, and ends when ctx does at the latest.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("send the last spans: %w", err)
	}
	return nil
}
