package consumer

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go/jetstream"
)

// BenchmarkDrain drains a preloaded stream of 1 KiB turns until everything is
// durable and acknowledged, folding on, and compares it with fetch and ack alone.
func BenchmarkDrain(b *testing.B) {
	const turns, sessions = 60_000, 3000
	srv := servertest.NATS(b)
	nc, err := stream.Connect(b.Context(), stream.Config{URL: srv.URL()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		b.Fatal(err)
	}
	if err := stream.Ensure(b.Context(), js, stream.StreamConfig{}); err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat("lorem ipsum ", 35)
	for n := range turns {
		turn := transcript.Turn{SessionID: fmt.Sprintf("session-%d", n*7919%sessions), ID: fmt.Sprintf("turn-%08d", n),
			Timestamp: time.Unix(1.7e9, int64(n)*1000), User: text, Assistant: text}
		d, err := turn.Draft()
		if err != nil {
			b.Fatal(err)
		}
		s, err := d.Snapshot(0)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := js.PublishAsync(stream.TurnSubject(s.SessionID), s.Payload(), jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		b.Fatal("preload timed out")
	}
	b.Run("floor", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			cons, err := js.CreateConsumer(b.Context(), stream.Turns, jetstream.ConsumerConfig{Durable: fmt.Sprintf("floor%d-%d", b.N, n), AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: DefaultMaxAckPending})
			if err != nil {
				b.Fatal(err)
			}
			for got := 0; got < turns; {
				batch, err := cons.FetchNoWait(DefaultBatchTurns)
				if err != nil {
					b.Fatal(err)
				}
				for m := range batch.Messages() {
					_ = m.Ack()
					got++
				}
			}
			_ = nc.Flush()
		}
		b.ReportMetric(float64(turns*b.N)/b.Elapsed().Seconds(), "turns/s")
	})
	b.Run("consumer", func(b *testing.B) {
		for n := 0; b.Loop(); n++ {
			b.StopTimer()
			store, err := transcript.Open(transcript.Config{Dir: filepath.Join(b.TempDir(), "transcripts")})
			if err != nil {
				b.Fatal(err)
			}
			c, err := New(Config{JS: js, Store: store, Group: fmt.Sprintf("bench%d-%d", b.N, n)})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			b.StartTimer()
			done := make(chan error, 1)
			go func() { done <- c.Run(ctx) }()
			servertest.Eventually(b, time.Minute, "drained", func() bool { return c.Stats().Acked == turns })
			b.StopTimer()
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			if err := store.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		b.ReportMetric(float64(turns*b.N)/b.Elapsed().Seconds(), "turns/s")
	})
}
