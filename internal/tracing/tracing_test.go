package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/afterword-io/afterword/consumer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newTracing(t *testing.T, to sdk.SpanExporter, log *bytes.Buffer) *Tracing {
	t.Helper()
	tr, err := New(t.Context(), Config{Exporter: to, Service: "test", Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Shutdown(context.Background()) })
	return tr
}

// kept is an exporter that keeps spans, or fails.
type kept struct {
	*tracetest.InMemoryExporter
	fail error
}

func (k *kept) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if k.fail != nil {
		return k.fail
	}
	return k.InMemoryExporter.ExportSpans(ctx, spans)
}

func (k *kept) count(name string) (n int) {
	for _, s := range k.GetSpans() {
		if s.Name == name {
			n++
		}
	}
	return n
}

// A large batch costs no more spans than a bounded number, and a refresh no more than
// the commits of its session that are remembered.
func TestBounds(t *testing.T) {
	to := &kept{InMemoryExporter: tracetest.NewInMemoryExporter()}
	tr := newTracing(t, to, &bytes.Buffer{})
	c := &consumer.TracedBatch{Began: time.Now(), Turns: 4000}
	for i := range 4000 {
		c.Traced = append(c.Traced, consumer.Traced{
			Traceparent: fmt.Sprintf("00-%032x-%016x-01", i+1, i+1), Session: "s", Sequence: uint64(i), Fetched: c.Began,
		})
	}
	c.Traced[0].Traceparent = "no trace context"
	tr.Committed(c, true)
	tr.Refreshed("s", errors.New("down"))
	tr.Refreshed("s", nil)
	tr.Committed(&consumer.TracedBatch{Began: time.Now(), Turns: 1}, true) // nobody traces it
	if err := tr.provider.ForceFlush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b, turns, r := to.count("commit batch"), to.count("commit turn"), to.count("refresh cache"); b != 1 || turns != tracedTurns || r != awaitedTurns {
		t.Errorf("%d batches, %d turns, %d refreshes", b, turns, r)
	}
	for _, s := range to.GetSpans() {
		if s.Name == "commit batch" && len(s.Links) != tracedTurns {
			t.Errorf("%d links", len(s.Links))
		}
		if (s.Name == "refresh cache") != (s.Status.Code == codes.Error) {
			t.Errorf("%s has status %v", s.Name, s.Status)
		}
	}
}

// A collector in trouble is a line in the log when that begins, and one when it is over.
func TestCollectorInTrouble(t *testing.T) {
	var log bytes.Buffer
	to := &kept{InMemoryExporter: tracetest.NewInMemoryExporter(), fail: errors.New("refused")}
	tr := newTracing(t, to, &log)
	publish := func() {
		t.Helper()
		parent, ended := tr.Publish(t.Context())
		if len(parent) != 55 || ended == nil {
			t.Fatalf("traceparent %q", parent)
		}
		ended(nil)
		if err := tr.provider.ForceFlush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	publish()
	publish()
	to.fail = nil
	publish()
	publish()
	if got := tr.Stats(); got != (Stats{Ended: 4, Exported: 2, Failed: 2}) {
		t.Errorf("%+v", got)
	}
	if text := log.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "refused") || !strings.Contains(text, "takes spans again") {
		t.Errorf("log:\n%s", text)
	}
}
