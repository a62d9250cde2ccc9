package cache

import (
	"context"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

// told is a stream in memory that tells the newest event of a session.
type told struct {
	*store
	newest transcript.Snapshot
	err    error
	asked  int
}

func (s *told) Newest(context.Context, string) (transcript.Snapshot, error) {
	s.asked++
	return s.newest, s.err
}

// TestReplayedEntryIsNotServed: a genuine entry of the same session that was put back is not believed by a process that
// was started since and knows nothing of the session.
func TestReplayedEntryIsNotServed(t *testing.T) {
	s := servertest.Redis(t)
	c := bare(t, s.Addr())
	all := turns(t, "s", 1, 5)
	begun, failed, redacted := turn("s", 6), turn("s", 6), turn("s", 5)
	begun.Assistant, begun.Status = "", transcript.Pending
	failed.Assistant, failed.Status, failed.Rev = "", transcript.Failed, 2
	redacted.User, redacted.Assistant, redacted.Meta = "", "", nil
	redacted.Status, redacted.Rev = transcript.Redacted, transcript.RedactRev
	regenerated := turn("s", 3)
	regenerated.Rev = 2
	events := func(more ...transcript.Turn) []transcript.Snapshot {
		l := all[:5:5]
		for _, m := range more {
			l = append(l, snap(t, m))
		}
		return l
	}
	for _, f := range []struct {
		name     string
		events   []transcript.Snapshot // in the order of the stream
		cached   int                   // how many of them Redis has
		trimmed  bool                  // the stream has lost some, and there are no files
		down     bool                  // the stream does not answer, and there are no files
		source   Source
		degraded bool
	}{
		{name: "as it is", events: all, cached: 5, source: FromRedis},
		{name: "a turn is missing", events: all, cached: 4, source: FromStream},
		{name: "a revision is missing", events: events(regenerated), cached: 5, source: FromStream},
		{name: "a redaction is missing", events: events(redacted), cached: 5, source: FromStream},
		{name: "the last turn has begun", events: events(begun), cached: 6, source: FromRedis},
		{name: "one has begun since", events: events(begun), cached: 5, source: FromStream},
		{name: "the last turn has failed", events: events(begun, failed), cached: 6, source: FromStream},
		{name: "the stream has lost turns", events: events(begun), cached: 5, trimmed: true, source: FromRedis},
		{name: "the stream has lost turns, and Redis too", events: events(begun), cached: 4, trimmed: true, source: FromStream, degraded: true},
		{name: "the stream does not answer", events: all, cached: 4, down: true, source: FromRedis, degraded: true},
	} {
		t.Run(f.name, func(t *testing.T) {
			check(t, c.FlushAll(t.Context()).Err())
			w, before := newRedis(t, patient(s.URL())), newStore()
			before.put(f.events[:f.cached]...)
			rec, err := before.Path(t.Context(), "s", transcript.PathQuery{Limit: 10})
			check(t, err)
			check(t, w.Refresh(t.Context(), "s", rec))

			st := &told{store: newStore(), newest: f.events[len(f.events)-1]}
			st.put(f.events...)
			st.partial = f.trimmed
			if f.down {
				st.err = errDisk
				st.fail(errDisk)
			}
			r := newRedis(t, patient(s.URL()))
			h := newHistory(t, HistoryConfig{Redis: r, Stream: st})
			got := load(t, h, "s", 0, f.source, f.degraded)
			if f.down {
				if st.reads != 0 {
					t.Error("a stream that did not answer was asked for the turns")
				}
				return
			}
			want, err := st.Path(t.Context(), "s", transcript.PathQuery{Limit: 10})
			check(t, err)
			sameTurns(t, got.Turns, want.Turns)
			if f.trimmed { // nothing was read that is known to be all
				return
			}
			eventually(t, "a history from Redis", func() bool { // an old one is replaced once it is known for old
				res, err := h.Load(t.Context(), "s", 0)
				return err == nil && res.Source == FromRedis
			})
			if st.asked != 1 {
				t.Errorf("the newest event was asked for %d times", st.asked)
			}
		})
	}
}
