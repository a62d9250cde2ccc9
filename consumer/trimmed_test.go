package consumer

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

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

// A group that begins on a trimmed stream, and a folder that takes one over, say how many messages they
// could not read, and that stays with the group.
func TestUnreadMessages(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	for n := range 10 {
		f.publish(makeTurn(t, "s", n, 1))
	}
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
	first, second := f.store(filepath.Join(t.TempDir(), "transcripts")), f.store(filepath.Join(t.TempDir(), "transcripts"))
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
	third := f.store(filepath.Join(t.TempDir(), "transcripts"))
	run("whole", third, true, 7, 7)
	run("whole", third, false, 0, 7)
}
