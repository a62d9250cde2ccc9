package consumer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

const checkpointName = ".afterword-replay"

// interrupt replays until there is a new checkpoint, and stops it then.
func (f *fixture) interrupt(cfg ReplayConfig) {
	f.t.Helper()
	before, err := cfg.Store.Note(f.t.Context(), transcript.NoteReplay)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for ctx.Err() == nil {
			if note, err := cfg.Store.Note(ctx, transcript.NoteReplay); err == nil && !bytes.Equal(note, before) {
				cancel()
			}
			sleep(ctx, time.Millisecond)
		}
	}()
	defer func() { cancel(); <-watched }()
	if _, err := Replay(ctx, cfg); !errors.Is(err, context.Canceled) {
		f.t.Fatalf("a replay that was stopped: %v", err)
	}
}

// A replay that is stopped goes on where it was, and makes the same bytes; what was
// merged before is not read again.
func TestReplayResumes(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "transcripts")
	turns := conversation(t, 7, 60)
	f.publish(turns...)
	f.send(stream.TurnSubject("s"), []byte("{"), "")
	store := f.store(dir)
	cfg := ReplayConfig{JS: f.js, Store: store, Resume: true, Checkpoint: 20 * time.Millisecond, Rate: 50} // long after its first checkpoint
	f.interrupt(cfg)
	path := filepath.Join(dir, checkpointName)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Fatalf("no checkpoint: %v %v", info, err)
	}
	// A walk lets it be, however old it is.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if err := store.Walk(ctx, transcript.WalkConfig{Fault: func(token string, err error) { t.Error(token, err) }}); err != nil {
		t.Fatal(err)
	}
	// Another process goes on, and sweeps what a killed one left.
	left := filepath.Join(dir, filepath.Dir(transcript.DocumentPath(transcript.Sharded, "chat/1")), "."+transcript.Token("chat/1")+".json123")
	if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(ctx); err != nil {
		t.Fatal(err)
	}
	cfg.Store = f.store(dir)
	f.interrupt(cfg)
	cfg.Rate = 0
	at, err := cfg.Store.Note(ctx, transcript.NoteReplay)
	if err != nil || bytes.Contains(at, []byte(`"sequence":0`)) {
		t.Fatalf("checkpoint %s, %v", at, err)
	}
	res, err := Replay(ctx, cfg)
	if err != nil || res.Resumed == 0 || res.Turns == 0 || res.Turns+res.Resumed != uint64(len(turns)) || res.Skipped != 1 || res.LastSeq != uint64(len(turns))+1 {
		t.Errorf("%+v, %v; %d turns in all", res, err, len(turns))
	}
	if err := cfg.Store.Close(ctx); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a temporary document is left: %v", err)
	}
	if entries, err := filepath.Glob(filepath.Join(dir, "*afterword-replay*")); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// A checkpoint is used by the replay that it is of, and by no other.
func TestCheckpointOfAnotherReplay(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	base := t.TempDir()
	turns := conversation(t, 3, 20)
	f.publish(turns...)
	store := f.store(filepath.Join(base, "a"))
	cfg := ReplayConfig{JS: f.js, Store: store, Resume: true, Checkpoint: 20 * time.Millisecond, Rate: 10} // likewise
	f.interrupt(cfg)
	note, err := os.ReadFile(filepath.Join(base, "a", checkpointName))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(name string, change func(*ReplayConfig), says string) {
		t.Helper()
		other := cfg
		change(&other)
		_, err := Replay(ctx, other)
		if !errors.Is(err, ErrCheckpoint) {
			t.Errorf("%s: %v", name, err)
			return
		}
		servertest.OneLine(t, err, says)
	}
	refused("one session", func(c *ReplayConfig) { c.Session = "chat/1" }, "it is of a replay of all sessions")
	refused("since", func(c *ReplayConfig) { c.Since = time.Unix(1e9, 0) }, "it is of a replay of all sessions")
	write := func(dir, note string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(base, dir, checkpointName), []byte(note), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere := f.store(filepath.Join(base, "b"))
	write("b", string(note))
	refused("a copy in another folder", func(c *ReplayConfig) { c.Store = elsewhere }, "it is of transcripts folder "+store.Identity().ID)
	write("b", string(note[:len(note)/2]))
	refused("half a file", func(c *ReplayConfig) { c.Store = elsewhere }, "its file is not what a replay wrote")
	write("b", `{"sequence":"one"}`)
	refused("another type", func(c *ReplayConfig) { c.Store = elsewhere }, "its file is not what a replay wrote")
	write("a", strings.Replace(string(note), `"sequence":`, `"sequence":99`, 1))
	refused("a stream that was restored from a backup", func(*ReplayConfig) {}, "and the stream ends at")
	write("a", string(note))

	// Without Resume it is neither used nor changed.
	plain := cfg
	plain.Resume, plain.Rate = false, 0
	if res, err := Replay(ctx, plain); err != nil || res.Turns != uint64(len(turns)) {
		t.Errorf("%+v, %v", res, err)
	}
	if again, err := os.ReadFile(filepath.Join(base, "a", checkpointName)); err != nil || string(again) != string(note) {
		t.Errorf("the checkpoint is %s, %v", again, err)
	}

	if err := f.js.DeleteStream(ctx, stream.Turns); err != nil {
		t.Fatal(err)
	}
	if err := stream.Ensure(ctx, f.js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	f.publish(turns...)
	refused("a stream that was made again", func(*ReplayConfig) {}, "it is of stream AFTERWORD_TURNS made at")
}

// Only what was stored since then is replayed, of one session and of all.
func TestReplaySince(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	old, young := conversation(t, 3, 5), []transcript.Snapshot{makeTurn(t, "chat/1", 70, 1), makeTurn(t, "new", 1, 1)}
	f.publish(old...)
	s, err := f.js.Stream(ctx, stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	last, err := s.GetMsg(ctx, uint64(len(old)))
	if err != nil {
		t.Fatal(err)
	}
	since := last.Time.Add(time.Nanosecond)
	replayed := func(session string, since time.Time, want ...transcript.Snapshot) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "transcripts")
		res, err := Replay(ctx, ReplayConfig{JS: f.js, Store: f.store(dir), Session: session, Since: since})
		if err != nil || res.Turns != uint64(len(want)) {
			t.Errorf("%q: %+v, %v; want %d turns", session, res, err, len(want))
		}
		sameDocuments(t, documents(t, dir), undisturbed(t, want))
	}
	replayed("", since) // nothing is so new
	f.publish(young...)
	replayed("", since, young...)
	replayed("", last.Time, append([]transcript.Snapshot{old[len(old)-1]}, young...)...)
	replayed("chat/1", since, young[0])
	replayed("chat/2", since)
	replayed("new", time.Time{}, young[1])
}

// No more turns a second than asked for, and a slow replay loses nothing.
func TestReplayRate(t *testing.T) {
	f := newFixture(t)
	turns := conversation(t, 2, 30)
	f.publish(turns...)
	dir := filepath.Join(t.TempDir(), "transcripts")
	const rate = 40
	began := time.Now()
	res, err := Replay(t.Context(), ReplayConfig{JS: f.js, Store: f.store(dir), Rate: rate})
	if err != nil || res.Turns != uint64(len(turns)) {
		t.Fatalf("%+v, %v", res, err)
	}
	least := time.Duration(len(turns)-1-rate/10) * time.Second / rate
	if took := time.Since(began); took < least {
		t.Errorf("%d turns at %d a second in %v, expected at least %v", len(turns), rate, took, least)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, turns))
}

// A removed end of the stream is an end too: nobody waits for messages that are not there.
func TestReadWhatIsGone(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	f.publish(conversation(t, 1, 3)...)
	s, err := f.js.Stream(ctx, stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	last := s.CachedInfo().State.LastSeq
	if err := s.DeleteMsg(ctx, last); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	got, err := readSpan(ctx, f.js, stream.Turns, "", span{after: last - 1}, stream.DefaultRequestTimeout, func(jetstream.Msg, *jetstream.MsgMetadata) error {
		t.Error("a message that is gone")
		return nil
	})
	if err != nil || got != last || time.Since(began) >= stream.DefaultRequestTimeout {
		t.Errorf("read to %d, %v, in %v", got, err, time.Since(began))
	}
}
