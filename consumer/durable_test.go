package consumer

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// notReady waits until a consumer says that it is not ready, and why.
func (f *fixture) notReady(c *Consumer, why string) {
	f.t.Helper()
	var last error
	servertest.Eventually(f.t, 20*time.Second, "not ready: "+why, func() bool {
		last = c.Ready()
		return last != nil && strings.Contains(last.Error(), why)
	})
}

// What others do to the durable consumer of a group that runs is noticed and repaired, and no
// turn goes past the group meanwhile.
func TestDurableThatOthersChange(t *testing.T) {
	f := newFixture(t)
	c, _ := f.start(Config{Store: f.store(t.TempDir()), LookEvery: 300 * time.Millisecond})
	f.publish(makeTurn(t, "first", 0, 1))
	f.drained(DefaultGroup)
	n := 1
	for name, change := range map[string]func(*jetstream.ConsumerConfig){
		"filter":       func(c *jetstream.ConsumerConfig) { c.FilterSubject = stream.TurnSubject("other") },
		"headers only": func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true },
		"max deliver":  func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 1 },
		"batch":        func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = 1 },
		"deleted":      nil,
	} {
		t.Run(name, func(t *testing.T) {
			if change == nil {
				if err := f.js.DeleteConsumer(t.Context(), stream.Turns, DefaultGroup); err != nil {
					t.Fatal(err)
				}
			} else {
				cons, err := f.js.Consumer(t.Context(), stream.Turns, DefaultGroup)
				if err != nil {
					t.Fatal(err)
				}
				cfg := cons.CachedInfo().Config
				change(&cfg)
				if _, err := f.js.UpdateConsumer(t.Context(), stream.Turns, cfg); err != nil {
					t.Fatal(err)
				}
			}
			f.publish(makeTurn(t, "past", n, 1), makeTurn(t, "other", n, 1))
			n++
			servertest.Eventually(t, 30*time.Second, "all turns", func() bool {
				doc, err := c.cfg.Store.Read(t.Context(), "past")
				return err == nil && doc.Len() == n-1
			})
			servertest.Eventually(t, 20*time.Second, "its own settings", func() bool {
				cons, err := f.js.Consumer(t.Context(), stream.Turns, DefaultGroup)
				return err == nil && !stream.NeedsRepair(cons.CachedInfo().Config, 1)
			})
			f.ready(c)
		})
	}
	if s := c.Stats(); s.Dead != 0 {
		t.Errorf("%d dead letters", s.Dead)
	}
}

// A group that is paused is not ready, with the command that ends it.
func TestPausedGroup(t *testing.T) {
	f := newFixture(t)
	c, _ := f.start(Config{Store: f.store(t.TempDir()), LookEvery: 100 * time.Millisecond})
	f.ready(c)
	s, err := f.js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PauseConsumer(t.Context(), DefaultGroup, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	f.notReady(c, "run `afterword stream init --resume`")
	f.publish(makeTurn(t, "s", 0, 1))
	if err := stream.Init(t.Context(), f.js, stream.StreamConfig{}, stream.Repair{}); err != nil {
		t.Fatal(err)
	}
	f.notReady(c, "the group is paused until")
	if err := stream.Init(t.Context(), f.js, stream.StreamConfig{}, stream.Repair{Resume: true}); err != nil {
		t.Fatal(err)
	}
	f.drained(DefaultGroup)
	f.ready(c)
}

// A stream that is deleted and made anew with settings that lose turns does not end a consumer
// that runs: it says so, and goes on when they are repaired.
func TestStreamThatOthersMakeAnew(t *testing.T) {
	f := newFixture(t)
	c, _ := f.start(Config{Store: f.store(t.TempDir())})
	f.ready(c)
	s, err := f.js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.Discard = jetstream.DiscardOld
	if err := f.js.DeleteStream(t.Context(), stream.Turns); err != nil {
		t.Fatal(err)
	}
	if _, err := f.js.CreateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	f.notReady(c, "discard is old, which drops turns that nobody has read: run `afterword stream init`")
	f.publish(makeTurn(t, "s", 0, 1))
	if err := stream.Init(t.Context(), f.js, stream.StreamConfig{}, stream.Repair{}); err != nil {
		t.Fatal(err)
	}
	f.drained(DefaultGroup)
	f.ready(c)
}
