package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/afterword-io/afterword/internal/metrics"
	"github.com/afterword-io/afterword/internal/tracing"
)

// trace makes spans when the standard variables of OpenTelemetry say where they go.
// Nothing that is wrong with them keeps the service from its work.
func (b *builder) trace(env lookup) error {
	b.registry.MustRegister(metrics.Tracing(func() (s tracing.Stats) {
		if b.tracing != nil {
			s = b.tracing.Stats()
		}
		return s
	}))
	if on, why := tracesOn(env); !on {
		if why != "" {
			b.log.Warn("no traces", "reason", why)
		}
		return nil
	}
	to, err := tracing.OTLP(b.ctx)
	if err != nil {
		b.log.Warn("no traces", "reason", err)
		return nil
	}
	t, err := tracing.New(b.ctx, tracing.Config{
		Exporter: to, Service: "afterword-" + b.name, Version: thisBuild().Version, Logger: b.log,
	})
	if err != nil {
		return err
	}
	b.tracing = t
	b.onStop(partTracing, 100, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, b.drain/4) // a hung collector does not take the rest
		defer cancel()
		return t.Shutdown(ctx)
	})
	return nil
}

// tracesOn reports whether traces are asked for, and when they are in a way that
// this does not do, why not.
func tracesOn(env lookup) (on bool, why string) {
	get := func(name string) string {
		v, _ := env(name)
		return v
	}
	first := func(names ...string) string {
		for _, n := range names {
			if v := get(n); v != "" {
				return v
			}
		}
		return ""
	}
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") ||
		first("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") == "" {
		return false, ""
	}
	switch to := get("OTEL_TRACES_EXPORTER"); to {
	case "", "otlp":
	case "none":
		return false, ""
	default:
		return false, fmt.Sprintf("OTEL_TRACES_EXPORTER is %q: only otlp and none are known", to)
	}
	if by := first("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"); by != "" && by != "http/protobuf" {
		return false, fmt.Sprintf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: only http/protobuf is spoken", by)
	}
	return true, ""
}
