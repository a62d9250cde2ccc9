package stream_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

func jetStream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(connect(t, stream.Config{URL: url}))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func configOf(t *testing.T, js jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config
}

func TestEnsureCreates(t *testing.T) {
	js := jetStream(t, servertest.NATS(t).URL())
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{MaxBytes: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	turns, dead := configOf(t, js, stream.Turns), configOf(t, js, stream.Dead)
	for _, c := range []jetstream.StreamConfig{turns, dead} {
		if c.Storage != jetstream.FileStorage || c.Retention != jetstream.LimitsPolicy || c.Discard != jetstream.DiscardNew ||
			!c.AllowDirect || c.Duplicates != time.Minute || c.Replicas != 1 || c.PersistMode != jetstream.DefaultPersistMode || c.MaxMsgs != -1 {
			t.Errorf("%s: %+v", c.Name, c)
		}
	}
	if !turns.AllowAtomicPublish || turns.MaxAge != 30*24*time.Hour || turns.MaxBytes != 1<<30 || turns.Subjects[0] != "afterword.turns.*" {
		t.Errorf("turns: %+v", turns)
	}
	if dead.MaxAge != 0 || dead.MaxBytes != -1 || dead.Subjects[0] != "afterword.dead.*" {
		t.Errorf("dead: %+v", dead)
	}

	// An existing stream keeps the limits that it has.
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{MaxAge: time.Hour, MaxBytes: 1}); err != nil {
		t.Fatal(err)
	}
	if c := configOf(t, js, stream.Turns); c.MaxAge != turns.MaxAge || c.MaxBytes != turns.MaxBytes {
		t.Errorf("limits changed: %+v", c)
	}
	// Init applies those that are given, and only those.
	if err := stream.Init(t.Context(), js, stream.StreamConfig{MaxAge: 30 * time.Second}, stream.Repair{}); err != nil {
		t.Fatal(err)
	}
	if c := configOf(t, js, stream.Turns); c.MaxAge != 30*time.Second || c.MaxBytes != turns.MaxBytes {
		t.Errorf("after init: %+v", c)
	}
}

// Settings of the stream of what processes tell each other are set back, and only then written.
func TestEnsureCacheSetsBack(t *testing.T) {
	js := jetStream(t, servertest.NATS(t).URL())
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.EnsureCache(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	want := configOf(t, js, stream.Cache)
	for range 2 {
		changed := want
		changed.MaxMsgs, changed.MaxMsgSize, changed.MaxBytes, changed.MaxAge, changed.Subjects = 1, 10, 10, time.Hour, []string{stream.CacheKey}
		if _, err := js.UpdateStream(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
		s, err := stream.EnsureCache(t.Context(), js)
		if err != nil || !reflect.DeepEqual(s.CachedInfo().Config, want) {
			t.Errorf("%v, %+v", err, s.CachedInfo().Config)
		}
	}
}

func TestEnsureTogether(t *testing.T) {
	url := servertest.NATS(t).URL()
	var wg sync.WaitGroup
	for i := range 8 {
		js := jetStream(t, url)
		wg.Go(func() {
			if err := stream.Ensure(t.Context(), js, stream.StreamConfig{MaxBytes: int64(i+1) << 20}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// Every setting that a promise depends on: Ensure refuses it, and Init repairs
// it or refuses it too.
func TestMisconfigured(t *testing.T) {
	good := jetstream.StreamConfig{
		Name: stream.Turns, Subjects: []string{stream.TurnSubjects}, Discard: jetstream.DiscardNew,
		AllowDirect: true, AllowAtomicPublish: true, MaxBytes: 1 << 20,
	}
	for name, c := range map[string]struct {
		change func(*jetstream.StreamConfig)
		says   string
		fixed  bool // by Init
	}{
		"persist mode": {func(c *jetstream.StreamConfig) {
			c.PersistMode, c.AllowAtomicPublish = jetstream.AsyncPersistMode, false
		}, "persist_mode is async", false},
		"storage":     {func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "storage is not file", false},
		"interest":    {func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy }, "retention is interest", true},
		"work queue":  {func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy }, "retention is workqueue", false},
		"sealed":      {func(c *jetstream.StreamConfig) { c.Sealed = true }, "sealed", false},
		"discard":     {func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld }, "discard is old", true},
		"per subject": {func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject, c.DiscardNewPerSubject = 5, true }, "max_msgs_per_subject is 5", true},
		"size":        {func(c *jetstream.StreamConfig) { c.MaxMsgSize = 100 }, "max_msg_size is 100", true},
		"no ack":      {func(c *jetstream.StreamConfig) { c.NoAck, c.AllowAtomicPublish = true, true }, "no_ack", true},
		"transform": {func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "afterword.turns.*", Destination: "afterword.turns.x{{wildcard(1)}}"}
		}, "subject_transform", true},
		"marker":   {func(c *jetstream.StreamConfig) { c.AllowMsgTTL, c.SubjectDeleteMarkerTTL = true, time.Minute }, "subject_delete_marker_ttl", true},
		"subjects": {func(c *jetstream.StreamConfig) { c.Subjects = []string{"afterword.turns.x"} }, "without afterword.turns.*", true},
		"direct":   {func(c *jetstream.StreamConfig) { c.AllowDirect = false }, "allow_direct is off", true},
		"atomic":   {func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }, "allow_atomic is off", true},
	} {
		t.Run(name, func(t *testing.T) {
			js := jetStream(t, servertest.NATS(t).URL())
			cfg := good
			c.change(&cfg)
			create := cfg
			create.Sealed = false // only an update can seal
			if _, err := js.CreateStream(t.Context(), create); err != nil {
				t.Fatal(err)
			}
			if cfg.Sealed {
				if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
					t.Fatal(err)
				}
			}
			err := stream.Ensure(t.Context(), js, stream.StreamConfig{})
			if !errors.Is(err, stream.ErrMisconfigured) {
				t.Fatalf("Ensure: got %v, want ErrMisconfigured", err)
			}
			servertest.OneLine(t, err, c.says, stream.Turns, "stream init")

			err = stream.Init(t.Context(), js, stream.StreamConfig{}, stream.Repair{})
			if !c.fixed {
				if !errors.Is(err, stream.ErrMisconfigured) {
					t.Errorf("Init: got %v, want ErrMisconfigured", err)
				}
				return
			}
			if err != nil {
				t.Fatalf("Init: %v", err)
			}
			if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
				t.Errorf("after Init: %v", err)
			}
			if got := configOf(t, js, stream.Turns); got.MaxBytes != good.MaxBytes {
				t.Errorf("Init changed max_bytes to %d", got.MaxBytes)
			}
		})
	}
}

func TestEnsureAcceptsWiderSubjects(t *testing.T) {
	js := jetStream(t, servertest.NATS(t).URL())
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	cfg := configOf(t, js, stream.Turns)
	cfg.Subjects = []string{"afterword.turns.>", "afterword.more"}
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if err := stream.Init(t.Context(), js, stream.StreamConfig{}, stream.Repair{}); err != nil {
		t.Error(err)
	}
}

// What may heal by itself is told apart from what needs a person.
func TestUnreachable(t *testing.T) {
	srv := servertest.NATS(t)
	js := jetStream(t, srv.URL())
	srv.Stop()
	servertest.Eventually(t, 5*time.Second, "the disconnect", func() bool { return js.Conn().Status() == nats.RECONNECTING })
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); !errors.Is(err, stream.ErrUnreachable) {
		t.Errorf("stopped: got %v", err)
	}

	without := jetStream(t, servertest.NATS(t, servertest.WithoutJetStream()).URL())
	err := stream.Ensure(t.Context(), without, stream.StreamConfig{})
	if !errors.Is(err, stream.ErrUnreachable) {
		t.Errorf("without JetStream: got %v", err)
	}
	servertest.OneLine(t, err, "jetstream {}")

	// A node of a cluster that has lost the others describes a stream that takes nothing. The
	// answer is one of nats-server 2.15.
	if _, err := without.Conn().Subscribe("$JS.API.STREAM.INFO.*", func(m *nats.Msg) {
		m.Respond([]byte(`{"type":"io.nats.jetstream.api.v1.stream_info_response","config":{"name":"AFTERWORD_TURNS","num_replicas":3},
			"state":{"messages":0,"first_seq":1,"last_seq":0,"consumer_count":0},"cluster":{"name":"c","raft_group":"S-R3F-L1apYTiY","replicas":[
			{"name":"n1","current":false,"active":16407057755},{"name":"n2","current":false,"active":16414719485},{"name":"n3","current":false,"active":20446808165}]}}`))
	}); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Info(t.Context(), without)
	for what, err := range map[string]error{"Check": stream.Check(t.Context(), without), "Info": err} {
		if !errors.Is(err, stream.ErrUnreachable) || !strings.Contains(err.Error(), "AFTERWORD_TURNS: NATS is unreachable: it has no leader") {
			t.Errorf("%s without a leader: got %v", what, err)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := stream.Ensure(ctx, without, stream.StreamConfig{}); !errors.Is(err, context.Canceled) || errors.Is(err, stream.ErrUnreachable) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestEnsureReportsTheServer(t *testing.T) {
	js := jetStream(t, servertest.NATS(t, servertest.MaxStore(1<<20)).URL())
	err := stream.Ensure(t.Context(), js, stream.StreamConfig{MaxBytes: 1 << 30})
	servertest.OneLine(t, err, "create stream AFTERWORD_TURNS", "storage", "max_file_store")
	err = stream.Ensure(t.Context(), js, stream.StreamConfig{Replicas: 3})
	servertest.OneLine(t, err, "create stream AFTERWORD_TURNS", "replicas")
}

// A server that takes no turns is named, and what is wrong with the stream of dead letters is said of them.
func TestInfoNamesProblems(t *testing.T) {
	js := jetStream(t, servertest.NATS(t, servertest.MaxPayload(2048)).URL())
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(t.Context(), stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.CachedInfo().Config
	cfg.MaxMsgs, cfg.MaxMsgsPerSubject, cfg.Discard = 10, 5, jetstream.DiscardOld
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	infos, err := stream.Info(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	if text := stream.Texts(infos[0].Problems); !strings.Contains(text, "max_payload of the server is 2048, which leaves no room for turns") {
		t.Errorf("%q", text)
	}
	text := stream.Texts(infos[1].Problems)
	for _, want := range []string{"drops dead letters", "limits the dead letters of a group", "refuses every dead letter"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say that it %s", text, want)
		}
	}
	if strings.Contains(text, "turn") {
		t.Errorf("it speaks of turns: %s", text)
	}
}

func TestInfo(t *testing.T) {
	js := jetStream(t, servertest.NATS(t).URL())
	if _, err := stream.Info(t.Context(), js); !errors.Is(err, stream.ErrNoStream) {
		t.Fatalf("got %v, want ErrNoStream", err)
	}
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	infos, err := stream.Info(t.Context(), js)
	if err != nil || len(infos) != 2 || infos[0].FirstTime != nil || infos[0].Consumers == nil {
		t.Fatalf("empty: %+v, %v", infos, err)
	}
	for _, id := range []string{"a", "b", "b"} {
		if _, err := js.Publish(t.Context(), stream.TurnSubject(id), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	cons, err := js.CreateConsumer(t.Context(), stream.Turns, jetstream.ConsumerConfig{Durable: "g", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	msg, err := cons.Next()
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := cons.Next(); err != nil {
		t.Fatal(err)
	}
	infos, err = stream.Info(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	got := infos[0]
	if got.Name != stream.Turns || got.Messages != 3 || got.Subjects != 2 || got.FirstSeq != 1 || got.LastSeq != 3 || got.Bytes == 0 ||
		got.FirstTime == nil || got.LastTime == nil || got.Replicas != 1 || got.MaxAge != stream.DefaultMaxAge || got.MaxBytes != 0 || got.Problem != "" {
		t.Errorf("%+v", got)
	}
	want := stream.ConsumerInfo{Name: "g", Durable: true, Deliveries: 2, Pending: 1, AckPending: 1, Delivered: 2, AckFloor: 1}
	for i := range got.Consumers { // times
		c := &got.Consumers[i]
		if c.OldestTime == nil || c.LagAge <= 0 || c.LastDelivered == nil || c.LastAcked == nil {
			t.Errorf("consumer: %+v", c)
		}
		c.OldestTime, c.LagAge, c.LastDelivered, c.LastAcked = nil, 0, nil, nil
	}
	if len(got.Consumers) != 1 || !reflect.DeepEqual(got.Consumers[0], want) || got.Consumers[0].Lag() != 2 {
		t.Errorf("consumers: %+v, want %+v", got.Consumers, want)
	}

	cfg := configOf(t, js, stream.Dead)
	cfg.Discard = jetstream.DiscardOld
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if infos, err = stream.Info(t.Context(), js); err != nil || !strings.Contains(infos[1].Problem, "discard is old") {
		t.Errorf("%+v, %v", infos, err)
	}
}

// Losing a leader is survived, losing more is something to wait for.
func TestEnsureOnCluster(t *testing.T) {
	nodes := servertest.NATSCluster(t, 3)
	var urls []string
	for _, n := range nodes {
		urls = append(urls, n.URL())
	}
	js := jetStream(t, strings.Join(urls, ","))
	ensure := func() error { return stream.Ensure(t.Context(), js, stream.StreamConfig{Replicas: 3}) }
	servertest.Eventually(t, 20*time.Second, "the streams", func() bool { return ensure() == nil })
	var infos []stream.StreamInfo
	servertest.Eventually(t, 30*time.Second, "a leader", func() bool { // which a busy machine may lose again
		if err := stream.Init(t.Context(), js, stream.StreamConfig{}, stream.Repair{}); err != nil {
			if !errors.Is(err, stream.ErrUnreachable) {
				t.Fatal(err)
			}
			return false
		}
		var err error
		infos, err = stream.Info(t.Context(), js)
		return err == nil && infos[0].Leader != ""
	})
	if infos[0].Replicas != 3 {
		t.Fatalf("%+v", infos)
	}
	left := nodes[:0:0]
	for _, n := range nodes {
		if n.Name() == infos[0].Leader {
			n.Kill9()
		} else {
			left = append(left, n)
		}
	}
	servertest.Eventually(t, 30*time.Second, "another leader", func() bool {
		infos, err := stream.Info(t.Context(), js)
		return err == nil && infos[0].Leader != "" && ensure() == nil
	})
	left[0].Kill9()
	// The last node may still answer for the streams that it leads (for more than 30 s, measured),
	// but whatever else is said must be that waiting helps.
	start := time.Now()
	if err := ensure(); err != nil && !errors.Is(err, stream.ErrUnreachable) {
		t.Errorf("without a majority: got %v, want ErrUnreachable", err)
	}
	if d := time.Since(start); d > 18*time.Second {
		t.Errorf("took %s", d)
	}
	left[1].Kill9()
	servertest.Eventually(t, 10*time.Second, "the loss of the last node", func() bool { return errors.Is(ensure(), stream.ErrUnreachable) })
}
