package cache

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

// kilobyteTurns are ten turns of about 1 KiB.
func kilobyteTurns(b *testing.B, session string) transcript.Recent {
	var all []transcript.Snapshot
	for n := range 10 {
		x := turn(session, n)
		x.Assistant = strings.Repeat("words, ", 130)
		all = append(all, snap(b, x))
	}
	return recentOf(all, 10)
}

// BenchmarkHistory compares a history from Redis with the bare GET that a chat
// service does without afterword.
func BenchmarkHistory(b *testing.B) {
	s := servertest.Redis(b)
	r := newRedis(b, Config{URL: s.URL()})
	h := newHistory(b, HistoryConfig{Redis: r})
	c := bare(b, s.Addr())
	check(b, r.Refresh(b.Context(), "s", kilobyteTurns(b, "s")))
	b.Run("bare GET", func(b *testing.B) {
		for b.Loop() {
			if err := c.Get(b.Context(), ConversationKey("s")).Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Load", func(b *testing.B) {
		for b.Loop() {
			if got, err := h.Load(b.Context(), "s", 10); err != nil || len(got.Turns) != 10 {
				b.Fatal(got, err)
			}
		}
	})
}

// BenchmarkRefresher measures sessions refreshed, from a store in memory.
func BenchmarkRefresher(b *testing.B) {
	s := servertest.Redis(b)
	r := newRedis(b, Config{URL: s.URL()})
	st := newStore()
	var sessions []string
	for i := range 2000 {
		session := fmt.Sprint("s", i)
		sessions = append(sessions, session)
		st.put(kilobyteTurns(b, session).Turns...)
	}
	f := newRefresher(b, RefresherConfig{Redis: r, Reader: st})
	start, n := time.Now(), 0
	for b.Loop() {
		f.Changed(sessions...)
		flush(b, f)
		n += len(sessions)
	}
	b.ReportMetric(float64(n)/time.Since(start).Seconds(), "sessions/s")
}
