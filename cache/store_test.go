package cache

import (
	"context"
	"fmt"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

// TestWithTranscriptStore uses the real store: after a refresh Redis holds the
// last ten answered turns of the files, and a walk refreshes all of them.
func TestWithTranscriptStore(t *testing.T) {
	st, err := transcript.Open(transcript.Config{Dir: t.TempDir()})
	check(t, err)
	defer st.Close(context.Background())
	s := servertest.Redis(t)
	r := newRedis(t, patient(s.URL()))
	f := newRefresher(t, RefresherConfig{Redis: r, Reader: st})
	h := newHistory(t, HistoryConfig{Redis: r, File: st})

	var all [20][]transcript.Snapshot
	for i := range all {
		session := fmt.Sprint("session ", i)
		for n := 1; n <= 15; n++ {
			x := turn(session, n)
			switch n {
			case 9:
				x.Status, x.Error = transcript.Failed, "no answer"
			case 12:
				x.Supersedes = "t0011"
			}
			all[i] = append(all[i], snap(t, x))
		}
		check(t, st.Append(t.Context(), all[i][:8]...))
		load(t, h, session, 0, FromFile, false)
		check(t, st.Append(t.Context(), all[i][8:]...))
		f.Changed(session)
	}
	flush(t, f)
	c := bare(t, s.Addr())
	verify := func() {
		t.Helper()
		for i := range all {
			holds(t, c, all[i], DefaultTTL)
			sameTurns(t, load(t, h, fmt.Sprint("session ", i), 0, FromRedis, false).Turns, transcript.LastAnswered(all[i], 10))
		}
	}
	verify()

	check(t, c.FlushAll(t.Context()).Err())
	sameTurns(t, load(t, h, "session 0", 0, FromFile, false).Turns, transcript.LastAnswered(all[0], 10))
	check(t, st.Walk(t.Context(), transcript.WalkConfig{
		Changed: func(session string) { check(t, f.ChangedWait(t.Context(), session)) },
		Fault:   func(token string, err error) { t.Error(token, err) },
	}))
	flush(t, f)
	verify()
}
