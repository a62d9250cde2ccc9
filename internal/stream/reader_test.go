package stream_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// A message that is longer than all that a reader asks for at one time is read, and what follows it.
func TestReaderOfLongMessages(t *testing.T) {
	js := jetStream(t, servertest.NATS(t).URL())
	ctx := t.Context()
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "LONG", Subjects: []string{"long"}}); err != nil {
		t.Fatal(err)
	}
	sizes := []int{10, 9_000, 10, 10, 3_900, 20_000, 5_000, 1}
	for _, size := range sizes {
		if _, err := js.Publish(ctx, "long", bytes.Repeat([]byte{'x'}, size)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := stream.OpenReader(ctx, js, "LONG", stream.ReaderConfig{Messages: 3, Bytes: 4_000, Request: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, size := range sizes {
		m, _, err := r.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Data()) != size {
			t.Errorf("%d bytes are read, want %d", len(m.Data()), size)
		}
	}
}
