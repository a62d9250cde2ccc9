package publisher_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

func benchTurn() transcript.Turn {
	return transcript.Turn{User: strings.Repeat("q", 300), Assistant: strings.Repeat("a", 600), Model: "m"}
}

var benchSessions = func() (list []string) {
	for i := range 1000 {
		list = append(list, fmt.Sprintf("session-%d", i))
	}
	return list
}()

func benchPublisher(b *testing.B, up bool) *publisher.Publisher {
	srv := servertest.NATS(b)
	nc, err := stream.Connect(b.Context(), stream.Config{URL: srv.URL()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	if err := stream.Ensure(b.Context(), js, stream.StreamConfig{}); err != nil {
		b.Fatal(err)
	}
	p, err := publisher.New(publisher.Config{Conn: nc, BufferTurns: 10_000_000, BufferBytes: 16 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		p.Close(ctx)
	})
	if !up {
		srv.Stop()
	}
	return p
}

// BenchmarkPublish measures one call, as a chat API sees it, while nothing
// leaves the buffer (down) and while the sender competes for the processor (up).
func BenchmarkPublish(b *testing.B) {
	for _, up := range []bool{false, true} {
		name := "server down"
		if up {
			name = "server up"
		}
		b.Run(name, func(b *testing.B) {
			p := benchPublisher(b, up)
			turn, i := benchTurn(), 0
			took := make([]time.Duration, 0, 1<<20)
			b.ReportAllocs()
			for b.Loop() {
				turn.SessionID = benchSessions[i%len(benchSessions)]
				i++
				began := time.Now()
				if _, err := p.Publish(b.Context(), turn); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*999/1000].Nanoseconds()), "ns-p99.9")
			b.ReportMetric(float64(took[len(took)-1].Nanoseconds()), "ns-max")
		})
	}
}

// BenchmarkEncode is the part of Publish that is not the publisher's.
func BenchmarkEncode(b *testing.B) {
	turn := benchTurn()
	turn.SessionID = "session-1"
	b.ReportAllocs()
	for b.Loop() {
		d, err := turn.Draft()
		if err != nil {
			b.Fatal(err)
		}
		d.ID = "0198a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
		d.SetTimestamp(1)
		if _, err := d.Snapshot(0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStore measures how fast turns reach the stream, every one synced to disk.
func BenchmarkStore(b *testing.B) {
	p := benchPublisher(b, true)
	turn, i := benchTurn(), 0
	var last *publisher.Receipt
	b.ReportAllocs()
	for b.Loop() {
		turn.SessionID = benchSessions[i%len(benchSessions)]
		i++
		var err error
		if last, err = p.Publish(b.Context(), turn); err != nil {
			b.Fatal(err)
		}
		if i%256 == 0 {
			<-last.Stored()
		}
	}
	<-last.Stored()
	b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "turns/s")
}
