package gateway

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// untraced are the routes whose requests say nothing about turns, or do not end.
var untraced = map[string]bool{
	"": true, "/healthz": true, "/readyz": true, "/metrics": true, "/openapi.json": true, "/v1/events": true,
}

// span begins the span of a request, in the trace of who sent it. It is nil where nobody traces.
func (g *Gateway) span(r *http.Request, pattern string) (*http.Request, trace.Span) {
	if g.cfg.Tracer == nil || untraced[pattern] {
		return r, nil
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := g.cfg.Tracer.Start(ctx, r.Method+" "+pattern, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("http.route", pattern)))
	return r.WithContext(ctx), span
}

// endSpan ends it with the status that was answered.
func endSpan(span trace.Span, status int) {
	if span == nil {
		return
	}
	span.SetAttributes(attribute.Int("http.response.status_code", status))
	if status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, http.StatusText(status))
	}
	span.End()
}
