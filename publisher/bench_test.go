package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

const (
	benchTurns  = 20_000 // stored in one round
	benchRounds = 5
	benchBatch  = 500 // turns in a raw batch, and what the publisher sends at most
	benchDepth  = 4   // raw batches in flight, as many as the publisher has
	benchFor    = 5 * time.Second
)

func benchTurn() transcript.Turn {
	return transcript.Turn{User: strings.Repeat("q", 300), Assistant: strings.Repeat("a", 500), Model: "m"}
}

var benchSessions = func() (list []string) {
	for i := range 1000 {
		list = append(list, fmt.Sprintf("session-%d", i))
	}
	return list
}()

// BenchmarkEncode is the part of Publish that is not the publisher's.
func BenchmarkEncode(b *testing.B) {
	turn := benchTurn()
	turn.SessionID = "session-1"
	b.ReportAllocs()
	for b.Loop() {
		encode(b, turn)
	}
}

func encode(b *testing.B, turn transcript.Turn) {
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

// BenchmarkPublish is one call alone: the server is down, so that nothing else runs.
func BenchmarkPublish(b *testing.B) {
	w := newBenchWorld(b, 1)
	p := w.publisher(func(c *publisher.Config) { c.BufferTurns, c.BufferBytes = 50_000_000, 64<<30 })
	w.nodes[0].Stop()
	turn, i := benchTurn(), 0
	b.ReportAllocs()
	for b.Loop() {
		turn.SessionID = benchSessions[i%len(benchSessions)]
		i++
		if _, err := p.Publish(b.Context(), turn); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPublishCall measures how long callers are held up: at 1,000 calls a
// second, while the publisher stores as fast as it can, and under each fault. floor is what the machine
// and its other work cost: encoding as much, and waking a goroutine, in every second call's place.
func BenchmarkPublishCall(b *testing.B) {
	const paced = time.Millisecond / 2 // every second one publishes
	for _, c := range []struct {
		name  string
		every time.Duration // 0: as fast as turns are stored
		fault func(*benchWorld)
	}{
		{"healthy", paced, func(*benchWorld) {}},
		{"saturated", 0, func(*benchWorld) {}},
		{"stopped", paced, func(w *benchWorld) { w.nodes[0].Stop() }},
		{"hung", paced, func(w *benchWorld) { w.nodes[0].Hang() }},
		{"full", paced, func(w *benchWorld) { w.tune(func(c *jetstream.StreamConfig) { c.MaxMsgs = 100 }) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newBenchWorld(b, 1)
			for range b.N {
				p := w.publisher(nil)
				turn := benchTurn()
				warm := time.Now() // the first second is not measured
				var calls, floor []time.Duration
				woken := make(chan struct{}, 1)
				go func() {
					for range woken {
					}
				}()
				defer close(woken)
				tick := time.NewTicker(max(c.every, time.Microsecond))
				defer tick.Stop()
				began := false
				for i := 0; time.Since(warm) < benchFor+time.Second; i++ {
					if c.every > 0 {
						<-tick.C
					}
					turn.SessionID = benchSessions[i%len(benchSessions)]
					from := time.Now()
					if i%2 == 1 {
						encode(b, turn)
						select {
						case woken <- struct{}{}:
						default:
						}
						floor = append(floor, time.Since(from))
						continue
					}
					_, err := p.Publish(b.Context(), turn)
					took := time.Since(from)
					if errors.Is(err, publisher.ErrOverflow) {
						time.Sleep(time.Millisecond) // hundreds of turns of room again
						continue
					}
					if err != nil {
						b.Fatal(err)
					}
					if time.Since(warm) < time.Second {
						continue
					}
					if !began {
						began = true
						c.fault(w)
						continue
					}
					calls = append(calls, took)
				}
				reportTimes(b, "", calls)
				reportTimes(b, "floor-", floor)
			}
			w.nodes[0].Resume()
		})
	}
}

func reportTimes(b *testing.B, name string, took []time.Duration) {
	slices.Sort(took)
	at := func(perMille int) float64 {
		return float64(took[min(len(took)-1, len(took)*perMille/1000)].Nanoseconds()) / 1000
	}
	b.ReportMetric(at(500), name+"p50-µs")
	b.ReportMetric(at(999), name+"p99.9-µs")
	b.ReportMetric(at(1000), name+"max-µs")
}

// BenchmarkStored compares how fast turns become stored with raw nats.go, in
// turns: the same payloads, subjects and message ids; every one synced to disk.
func BenchmarkStored(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprintf("nodes=%d", nodes), func(b *testing.B) {
			w := newBenchWorld(b, nodes)
			for range b.N {
				var async, batches, own, overAsync, overBatches []float64
				for range benchRounds {
					w.round++
					x, y, z := w.rawAsync(w.payloads("async")), w.rawBatches(w.payloads("batch")), w.own()
					async, batches, own = append(async, x), append(batches, y), append(own, z)
					overAsync, overBatches = append(overAsync, z/x), append(overBatches, z/y)
				}
				b.ReportMetric(median(async), "raw-async/s")
				b.ReportMetric(median(batches), "raw-batches/s")
				b.ReportMetric(median(own), "publisher/s")
				b.ReportMetric(median(overAsync), "x-async")
				b.ReportMetric(median(overBatches), "x-batches")
			}
		})
	}
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// benchWorld is one or three nats-server processes, and a connection.
type benchWorld struct {
	b     *testing.B
	nodes []*servertest.NATSNode
	nc    *nats.Conn
	js    jetstream.JetStream
	round int
}

func newBenchWorld(b *testing.B, nodes int) *benchWorld {
	w := &benchWorld{b: b}
	if nodes == 1 {
		w.nodes = append(w.nodes, servertest.NATSProcess(b))
	} else {
		w.nodes = servertest.NATSCluster(b, nodes)
	}
	var urls []string
	for _, n := range w.nodes {
		urls = append(urls, n.URL())
	}
	var err error
	if w.nc, err = stream.Connect(b.Context(), stream.Config{URL: strings.Join(urls, ",")}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.nc.Close)
	if w.js, err = jetstream.New(w.nc); err != nil {
		b.Fatal(err)
	}
	if err := stream.Ensure(b.Context(), w.js, stream.StreamConfig{Replicas: nodes}); err != nil {
		b.Fatal(err)
	}
	return w
}

func (w *benchWorld) publisher(set func(*publisher.Config)) *publisher.Publisher {
	cfg := publisher.Config{Conn: w.nc}
	if set != nil {
		set(&cfg)
	}
	p, err := publisher.New(cfg)
	if err != nil {
		w.b.Fatal(err)
	}
	w.b.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		p.Close(ctx)
	})
	return p
}

func (w *benchWorld) tune(set func(*jetstream.StreamConfig)) {
	s, err := w.js.Stream(w.b.Context(), stream.Turns)
	if err != nil {
		w.b.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	set(&cfg)
	if _, err := w.js.UpdateStream(w.b.Context(), cfg); err != nil {
		w.b.Fatal(err)
	}
}

// payloads returns the messages of one round, made before the time is taken.
func (w *benchWorld) payloads(kind string) []*nats.Msg {
	list := make([]*nats.Msg, benchTurns)
	turn := benchTurn()
	turn.Timestamp = time.Now()
	for i := range list {
		turn.SessionID = benchSessions[i%len(benchSessions)]
		turn.ID = fmt.Sprintf("%s-%d-%025d", kind, w.round, i)
		d, err := turn.Draft()
		if err != nil {
			w.b.Fatal(err)
		}
		s, err := d.Snapshot(0)
		if err != nil {
			w.b.Fatal(err)
		}
		list[i] = &nats.Msg{
			Subject: stream.TurnSubject(turn.SessionID), Data: s.Payload(),
			Header: nats.Header{stream.HeaderMsgID: {stream.MsgID(s.Payload())}},
		}
	}
	return list
}

// rawAsync returns the rate of nats.go's asynchronous publishes.
func (w *benchWorld) rawAsync(list []*nats.Msg) float64 {
	js, err := jetstream.New(w.nc, jetstream.WithPublishAsyncMaxPending(publisher.DefaultWindow/benchDepth),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) { w.b.Error(err) }))
	if err != nil {
		w.b.Fatal(err)
	}
	defer js.CleanupPublisher()
	began := time.Now()
	for _, m := range list {
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(patience)); err != nil {
			w.b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	return benchTurns / time.Since(began).Seconds()
}

// rawBatches returns the rate of atomic batches, several in flight.
func (w *benchWorld) rawBatches(list []*nats.Msg) float64 {
	inbox := w.nc.NewInbox()
	acks := make(chan *nats.Msg, len(list))
	sub, err := w.nc.ChanSubscribe(inbox, acks)
	if err != nil {
		w.b.Fatal(err)
	}
	defer sub.Unsubscribe()
	acknowledged := func() {
		if m := <-acks; !strings.Contains(string(m.Data), `"batch"`) {
			w.b.Fatalf("%s", m.Data)
		}
	}
	began := time.Now()
	flying := 0
	for number, group := range slices.Collect(slices.Chunk(list, benchBatch)) {
		if flying == benchDepth {
			acknowledged()
			flying--
		}
		for i, m := range group {
			m.Header["Nats-Batch-Id"] = []string{fmt.Sprint("raw-", w.round, "-", number)}
			m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i + 1)}
			if i == len(group)-1 {
				m.Header["Nats-Batch-Commit"] = []string{"1"}
				m.Reply = inbox
			}
			if err := w.nc.PublishMsg(m); err != nil {
				w.b.Fatal(err)
			}
		}
		flying++
	}
	for range flying {
		acknowledged()
	}
	return benchTurns / time.Since(began).Seconds()
}

// own returns the publisher's rate, encoding included.
func (w *benchWorld) own() float64 {
	var n atomic.Int64
	done := make(chan struct{})
	var once sync.Once
	p := w.publisher(func(c *publisher.Config) {
		c.OnStored = func(time.Duration) {
			if n.Add(1) == benchTurns {
				once.Do(func() { close(done) })
			}
		}
	})
	turn := benchTurn()
	began := time.Now()
	for i := range benchTurns {
		turn.SessionID = benchSessions[i%len(benchSessions)]
		if _, err := p.Publish(w.b.Context(), turn); err != nil {
			w.b.Fatal(err)
		}
	}
	<-done
	return benchTurns / time.Since(began).Seconds()
}
