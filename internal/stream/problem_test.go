package stream_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// A setting under which turns are refused later, dead letters are lost, or commands fail, is
// named with the command that repairs it; services start all the same.
func TestSettingsAreNamed(t *testing.T) {
	js := jetStream(t, servertest.NATS(t).URL())
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	good := map[string]jetstream.StreamConfig{stream.Turns: configOf(t, js, stream.Turns), stream.Dead: configOf(t, js, stream.Dead)}
	for _, c := range []struct {
		stream, setting string
		change          func(*jetstream.StreamConfig)
		remedy          string
	}{
		{stream.Turns, "max_msgs", func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 }, "stream init"},
		{stream.Turns, "max_consumers", func(c *jetstream.StreamConfig) { c.MaxConsumers = 1 }, "stream init"},
		{stream.Turns, "max_msg_size", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 64 << 10 }, "stream init"},
		{stream.Turns, "consumer_limits", func(c *jetstream.StreamConfig) { c.ConsumerLimits.MaxAckPending = 10 }, "stream init"},
		{stream.Turns, "allow_rollup_hdrs", func(c *jetstream.StreamConfig) { c.AllowRollup = true }, "stream init"},
		{stream.Turns, "max_age", func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = time.Minute, time.Minute }, "--max-age 30d"},
		{stream.Dead, "max_msgs", func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 }, "stream init"},
		{stream.Dead, "max_msg_size", func(c *jetstream.StreamConfig) { c.MaxMsgSize = 64 << 10 }, "stream init"},
		{stream.Dead, "max_age", func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour }, "nats stream edit AFTERWORD_DEAD -f --max-age"},
		{stream.Dead, "max_bytes", func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }, "nats stream edit AFTERWORD_DEAD -f --max-bytes"},
		{stream.Dead, "deny_delete", func(c *jetstream.StreamConfig) { c.DenyDelete = true }, "delete it"},
	} {
		t.Run(c.stream+" "+c.setting, func(t *testing.T) {
			cfg := good[c.stream]
			c.change(&cfg)
			if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
				t.Errorf("Ensure: %v", err)
			}
			named := func() (p stream.Problem, ok bool) {
				infos, err := stream.Info(t.Context(), js)
				if err != nil {
					t.Fatal(err)
				}
				for _, i := range infos {
					for _, p := range i.Problems {
						if i.Name != c.stream || p.Setting != c.setting || p.Refused || i.Problem != "" {
							t.Errorf("%s: %+v", i.Name, p)
						}
					}
				}
				list := infos[slices.IndexFunc(infos, func(i stream.StreamInfo) bool { return i.Name == c.stream })].Problems
				if len(list) == 0 {
					return p, false
				}
				return list[0], true
			}
			p, ok := named()
			if !ok || !strings.Contains(p.Says, c.setting) || !strings.Contains(p.Remedy, c.remedy) {
				t.Fatalf("%+v", p)
			}
			if err := stream.Init(t.Context(), js, stream.StreamConfig{}); err != nil {
				t.Fatal(err)
			}
			if _, still := named(); still == (c.remedy == "stream init") {
				t.Errorf("after init it is named: %v", still)
			}
			if c.setting != "deny_delete" { // which nobody can take back
				if _, err := js.UpdateStream(t.Context(), good[c.stream]); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// So is what is wrong with the durable consumer of a group.
func TestSettingsOfGroupsAreNamed(t *testing.T) {
	js := jetStream(t, servertest.NATS(t).URL())
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour)
	for setting, change := range map[string]func(*jetstream.ConsumerConfig){
		"":                   func(*jetstream.ConsumerConfig) {},
		"max_deliver":        func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 3 },
		"filter_subject":     func(c *jetstream.ConsumerConfig) { c.FilterSubject = "afterword.turns.x" },
		"headers_only":       func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true },
		"inactive_threshold": func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour },
		"max_ack_pending":    func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 100 },
		"backoff":            func(c *jetstream.ConsumerConfig) { c.BackOff, c.MaxDeliver = []time.Duration{time.Second}, -1 },
		"max_batch":          func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = 1 },
		"pause_until":        func(c *jetstream.ConsumerConfig) { c.PauseUntil = &until },
		"ack_policy":         func(c *jetstream.ConsumerConfig) { c.AckPolicy = jetstream.AckAllPolicy },
		"mem_storage":        func(c *jetstream.ConsumerConfig) { c.MemoryStorage = true },
		"deliver_policy":     func(c *jetstream.ConsumerConfig) { c.DeliverPolicy = jetstream.DeliverNewPolicy },
	} {
		cfg := jetstream.ConsumerConfig{
			Durable: "g", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1, MaxAckPending: 20_000, AckWait: time.Minute,
			Metadata: map[string]string{stream.MetaDirectory: "f"},
		}
		change(&cfg)
		if _, err := js.CreateConsumer(t.Context(), stream.Turns, cfg); err != nil {
			t.Fatal(setting, err)
		}
		infos, err := stream.Info(t.Context(), js)
		if err != nil {
			t.Fatal(err)
		}
		list := infos[0].Consumers[0].Problems
		if setting == "" && len(list) > 0 || setting != "" && (len(list) != 1 || list[0].Setting != setting || list[0].Remedy == "") {
			t.Errorf("%s: %+v", setting, list)
		}
		if err := js.DeleteConsumer(t.Context(), stream.Turns, "g"); err != nil {
			t.Fatal(err)
		}
	}
}
