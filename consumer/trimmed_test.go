package consumer

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// A stream that has removed anything, in whatever way, no longer has all turns of a session
// for certain, nor does it know that there never were any.
func TestTrimmedStreamIsPartial(t *testing.T) {
	for name, trim := range map[string]func(f *fixture, s jetstream.Stream) error{
		"nothing": nil,
		"from before": func(f *fixture, s jetstream.Stream) error {
			return s.Purge(f.t.Context(), jetstream.WithPurgeSequence(3))
		},
		"a session": func(f *fixture, s jetstream.Stream) error {
			return s.Purge(f.t.Context(), jetstream.WithPurgeSubject(stream.TurnSubject("gone")))
		},
		"a message": func(f *fixture, s jetstream.Stream) error { return s.DeleteMsg(f.t.Context(), 4) },
		"all but the newest of each": func(f *fixture, s jetstream.Stream) error {
			cfg := s.CachedInfo().Config
			cfg.MaxMsgsPerSubject, cfg.Discard = 1, jetstream.DiscardOld
			_, err := f.js.UpdateStream(f.t.Context(), cfg)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			ctx := t.Context()
			f.publish(makeTurn(t, "s", 1, 1), makeTurn(t, "gone", 1, 1), makeTurn(t, "s", 2, 1), makeTurn(t, "s", 3, 1), makeTurn(t, "s", 4, 1))
			r := NewStreamReader(f.js, 0)
			if v, err := r.View(ctx, "s"); err != nil || v.Partial || v.Len() != 4 {
				t.Fatalf("before: %v", err)
			}
			partial := trim != nil
			if partial {
				s, err := f.js.Stream(ctx, stream.Turns)
				if err != nil {
					t.Fatal(err)
				}
				if err := trim(f, s); err != nil {
					t.Fatal(err)
				}
			}
			missing := transcript.ErrNoSession
			if partial {
				missing = transcript.ErrPartial
			}
			v, err := r.View(ctx, "s")
			if err != nil || v.Partial != partial {
				t.Errorf("view %+v, %v", v, err)
			}
			if rec, err := r.Recent(ctx, "s", 10); err != nil || rec.Partial != partial {
				t.Errorf("recent %+v, %v", rec, err)
			}
			if doc, err := r.Read(ctx, "s"); doc == nil || errors.Is(err, transcript.ErrPartial) != partial {
				t.Errorf("document %v, %v", doc, err)
			}
			if _, err := r.View(ctx, "never"); !errors.Is(err, missing) {
				t.Errorf("another session: %v, want %v", err, missing)
			}
			if _, err := r.Recent(ctx, "never", 10); !errors.Is(err, missing) {
				t.Errorf("another session: %v, want %v", err, missing)
			}
			if s, err := f.js.Stream(ctx, stream.Turns); err != nil || s.CachedInfo().State.Consumers != 0 {
				t.Errorf("%v; readers are left, and a stream takes no more than 1,000", err)
			}
			if _, ok, err := r.Turn(ctx, "s", "t000004"); !ok || err != nil {
				t.Errorf("a turn that is there: %v %v", ok, err)
			}
			for _, session := range []string{"s", "never"} {
				if _, ok, err := r.Turn(ctx, session, "none"); ok || errors.Is(err, transcript.ErrPartial) != partial {
					t.Errorf("a turn of %s that is not there: %v %v", session, ok, err)
				}
			}
		})
	}
}

// What a trimmed stream still has is the whole of a session when its first turn is known to be there, since it was read before anything
// was removed; and a path is right when it is later than anything removed can be dated.
func TestTrimmedStreamKnowsWhatItHas(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	r := NewStreamReader(f.js, 0)
	partial := func(session string) (view, path bool, turns int) {
		t.Helper()
		v, err := r.View(ctx, session)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		rec, err := r.Recent(ctx, session, 2)
		if err != nil {
			t.Fatal(err)
		}
		return v.Partial, rec.Short(), len(rec.Turns)
	}
	f.publish(makeTurn(t, "cut", 1, 1), makeTurn(t, "read", 1, 1), makeTurn(t, "cut", 2, 1), makeTurn(t, "unread", 1, 1))
	partial("cut")
	partial("read")
	if newest, err := r.Newest(ctx, "cut"); err != nil || newest.SessionID != "cut" || newest.ID != makeTurn(t, "cut", 2, 1).ID {
		t.Errorf("the newest event is %s, %v", newest.ID, err)
	}
	if _, err := NewStreamReader(f.js, 0).Newest(ctx, "nobody"); !errors.Is(err, transcript.ErrNoSession) {
		t.Errorf("the newest event of nobody: %v", err)
	}
	s, err := f.js.Stream(ctx, stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(2)); err != nil {
		t.Fatal(err)
	}
	for session, want := range map[string]bool{"cut": true, "read": false, "unread": true} {
		if view, path, _ := partial(session); view != want || path != want {
			t.Errorf("%s: transcript %v, path %v, want %v", session, view, path, want)
		}
	}
	first, err := s.GetMsg(ctx, 2)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 { // the first is dated as late as a removed one may be, the others are later
		turn := transcript.Turn{SessionID: "ahead", ID: fmt.Sprint("t", n), User: "u", Assistant: "a",
			Timestamp: first.Time.Add(transcript.MaxAhead + time.Duration(n)*time.Microsecond)}
		d, err := turn.Draft()
		if err != nil {
			t.Fatal(err)
		}
		snap, err := d.Snapshot(0)
		if err != nil {
			t.Fatal(err)
		}
		f.publish(snap)
		if view, path, turns := partial("ahead"); !view || path != (n < 2) || turns != min(n+1, 2) {
			t.Errorf("with %d late turns: transcript %v, path %v of %d", n, view, path, turns)
		}
	}
	if err := s.DeleteMsg(ctx, 3); err != nil { // newer than what is left
		t.Fatal(err)
	}
	for _, session := range []string{"read", "ahead"} {
		if view, path, _ := partial(session); !view || !path {
			t.Errorf("%s, after something in between was removed: transcript %v, path %v", session, view, path)
		}
	}
	if err := s.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := r.View(ctx, "read"); !errors.Is(err, transcript.ErrPartial) {
		t.Errorf("after everything was removed: %v", err)
	}
	if gone, err := r.removed(ctx); err != nil || gone.nothing || gone.oldest { // an empty stream does not tell when
		t.Errorf("after everything was removed: %+v, %v", gone, err)
	}
}

// A stream that took the place of another one has lost what that had, though it has removed nothing: one that
// was made because it was missing, and one that somebody made, of which a folder knows.
func TestStreamMadeAgainIsPartial(t *testing.T) {
	for name, remake := range map[string]func(f *fixture, store *transcript.Store){
		"by a service": func(f *fixture, _ *transcript.Store) {
			if err := stream.Ensure(f.t.Context(), f.js, stream.StreamConfig{}); err != nil {
				f.t.Fatal(err)
			}
		},
		"both, by a service that has seen them": func(f *fixture, _ *transcript.Store) {
			if err := f.js.DeleteStream(f.t.Context(), stream.Dead); err != nil {
				f.t.Fatal(err)
			}
			if err := stream.Ensure(f.t.Context(), f.js, stream.StreamConfig{Continued: true}); err != nil {
				f.t.Fatal(err)
			}
		},
		"both, by anybody, and then a group joins": func(f *fixture, store *transcript.Store) {
			if err := f.js.DeleteStream(f.t.Context(), stream.Dead); err != nil {
				f.t.Fatal(err)
			}
			if err := stream.Ensure(f.t.Context(), f.js, stream.StreamConfig{}); err != nil {
				f.t.Fatal(err)
			}
			c, stop := f.start(Config{Store: store})
			f.ready(c)
			if err := stop(); err != nil {
				f.t.Fatal(err)
			}
			if lacks, err := store.Unread(f.t.Context()); err != nil || lacks != nil {
				f.t.Errorf("a folder that had all of the stream lacks %+v, %v", lacks, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			ctx := t.Context()
			store := f.store(filepath.Join(t.TempDir(), "transcripts"))
			f.publish(makeTurn(t, "s", 1, 1), makeTurn(t, "s", 2, 1))
			c, stop := f.start(Config{Store: store})
			f.ready(c)
			f.drained(DefaultGroup)
			if err := stop(); err != nil {
				t.Fatal(err)
			}
			running := NewStreamReader(f.js, 0)
			if v, err := running.View(ctx, "s"); err != nil || v.Partial {
				t.Fatalf("before: %v", err)
			}
			if err := f.js.DeleteStream(ctx, stream.Turns); err != nil {
				t.Fatal(err)
			}
			remake(f, store)
			f.publish(makeTurn(t, "s", 3, 1))
			for _, r := range []*StreamReader{running, NewStreamReader(f.js, 0)} {
				if v, err := r.View(ctx, "s"); err != nil || !v.Partial {
					t.Errorf("view %+v, %v", v, err)
				}
				if _, err := r.View(ctx, "never"); !errors.Is(err, transcript.ErrPartial) {
					t.Errorf("another session: %v", err)
				}
			}
		})
	}
}

// A folder knows what the stream removed before it could read it, and says how much: in the log, in its note, and with the group. What is
// read from it may be short, and says so.
func TestUnreadMessages(t *testing.T) {
	t.Parallel() // it is many consumers, each of which takes a second to stop
	f := newFixture(t)
	ctx := t.Context()
	published := 0
	publish := func(n int) {
		for range n {
			f.publish(makeTurn(t, "s", published, 1))
			published++
		}
	}
	publish(10)
	s, err := f.js.Stream(ctx, stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	trim := func(upTo uint64) {
		t.Helper()
		if err := s.Purge(ctx, jetstream.WithPurgeSequence(upTo)); err != nil {
			t.Fatal(err)
		}
	}
	newStore := func() *transcript.Store { return f.store(filepath.Join(t.TempDir(), "transcripts")) }
	first, second := newStore(), newStore()
	run := func(group string, store *transcript.Store, rebind bool, logged int, kept uint64) {
		t.Helper()
		var log bytes.Buffer
		c, stop := f.start(Config{Group: group, Store: store, Rebind: rebind, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		f.ready(c)
		f.drained(group)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(log.String(), fmt.Sprintf("unread=%d ", logged)); said != (logged > 0) || strings.Contains(log.String(), "unread=") != said {
			t.Errorf("group %s logged %s, want %d unread", group, log.String(), logged)
		}
		lacks, err := store.Unread(ctx)
		if err != nil || (lacks != nil) != (kept > 0) || lacks != nil && lacks.Messages != kept {
			t.Errorf("the folder of group %s lacks %+v, %v, want %d", group, lacks, err, kept)
		}
		partial := kept > 0
		if v, err := store.View(ctx, "s"); err != nil || v.Partial != partial {
			t.Errorf("group %s: view %+v, %v", group, v, err)
		} else {
			v.Close()
		}
		if rec, err := store.Recent(ctx, "s", 3); err != nil || rec.Partial != partial {
			t.Errorf("group %s: recent %+v, %v", group, rec, err)
		}
		_, verr := store.View(ctx, "never")
		_, perr := store.Path(ctx, "s", transcript.PathQuery{Leaf: "none", Limit: 1})
		_, _, terr := store.Turn(ctx, "s", "none")
		for what, err := range map[string]error{"view": verr, "path": perr, "turn": terr} {
			if errors.Is(err, transcript.ErrPartial) != partial {
				t.Errorf("group %s: %s of what is not there: %v", group, what, err)
			}
		}
		infos, err := stream.Info(ctx, f.js)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range infos[0].Consumers {
			if i.Name == group && i.Unread != kept {
				t.Errorf("group %s has %d unread, want %d", group, i.Unread, kept)
			}
		}
	}
	run("whole", first, false, 0, 0)
	trim(4)
	run("whole", first, false, 0, 0)
	run("late", second, false, 3, 3)
	trim(8)
	run("late", second, false, 0, 3)
	third := newStore()
	run("whole", third, true, 7, 7)
	run("whole", third, false, 0, 7)
	trim(11)
	run("renamed", first, false, 0, 0) // it had read all that is gone
	if err := f.js.DeleteConsumer(ctx, stream.Turns, "renamed"); err != nil {
		t.Fatal(err)
	}
	run("renamed", first, false, 0, 0)
	publish(5)
	trim(14) // while nobody consumed
	run("renamed", first, false, 3, 3)
	if err := first.DropNote(ctx, transcript.NoteUnread); err != nil { // an operator has copied them
		t.Fatal(err)
	}
	run("renamed", first, false, 0, 0)
	trim(16)
	run("renamed", first, false, 0, 0)
	publish(2)
	if err := s.DeleteMsg(ctx, 16); err != nil { // in between, and never delivered
		t.Fatal(err)
	}
	publish(1)
	run("renamed", first, false, 1, 1)

	fourth := newStore() // of a replay
	res, err := Replay(ctx, ReplayConfig{JS: f.js, Store: fourth})
	if lacks, lerr := fourth.Unread(ctx); err != nil || lerr != nil || res.Unread != 16 || lacks == nil || lacks.Messages != 16 {
		t.Errorf("a replay: %+v, %v; the folder lacks %+v, %v", res, err, lacks, lerr)
	}
	run("replayed", fourth, false, 0, 16)

	if err := stream.MarkContinued(ctx, f.js); err != nil { // it took the place of one that had turns: one more, at least
		t.Fatal(err)
	}
	fifth, sixth := newStore(), newStore()
	run("behind", fifth, false, 17, 17)
	run("renamed", first, false, 0, 1)
	if res, err := Replay(ctx, ReplayConfig{JS: f.js, Store: sixth}); err != nil || res.Unread != 17 {
		t.Errorf("a replay of a stream that took another one's place: %+v, %v", res, err)
	}
}

// What a running consumer is not given is unread if the stream has removed it, and not if the stream has it still: then
// somebody has changed the durable consumer.
func TestUnreadWhileRunning(t *testing.T) {
	for _, trimmed := range []bool{true, false} {
		f := newFixture(t)
		ctx := t.Context()
		store := f.store(filepath.Join(t.TempDir(), "transcripts"))
		c, stop := f.start(Config{Store: store})
		for n := range 3 {
			f.publish(makeTurn(t, "s", n, 1))
		}
		f.ready(c)
		f.drained(DefaultGroup)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for n := range 5 {
			f.publish(makeTurn(t, "s", 3+n, 1))
		}
		if trimmed {
			s, err := f.js.Stream(ctx, stream.Turns)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Purge(ctx, jetstream.WithPurgeSequence(7)); err != nil {
				t.Fatal(err)
			}
		}
		c.follower.saw(7, 4, 1)
		c.committed(ctx, c.follower.now())
		c.keepPosition(ctx)
		lacks, err := store.Unread(ctx)
		if err != nil || trimmed != (lacks != nil) || lacks != nil && lacks.Messages != 3 {
			t.Errorf("trimmed %v: the folder lacks %+v, %v", trimmed, lacks, err)
		}
	}
}

// A member that is not given all of what comes in a row, and a server that gives some again or sets its count
// back, are no reason to call anything unread.
func TestFollower(t *testing.T) {
	type delivery struct{ sequence, delivery, missed uint64 }
	for name, deliveries := range map[string][]delivery{
		"in a row":                    {{1, 1, 0}, {2, 2, 0}, {3, 3, 0}},
		"removed in between":          {{1, 1, 0}, {5, 2, 3}, {6, 3, 0}},
		"another member's":            {{1, 1, 0}, {5, 5, 0}, {6, 6, 0}, {17, 10, 7}},
		"given again":                 {{1, 1, 0}, {2, 2, 0}, {1, 3, 0}, {2, 4, 0}, {3, 5, 0}, {8, 6, 4}},
		"given again to another":      {{2, 2, 0}, {3, 9, 0}, {5, 10, 1}},
		"after a kill":                {{43, 43, 0}, {44, 51, 0}, {45, 52, 0}, {51, 58, 0}},
		"the server's count set back": {{50, 50, 0}, {46, 46, 0}, {50, 50, 0}, {51, 51, 0}, {60, 41, 0}, {61, 42, 0}, {63, 43, 1}},
		"removed before the first":    {{41, 1, 40}},
	} {
		var f follower
		for i, d := range deliveries {
			if missed := f.saw(d.sequence, d.delivery, 0); missed != d.missed {
				t.Errorf("%s: %d messages missed at delivery %d, want %d", name, missed, i, d.missed)
			}
		}
	}
}
