package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// fixture is a real server with streams, and a way to start consumers on it.
type fixture struct {
	t    *testing.T
	nats *servertest.NATSServer
	js   jetstream.JetStream
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, nats: servertest.NATS(t)}
	f.js = f.connect()
	if err := stream.Ensure(t.Context(), f.js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) connect() jetstream.JetStream {
	f.t.Helper()
	nc, err := stream.Connect(f.t.Context(), stream.Config{URL: f.nats.URL()})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		f.t.Fatal(err)
	}
	return js
}

func (f *fixture) store(dir string) *transcript.Store { return f.open(transcript.Config{Dir: dir}) }

func (f *fixture) open(cfg transcript.Config) *transcript.Store {
	f.t.Helper()
	s, err := transcript.Open(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil && !errors.Is(err, transcript.ErrClosed) {
			f.t.Error(err)
		}
	})
	return s
}

// start runs a consumer until the test ends or stop is called.
func (f *fixture) start(cfg Config) (c *Consumer, stop func() error) {
	f.t.Helper()
	if cfg.JS == nil {
		cfg.JS = f.connect()
	}
	c, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- c.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-result
	})
	f.t.Cleanup(func() { stop() })
	return c, stop
}

func (f *fixture) publish(turns ...transcript.Snapshot) {
	f.t.Helper()
	for i := range turns {
		f.send(stream.TurnSubject(turns[i].SessionID), turns[i].Payload(), "")
	}
}

func (f *fixture) send(subject string, payload []byte, kind string) {
	f.t.Helper()
	m := &nats.Msg{Subject: subject, Data: payload, Header: nats.Header{}}
	if kind != "" {
		m.Header.Set(stream.HeaderType, kind)
	}
	if _, err := f.js.PublishMsg(f.t.Context(), m); err != nil {
		f.t.Fatal(err)
	}
}

// drained waits until the group has acknowledged everything.
func (f *fixture) drained(group string) {
	f.t.Helper()
	servertest.Eventually(f.t, 30*time.Second, "the group has acknowledged everything", func() bool {
		st, err := f.js.Stream(f.t.Context(), stream.Turns)
		if err != nil {
			return false
		}
		cons, err := f.js.Consumer(f.t.Context(), stream.Turns, group)
		if err != nil {
			return false
		}
		info := cons.CachedInfo()
		return info.Delivered.Stream >= st.CachedInfo().State.LastSeq && info.NumPending == 0 && info.NumAckPending == 0
	})
}

// ready waits until a consumer takes turns again, which may be a probe after it has
// acknowledged those that it had.
func (f *fixture) ready(c *Consumer) {
	f.t.Helper()
	servertest.Eventually(f.t, 20*time.Second, "the consumer is ready", func() bool { return c.Ready() == nil })
}

func (f *fixture) dead() (letters []jetstream.Msg) {
	f.t.Helper()
	cons, err := f.js.OrderedConsumer(f.t.Context(), stream.Dead, jetstream.OrderedConsumerConfig{})
	if err != nil {
		f.t.Fatal(err)
	}
	got, err := cons.FetchNoWait(1000)
	if err != nil {
		f.t.Fatal(err)
	}
	for m := range got.Messages() {
		letters = append(letters, m)
	}
	return letters
}

func makeTurn(t testing.TB, session string, n, rev int) transcript.Snapshot {
	t.Helper()
	turn := transcript.Turn{
		SessionID: session, ID: fmt.Sprintf("t%06d", n), Rev: rev,
		Timestamp: time.Date(2026, 11, 23, 15, 0, 0, n*1000, time.UTC),
		User:      fmt.Sprintf("question %d", n), Assistant: fmt.Sprintf("answer %d.%d", n, rev),
	}
	d, err := turn.Draft()
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Snapshot(0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// conversation makes turns of some sessions, two revisions of each third turn.
func conversation(t testing.TB, sessions, turns int) (all []transcript.Snapshot) {
	t.Helper()
	for n := range turns {
		for s := range sessions {
			id := fmt.Sprintf("chat/%d", s)
			all = append(all, makeTurn(t, id, n, 1))
			if n%3 == 0 {
				all = append(all, makeTurn(t, id, n, 2))
			}
		}
	}
	return all
}

// documents reads every document of a folder by its path.
func documents(t testing.TB, dir string) map[string]string {
	t.Helper()
	docs := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".json") {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		docs[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// undisturbed is what the documents of turns have to be.
func undisturbed(t testing.TB, turns []transcript.Snapshot) map[string]string {
	t.Helper()
	bySession := make(map[string][]transcript.Snapshot)
	for _, s := range turns {
		bySession[s.SessionID] = append(bySession[s.SessionID], s)
	}
	docs := make(map[string]string)
	for session, turns := range bySession {
		doc, err := transcript.MergeAll(session, turns...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := doc.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		docs[transcript.DocumentPath(transcript.Sharded, session)] = string(b)
	}
	return docs
}

func sameDocuments(t testing.TB, got, want map[string]string) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	for path, doc := range want {
		if got[path] != doc {
			t.Errorf("%s has %d lines, want %d\n%s", path, strings.Count(got[path], "\n"), strings.Count(doc, "\n"), missingLines(got[path], doc))
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s should not be there", path)
		}
	}
}

func missingLines(got, want string) string {
	var missing []string
	for line := range strings.Lines(want) {
		if !strings.Contains(got, strings.TrimRight(line, ",\n")) {
			missing = append(missing, line)
		}
	}
	return strings.Join(missing[:min(5, len(missing))], "")
}

func TestTurnsBecomeDocuments(t *testing.T) {
	turns := conversation(t, 5, 40)
	want := undisturbed(t, turns)
	for _, c := range []struct {
		name    string
		members int
		batch   int
	}{
		{"one member", 1, 0},
		{"batches of one", 1, 1},
		{"two members on one folder", 2, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			dir := filepath.Join(t.TempDir(), "transcripts")
			shuffled := append([]transcript.Snapshot(nil), turns...)
			shuffled = append(shuffled, turns[:20]...) // duplicates
			rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			f.publish(shuffled...)
			var stores []*transcript.Store
			var stops []func() error
			for range c.members {
				store := f.store(dir)
				_, stop := f.start(Config{Store: store, BatchTurns: c.batch})
				stores, stops = append(stores, store), append(stops, stop)
			}
			f.drained(DefaultGroup)
			for i := range stores {
				if err := stops[i](); err != nil {
					t.Error(err)
				}
				if err := stores[i].Close(t.Context()); err != nil {
					t.Error(err)
				}
			}
			sameDocuments(t, documents(t, dir), want)
		})
	}
}

func TestMalformedBecomesADeadLetter(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	good := []transcript.Snapshot{makeTurn(t, "s", 1, 1), makeTurn(t, "s", 2, 1)}
	const head = `{"session_id":"s","id":"x","timestamp":"2026-11-23T15:00:00Z"`
	bad := map[string]struct{ subject, payload, kind, reason string }{
		"syntax":         {"s", `{"session_id"`, "", "not acceptable JSON"},
		"name twice":     {"s", head + `,"user":"a","user":"b"}`, "", "not acceptable JSON"},
		"nesting":        {"s", strings.Repeat("[", 5000), "", "nested deeper than 32"},
		"lone surrogate": {"s", head + `,"user":"\ud800"}`, "", "not acceptable JSON"},
		"no user":        {"s", head + `}`, "", "user is missing"},
		"wrong type":     {"s", head + `,"user":7}`, "", "user must be a string, not a number"},
		"status":         {"s", head + `,"user":"a","status":"done"}`, "", "status must be one of"},
		"no id":          {"s", `{"session_id":"s","timestamp":"2026-11-23T15:00:00Z","user":"a"}`, "", "id is missing"},
		"no timestamp":   {"s", `{"session_id":"s","id":"x","user":"a"}`, "", "timestamp is missing"},
		"year 10000":     {"s", `{"session_id":"s","id":"x","timestamp":"10000-01-01T00:00:00Z","user":"a"}`, "", "timestamp must be"},
		"rev 0":          {"s", head + `,"user":"a","rev":0}`, "", "rev must be"},
		"parent":         {"s", head + `,"user":"a","parent":"no id"}`, "", "parent must be 1 to 128"},
		"supersedes":     {"s", head + `,"user":"a","supersedes":"no id"}`, "", "supersedes must be 1 to 128"},
		"redacted text":  {"s", head + `,"user":"secret","status":"redacted","rev":1000000}`, "", "redacted turn carries text: user must be empty"},
		"redacted calls": {"s", head + `,"user":"","tool_calls":[{"name":"secret"}],"status":"redacted","rev":1000000}`, "", "redacted turn carries text: tool_calls must be left out"},
		"other session":  {"t", head + `,"user":"a"}`, "", "subject of another session"},
		"unknown type":   {"s", head + `,"user":"a"}`, "erasure", "unknown Afterword-Type"},
		"empty":          {"s", ``, "", "ends too early"},
	}
	f.publish(good[0])
	for _, b := range bad {
		f.send(stream.TurnSubject(b.subject), []byte(b.payload), b.kind)
	}
	f.publish(good[1])
	store := f.store(dir)
	var told Committed // read after the end
	c, stop := f.start(Config{Store: store, OnCommit: func(b Committed) {
		told.Turns, told.Bytes = told.Turns+b.Turns, told.Bytes+b.Bytes
		told.Took, told.Latency = max(told.Took, b.Took), max(told.Latency, b.Latency)
	}})
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, good))
	if told.Turns != len(good) || told.Bytes != good[0].Size()+good[1].Size() || told.Took <= 0 || told.Latency <= told.Took {
		t.Errorf("OnCommit was told %+v of %d turns", told, len(good))
	}

	for session, want := range map[string]bool{"s": true, "t": false} { // a turn of s, refused for its type, and one on a subject that is not its own
		if _, ok, err := (DeadReader{JS: f.js}).Turn(t.Context(), session, "x"); ok != want || err != nil {
			t.Errorf("turn x among the dead letters of %s: %v, %v", session, ok, err)
		}
	}
	letters := f.dead()
	if len(letters) != len(bad) || c.Stats().Dead != int64(len(bad)) {
		t.Errorf("%d dead letters, %d counted; want %d", len(letters), c.Stats().Dead, len(bad))
	}
	for name, b := range bad {
		found := false
		for _, l := range letters {
			h := l.Headers()
			if bytes.Equal(l.Data(), []byte(b.payload)) && strings.Contains(h.Get(stream.HeaderReason), b.reason) {
				found = h.Get(stream.HeaderSubject) == stream.TurnSubject(b.subject) && h.Get(stream.HeaderStreamSeq) != "" && h.Get(stream.HeaderTime) != "" &&
					h.Get(stream.HeaderType) == b.kind && l.Subject() == stream.DeadPrefix+DefaultGroup
			}
		}
		if !found {
			t.Errorf("%s: no dead letter with reason %q", name, b.reason)
		}
	}
}

// While dead letters cannot be stored the consumer says so, with the reason, and once one is stored no more.
func TestUnburiedDeadLetters(t *testing.T) {
	f := newFixture(t)
	c, stop := f.start(Config{Store: f.store(filepath.Join(t.TempDir(), "transcripts"))})
	defer stop()
	limited := func(most int64) {
		s, err := f.js.Stream(t.Context(), stream.Dead)
		if err != nil {
			t.Fatal(err)
		}
		cfg := s.CachedInfo().Config
		cfg.MaxMsgs = most
		if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	}
	f.send(stream.TurnSubject("s"), []byte(`{}`), "")
	servertest.Eventually(t, 20*time.Second, "a dead letter", func() bool { return c.Stats().Dead == 1 })
	if err := c.Unburied(); err != nil {
		t.Error(err)
	}
	limited(1)
	f.send(stream.TurnSubject("s"), []byte(`{}`), "")
	servertest.Eventually(t, 20*time.Second, "one that cannot be stored", func() bool { return c.Unburied() != nil })
	if err := c.Unburied(); !strings.Contains(err.Error(), "maximum messages exceeded") {
		t.Error(err)
	}
	limited(-1)
	f.send(stream.TurnSubject("s"), []byte(`{}`), "")
	servertest.Eventually(t, 20*time.Second, "one that is", func() bool { return c.Unburied() == nil })
}

func TestGroupKeepsToOneFolder(t *testing.T) {
	f := newFixture(t)
	base := t.TempDir()
	turns := conversation(t, 2, 5)
	f.publish(turns...)
	first := f.store(filepath.Join(base, "a"))
	_, stop := f.start(Config{Store: first, Machine: "m1"})
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	run := func(cfg Config) error {
		cfg.JS = f.connect()
		c, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return c.Run(ctx)
	}
	other := f.store(filepath.Join(base, "b"))
	err := run(Config{Store: other, Machine: "m1"})
	if !errors.Is(err, ErrOtherFolder) || !strings.Contains(err.Error(), other.Identity().ID[:8]) || !strings.Contains(err.Error(), first.Identity().ID[:8]) || strings.Contains(err.Error(), "\n") {
		t.Errorf("another folder: %v", err)
	}
	if err := run(Config{Store: first, Machine: "m2"}); !errors.Is(err, ErrOtherFolder) {
		t.Errorf("another machine: %v", err)
	}
	// Another group keeps a full copy.
	_, stop = f.start(Config{Store: other, Group: "copy", Machine: "m1"})
	f.drained("copy")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// A lost disk: the group moves to a new folder, which gets everything.
	third := f.store(filepath.Join(base, "c"))
	_, stop = f.start(Config{Store: third, Machine: "m1", Rebind: true})
	f.publish(makeTurn(t, "later", 1, 1))
	f.drained(DefaultGroup)
	servertest.Eventually(t, 10*time.Second, "the turn after the rebind is there", func() bool {
		_, err := third.Read(t.Context(), "later")
		return err == nil
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*transcript.Store{other, third} {
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	sameDocuments(t, documents(t, filepath.Join(base, "b")), undisturbed(t, turns))
	sameDocuments(t, documents(t, filepath.Join(base, "c")), undisturbed(t, append(turns, makeTurn(t, "later", 1, 1))))
}

// A session whose file is at fault is tried again, becomes a dead letter, and
// holds nobody up.
func TestUnwritableSession(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store := f.store(dir)
	path := filepath.Join(dir, strings.TrimSuffix(transcript.DocumentPath(transcript.Sharded, "bad"), ".json")+".tail")
	if err := os.MkdirAll(path, 0o700); err != nil { // a folder where the tail should be
		t.Fatal(err)
	}
	f.publish(makeTurn(t, "bad", 1, 1), makeTurn(t, "good", 1, 1))
	_, stop := f.start(Config{Store: store, Deliveries: 2})
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	letters := f.dead()
	if len(letters) != 1 || !strings.HasPrefix(letters[0].Headers().Get(stream.HeaderReason), "session-unwritable: ") {
		t.Errorf("dead letters: %v", letters)
	}
	dead, ok, err := DeadReader{JS: f.js}.Turn(t.Context(), "bad", "t000001")
	if err != nil || !ok || dead.SessionID != "bad" {
		t.Errorf("the turn among the dead letters: %v %v", ok, err)
	}
	if doc, err := store.Read(t.Context(), "good"); err != nil || doc.Len() != 1 {
		t.Errorf("the other session: %v, %v", doc, err)
	}
}

// The server goes away and comes back; nothing is lost and nobody restarts.
func TestServerRestart(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store := f.store(dir)
	turns := conversation(t, 3, 30)
	f.publish(turns[:40]...)
	_, stop := f.start(Config{Store: store, ProbeMax: time.Second})
	f.drained(DefaultGroup)
	f.nats.Stop()
	f.nats.Restart()
	// Until it has noticed the end, the old connection looks like one.
	servertest.Eventually(t, 20*time.Second, "connected again", func() bool { return f.js.Conn().Stats().Reconnects > 0 && f.js.Conn().IsConnected() })
	f.publish(turns[40:]...)
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}

func TestReplayAndVerify(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	base := t.TempDir()
	turns := conversation(t, 7, 30)
	f.publish(turns...)
	f.send(stream.TurnSubject("s"), []byte("{"), "")
	want := undisturbed(t, turns)

	store := f.store(filepath.Join(base, "a"))
	res, err := Replay(ctx, ReplayConfig{JS: f.js, Store: store, RoundBytes: 6000, Logger: slog.New(slog.DiscardHandler)})
	if err != nil || res.Turns != uint64(len(turns)) || res.Skipped != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	sameDocuments(t, documents(t, filepath.Join(base, "a")), want)
	if _, err := Replay(ctx, ReplayConfig{JS: f.js, Store: store}); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, filepath.Join(base, "a")), want)

	one := f.store(filepath.Join(base, "one"))
	if _, err := Replay(ctx, ReplayConfig{JS: f.js, Store: one, Session: "chat/3"}); err != nil {
		t.Fatal(err)
	}
	if docs := documents(t, filepath.Join(base, "one")); len(docs) != 1 || docs[transcript.DocumentPath(transcript.Sharded, "chat/3")] != want[transcript.DocumentPath(transcript.Sharded, "chat/3")] {
		t.Errorf("replay of one session: %v", docs)
	}

	verify := func(session string) (VerifyResult, []Difference) {
		t.Helper()
		var diffs []Difference
		res, err := Verify(ctx, VerifyConfig{JS: f.js, Store: store, Scratch: base, Session: session, Settle: -1,
			Difference: func(d Difference) { diffs = append(diffs, d) }})
		if err != nil {
			t.Fatal(err)
		}
		return res, diffs
	}
	if res, diffs := verify(""); res.Differing != 0 || len(diffs) != 0 || res.Sessions != 7 || res.Turns != 7*30 {
		t.Errorf("an intact folder: %+v %v", res, diffs)
	}
	// One session loses its files, one has a turn more than the stream.
	for _, suffix := range []string{".json", ".tail"} {
		path := strings.TrimSuffix(transcript.DocumentPath(transcript.Sharded, "chat/2"), ".json") + suffix
		if err := os.Remove(filepath.Join(base, "a", path)); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Append(ctx, makeTurn(t, "chat/1", 99, 1), makeTurn(t, "elsewhere", 1, 1)); err != nil {
		t.Fatal(err)
	}
	res2, diffs := verify("")
	if res2.Differing != 1 || res2.Missing != 30 || res2.FileOnly != 2 || len(diffs) != 1 || diffs[0].Session != "chat/2" {
		t.Errorf("a damaged folder: %+v %v", res2, diffs)
	}
	if res, diffs := verify("chat/2"); res.Missing != 30 || len(diffs) != 1 {
		t.Errorf("one session: %+v %v", res, diffs)
	}
	if left, err := filepath.Glob(filepath.Join(base, "verify-*")); err != nil || len(left) > 0 {
		t.Errorf("scratch is left: %v %v", left, err)
	}
	reader := NewStreamReader(f.js, 0)
	doc, err := reader.Read(ctx, "chat/2")
	if err != nil || doc.Len() != 30 {
		t.Errorf("from the stream: %v, %v", doc, err)
	}
	if _, err := reader.Read(ctx, "nobody"); !errors.Is(err, transcript.ErrNoSession) {
		t.Errorf("an unknown session in the stream: %v", err)
	}
}
