package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/consumer"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// command runs one in this process, with nothing in its environment but NATS_URL.
func command(t *testing.T, url string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, says bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &says, func(name string) (string, bool) {
		if name == "NATS_URL" {
			return url, true
		}
		return "", false
	})
	return code, out.String(), says.String()
}

// theCommand is what a remedy tells to run.
var theCommand = regexp.MustCompile("run `afterword ([^`]+)`")

// found is what `stream info` names, as setting and remedy.
func found(t *testing.T, url, name string) (list []stream.Problem) {
	t.Helper()
	_, out, says := command(t, url, "stream", "info", "--json")
	var infos []stream.StreamInfo
	if err := json.Unmarshal([]byte(out), &infos); err != nil {
		t.Fatalf("%v: %s%s", err, out, says)
	}
	for _, i := range infos {
		if i.Name == name || name == "" {
			list = append(list, i.Problems...)
		}
		for _, k := range i.Consumers {
			if name == k.Name || name == "" {
				list = append(list, k.Problems...)
			}
		}
	}
	return list
}

// mend runs the commands that are printed, until nothing is named any more.
func mend(t *testing.T, url string, list []stream.Problem) {
	t.Helper()
	for range 4 {
		if len(list) == 0 {
			return
		}
		m := theCommand.FindStringSubmatch(list[0].Remedy)
		if m == nil {
			t.Fatalf("no command: %+v", list[0])
		}
		if code, _, says := command(t, url, strings.Fields(m[1])...); code != 0 {
			t.Fatalf("%s: exit code %d: %s", m[1], code, says)
		}
		list = found(t, url, "")
	}
	t.Errorf("the commands did not repair %+v", list)
}

// Each setting of a stream under which turns are refused or lost, or commands fail, is named with
// the command that repairs it. That command keeps all messages, with their numbers and times.
func TestCommandsThatRepairStreams(t *testing.T) {
	url := servertest.NATS(t).URL()
	js := servertest.JetStream(t, url)
	defer js.Conn().Close()
	if code, _, says := command(t, url, "stream", "init"); code != 0 {
		t.Fatal(says)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "other", Subjects: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	good := make(map[string]jetstream.StreamConfig)
	for _, name := range []string{stream.Turns, stream.Dead} {
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		good[name] = s.CachedInfo().Config
	}
	for _, c := range []struct {
		setting string
		dead    bool // of the stream of dead letters
		later   bool // only an update makes it so
		change  func(*jetstream.StreamConfig)
	}{
		{setting: "persist_mode", change: func(c *jetstream.StreamConfig) {
			c.AllowAtomicPublish, c.PersistMode = false, jetstream.AsyncPersistMode
		}},
		{setting: "storage", change: func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
		{setting: "retention", later: true, change: func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }},
		{setting: "retention", change: func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }},
		{setting: "sealed", later: true, change: func(c *jetstream.StreamConfig) { c.Sealed, c.MirrorDirect = true, true }},
		{setting: "allow_msg_counter", change: func(c *jetstream.StreamConfig) {
			c.AllowMsgCounter, c.Discard = true, jetstream.DiscardOld
		}},
		{setting: "discard", change: func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }},
		{setting: "max_msgs_per_subject", change: func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }},
		{setting: "max_msg_size", change: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 }},
		{setting: "max_msg_size", change: func(c *jetstream.StreamConfig) { c.MaxMsgSize = 64 << 10 }},
		{setting: "no_ack", later: true, change: func(c *jetstream.StreamConfig) { c.NoAck = true }},
		{setting: "subject_transform", later: true, change: func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "afterword.turns.*", Destination: "afterword.turns.x{{wildcard(1)}}"}
		}},
		{setting: "subject_delete_marker_ttl", change: func(c *jetstream.StreamConfig) { c.AllowMsgTTL, c.SubjectDeleteMarkerTTL = true, time.Minute }},
		{setting: "subjects", later: true, change: func(c *jetstream.StreamConfig) { c.Subjects = []string{"afterword.turns.x"} }},
		{setting: "allow_direct", change: func(c *jetstream.StreamConfig) { c.AllowDirect = false }},
		{setting: "allow_atomic", change: func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }},
		{setting: "max_msgs", change: func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 }},
		{setting: "max_consumers", change: func(c *jetstream.StreamConfig) { c.MaxConsumers = 1 }},
		{setting: "consumer_limits", change: func(c *jetstream.StreamConfig) { c.ConsumerLimits.MaxAckPending = 10 }},
		{setting: "consumer_limits", change: func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Hour }},
		{setting: "allow_rollup_hdrs", change: func(c *jetstream.StreamConfig) { c.AllowRollup = true }},
		{setting: "allow_msg_ttl", change: func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }},
		{setting: "allow_msg_schedules", change: func(c *jetstream.StreamConfig) {
			c.AllowMsgSchedules, c.Discard = true, jetstream.DiscardOld
		}},
		{setting: "sources", later: true, change: func(c *jetstream.StreamConfig) { c.Sources = []*jetstream.StreamSource{{Name: "other"}} }},
		{setting: "republish", change: func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: "afterword.turns.*", Destination: "afterword.elsewhere.{{wildcard(1)}}"}
		}},
		{setting: "duplicate_window", change: func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }},
		{setting: "deny_delete", later: true, change: func(c *jetstream.StreamConfig) { c.DenyDelete = true }},
		{setting: "deny_purge", later: true, change: func(c *jetstream.StreamConfig) { c.DenyPurge = true }},
		{setting: "max_age", change: func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = time.Minute, time.Minute }},
		{setting: "max_bytes", change: func(c *jetstream.StreamConfig) { c.MaxBytes = 10_000 }},
		{setting: "max_age", dead: true, change: func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour }},
		{setting: "max_bytes", dead: true, change: func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 20 }},
		{setting: "max_msgs", dead: true, change: func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 }},
		{setting: "deny_delete", dead: true, later: true, change: func(c *jetstream.StreamConfig) { c.DenyDelete = true }},
		{setting: "deny_purge", dead: true, later: true, change: func(c *jetstream.StreamConfig) { c.DenyPurge = true }},
		{setting: "storage", dead: true, change: func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }},
	} {
		name, subject := stream.Turns, stream.TurnPrefix+"x"
		if c.dead {
			name, subject = stream.Dead, stream.DeadPrefix+"x"
		}
		other := stream.Turns
		if !c.dead {
			other = stream.Dead
		}
		t.Run(name+" "+c.setting, func(t *testing.T) {
			_ = js.DeleteStream(t.Context(), name)
			if _, err := js.CreateOrUpdateStream(t.Context(), good[other]); err != nil {
				t.Fatal(err)
			}
			cfg := good[name]
			cfg.Metadata = map[string]string{stream.MetaContinued: "true"}
			if !c.later {
				c.change(&cfg)
			}
			s, err := js.CreateStream(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if c.setting != "allow_msg_counter" { // which takes nothing else
				for i := range 5 {
					if _, err := js.Publish(t.Context(), subject, fmt.Appendf(nil, "%d", i)); err != nil {
						t.Fatal(err)
					}
				}
				for _, seq := range []uint64{1, 3} { // it has a gap, and was trimmed
					if err := s.DeleteMsg(t.Context(), seq); err != nil {
						t.Fatal(err)
					}
				}
			}
			if c.later {
				c.change(&cfg)
				if s, err = js.UpdateStream(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
			}
			before := messages(t, s)
			list := found(t, url, name)
			if !slices.ContainsFunc(list, func(p stream.Problem) bool { return p.Setting == c.setting }) {
				t.Fatalf("named are %+v", list)
			}
			mend(t, url, list)
			if s, err = js.Stream(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			if s.CachedInfo().Config.Metadata[stream.MetaContinued] == "" {
				t.Error("its metadata is forgotten")
			}
			if after := messages(t, s); after != before {
				t.Errorf("messages were\n%sand are\n%s", before, after)
			}
			if _, err := js.Publish(t.Context(), subject, nil); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			for name := range js.StreamNames(t.Context()).Name() {
				if strings.HasSuffix(name, "_COPY") {
					t.Errorf("%s is left over", name)
				}
			}
		})
	}
}

// While the messages of a stream are in the one beside it, no process creates the stream.
func TestStreamsUnderWay(t *testing.T) {
	url := servertest.NATS(t).URL()
	js := servertest.JetStream(t, url)
	defer js.Conn().Close()
	beside := jetstream.StreamConfig{Name: stream.Turns + "_COPY", Subjects: []string{stream.TurnPrefix + "*"}}
	_, err := js.CreateStream(t.Context(), beside)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), stream.TurnPrefix+"x", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	beside.Subjects = []string{"nothing"}
	s, err := js.UpdateStream(t.Context(), beside)
	if err != nil {
		t.Fatal(err)
	}
	before := messages(t, s)
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); !errors.Is(err, stream.ErrMisconfigured) {
		t.Errorf("a service: %v", err)
	}
	code, _, says := command(t, url, "stream", "init")
	if m := theCommand.FindStringSubmatch(says); code != 2 || m == nil || m[1] != "stream init --recreate" {
		t.Errorf("init: exit code %d: %s", code, says)
	}
	if code, _, says := command(t, url, "stream", "init", "--recreate"); code != 0 {
		t.Fatal(says)
	}
	if s, err = js.Stream(t.Context(), stream.Turns); err != nil || messages(t, s) != before {
		t.Errorf("the messages: %v", err)
	}

	beside.Subjects = []string{"copy"} // it has the name by chance
	if _, err := js.CreateStream(t.Context(), beside); err != nil {
		t.Fatal(err)
	}
	if err := stream.Check(t.Context(), js); err != nil {
		t.Errorf("beside another stream: %v", err)
	}
	beside.Description = "afterword: messages of a stream that is made anew"
	if _, err := js.UpdateStream(t.Context(), beside); err != nil {
		t.Fatal(err)
	}
	if err := stream.Check(t.Context(), js); !errors.Is(err, stream.ErrMisconfigured) {
		t.Errorf("a service that runs: %v", err)
	}
	folder := t.TempDir()
	for _, args := range [][]string{{"stream", "init"}, {"stream", "info"}, {"replay", "--all", "--into", folder + "/transcripts"}} {
		code, _, says := command(t, url, args...)
		if m := theCommand.FindStringSubmatch(says); code == 0 || m == nil || m[1] != "stream init --recreate" {
			t.Errorf("%v: exit code %d: %s", args, code, says)
		}
	}
	if err := js.DeleteStream(t.Context(), beside.Name); err != nil {
		t.Fatal(err)
	}

	// However often it is interrupted, it ends with the same stream, and who reads it knows.
	running := consumer.NewStreamReader(js, 0)
	whole := func() bool {
		_, err := running.View(t.Context(), "never")
		return errors.Is(err, transcript.ErrNoSession) && !errors.Is(err, transcript.ErrPartial)
	}
	if !whole() {
		t.Fatal("the stream is not whole at first")
	}
	cfg := s.CachedInfo().Config
	cfg.DenyDelete, cfg.MaxAge = true, 90*24*time.Hour
	if s, err = js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*5*time.Millisecond)
		err := stream.Init(ctx, js, stream.StreamConfig{}, stream.Repair{Recreate: true})
		cancel()
		if err == nil && n > 1 {
			break
		}
		if n > 1000 {
			t.Fatal(err)
		}
	}
	made := stream.Made(s.CachedInfo())
	if s, err = js.Stream(t.Context(), stream.Turns); err != nil || messages(t, s) != before {
		t.Errorf("the messages: %v", err)
	}
	info := s.CachedInfo()
	if !stream.Whole(info) || !whole() || !stream.Made(info).Equal(made) || info.Created.Equal(made) || info.Config.MaxAge != 90*24*time.Hour {
		t.Errorf("it is %+v, made at %s, before at %s", info.Config, info.Created, made)
	}
}

// messages describes what a stream holds.
func messages(t *testing.T, s jetstream.Stream) string {
	t.Helper()
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d to %d\n", info.State.FirstSeq, info.State.LastSeq)
	for seq := info.State.FirstSeq; info.State.Msgs > 0 && seq <= info.State.LastSeq; seq++ {
		if m, err := s.GetMsg(t.Context(), seq); err == nil {
			fmt.Fprintf(&b, "%d %s %s %s\n", seq, m.Subject, m.Data, m.Time)
		}
	}
	return b.String()
}

// So is each of the durable consumer of a group; what it went past comes then.
func TestCommandsThatRepairGroups(t *testing.T) {
	url := servertest.NATS(t).URL()
	js := servertest.JetStream(t, url)
	defer js.Conn().Close()
	if code, _, says := command(t, url, "stream", "init"); code != 0 {
		t.Fatal(says)
	}
	if _, err := js.Publish(t.Context(), stream.TurnPrefix+"x", nil); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour)
	for setting, change := range map[string]func(*jetstream.ConsumerConfig){
		"":                   func(*jetstream.ConsumerConfig) {},
		"max_deliver":        func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 3 },
		"filter_subject":     func(c *jetstream.ConsumerConfig) { c.FilterSubject = "afterword.turns.y" },
		"headers_only":       func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true },
		"inactive_threshold": func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour },
		"max_ack_pending":    func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 100 },
		"ack_wait":           func(c *jetstream.ConsumerConfig) { c.AckWait = time.Second },
		"backoff":            func(c *jetstream.ConsumerConfig) { c.BackOff, c.MaxDeliver = []time.Duration{time.Second}, -1 },
		"max_batch":          func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = 1 },
		"pause_until":        func(c *jetstream.ConsumerConfig) { c.PauseUntil = &until },
		"ack_policy":         func(c *jetstream.ConsumerConfig) { c.AckPolicy = jetstream.AckAllPolicy },
		"mem_storage":        func(c *jetstream.ConsumerConfig) { c.MemoryStorage = true },
		"deliver_policy":     func(c *jetstream.ConsumerConfig) { c.DeliverPolicy = jetstream.DeliverNewPolicy },
		"replay_policy":      func(c *jetstream.ConsumerConfig) { c.ReplayPolicy = jetstream.ReplayOriginalPolicy },
		"max_waiting":        func(c *jetstream.ConsumerConfig) { c.MaxWaiting = 1 },
		"priority_policy": func(c *jetstream.ConsumerConfig) {
			c.PriorityPolicy, c.PriorityGroups = jetstream.PriorityPolicyOverflow, []string{"a"}
		},
		"deliver_subject": func(c *jetstream.ConsumerConfig) { c.DeliverSubject = "elsewhere" },
	} {
		t.Run("group "+setting, func(t *testing.T) {
			cfg := jetstream.ConsumerConfig{
				Durable: "g", AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: -1, MaxAckPending: 20_000, AckWait: time.Minute,
				Metadata: map[string]string{stream.MetaDirectory: "f"},
			}
			change(&cfg)
			create := js.CreateConsumer
			if cfg.DeliverSubject != "" {
				create = func(ctx context.Context, name string, cfg jetstream.ConsumerConfig) (jetstream.Consumer, error) {
					_, err := js.CreatePushConsumer(ctx, name, cfg)
					return nil, err
				}
			}
			if _, err := create(t.Context(), stream.Turns, cfg); err != nil {
				t.Fatal(err)
			}
			list := found(t, url, "g")
			if setting == "" && len(list) > 0 || setting != "" && (len(list) != 1 || list[0].Setting != setting) {
				t.Fatalf("named are %+v", list)
			}
			mend(t, url, list)
			c, err := js.Consumer(t.Context(), stream.Turns, "g")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Next(jetstream.FetchMaxWait(10 * time.Second)); err != nil {
				t.Errorf("the turn does not come: %v", err)
			}
			if c.CachedInfo().Config.Metadata[stream.MetaDirectory] != "f" {
				t.Error("its folder is forgotten")
			}
			if err := js.DeleteConsumer(t.Context(), stream.Turns, "g"); err != nil {
				t.Fatal(err)
			}
		})
	}
}
