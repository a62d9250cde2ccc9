package cache

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

func newRefresher(t testing.TB, cfg RefresherConfig) *Refresher {
	t.Helper()
	f, err := NewRefresher(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		f.Close(ctx)
	})
	return f
}

func flush(t testing.TB, f *Refresher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	check(t, f.Flush(ctx))
}

func TestRefresherWritesWhatChanged(t *testing.T) {
	s := servertest.Redis(t)
	r, st := newRedis(t, patient(s.URL())), newStore()
	f := newRefresher(t, RefresherConfig{Redis: r, Reader: st})
	const sessions = 500
	for n := 1; n <= 12; n++ {
		for i := range sessions {
			session := fmt.Sprint("s", i)
			st.put(snap(t, turn(session, n)))
			f.Changed(session, session, "with{braces}")
		}
	}
	flush(t, f)
	for i := range sessions {
		holds(t, bare(t, s.Addr()), turns(t, fmt.Sprint("s", i), 1, 12), DefaultTTL)
		if t.Failed() {
			return
		}
	}
}

// TestRedisOutageHealsWithoutNewTurns: sessions that change while Redis hangs,
// is dead or was restarted empty are right soon after it is back.
func TestRedisOutageHealsWithoutNewTurns(t *testing.T) {
	for _, c := range []struct {
		name        string
		break_, fix func(*servertest.RedisServer)
	}{
		{"hung", (*servertest.RedisServer).Hang, (*servertest.RedisServer).Resume},
		{"dead", (*servertest.RedisServer).Kill, (*servertest.RedisServer).Restart},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := servertest.Redis(t)
			r, st := newRedis(t, Config{URL: s.URL()}), newStore()
			f := newRefresher(t, RefresherConfig{Redis: r, Reader: st})
			change := func(from, to int) {
				for i := range 200 {
					session := fmt.Sprint("s", i)
					st.put(turns(t, session, from, to)...)
					within(t, DefaultOpTimeout/2, "Changed", func() { f.Changed(session) })
				}
			}
			change(1, 5)
			flush(t, f)
			c.break_(s)
			change(6, 9)
			eventually(t, "the breaker to open", func() bool { return !r.Writable() })
			change(10, 12)
			if n, missed := f.Waiting(); n != 200 || missed {
				t.Errorf("%d sessions wait, missed %v", n, missed)
			}
			c.fix(s)
			within(t, 8*time.Second, "healing", func() { flush(t, f) })
			for i := range 200 {
				holds(t, bare(t, s.Addr()), turns(t, fmt.Sprint("s", i), 1, 12), DefaultTTL)
			}
		})
	}
}

func TestOverflowIsMissedAndTold(t *testing.T) {
	s := servertest.Redis(t)
	r, st := newRedis(t, Config{URL: s.URL(), BreakerWait: 200 * time.Millisecond}), newStore()
	missed := make(chan struct{}, 10)
	f := newRefresher(t, RefresherConfig{Redis: r, Reader: st, MaxStale: 50, OnMissed: func() { missed <- struct{}{} }})
	s.Kill()
	var sessions []string
	for i := range 120 {
		session := fmt.Sprint("s", i)
		sessions = append(sessions, session)
		st.put(turns(t, session, 1, 3)...)
		f.Changed(session)
	}
	if n, over := f.Waiting(); n > 50 || !over {
		t.Fatalf("%d wait, missed %v", n, over)
	}
	eventually(t, "the breaker to open", func() bool { return !r.Writable() })
	select {
	case <-missed:
		t.Fatal("OnMissed was called while Redis is down")
	default:
	}
	s.Restart()
	select {
	case <-missed:
	case <-time.After(patience):
		t.Fatal("OnMissed was not called")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	check(t, f.ChangedWait(ctx, sessions...)) // the walk
	flush(t, f)
	for _, session := range sessions {
		holds(t, bare(t, s.Addr()), turns(t, session, 1, 3), DefaultTTL)
	}
	if n, over := f.Waiting(); n != 0 || over || len(missed) != 0 {
		t.Errorf("%d wait, missed %v, told %d times more", n, over, len(missed))
	}
}

func TestStoreTroubleKeepsTheSession(t *testing.T) {
	s := servertest.Redis(t)
	r, st := newRedis(t, patient(s.URL())), newStore()
	f := newRefresher(t, RefresherConfig{
		Redis: r, Reader: st, StoreTimeout: 50 * time.Millisecond, RetryAfter: 20 * time.Millisecond, RetryMax: 100 * time.Millisecond,
	})
	st.put(turns(t, "s", 1, 3)...)
	st.fail(errDisk)
	f.Changed("s")
	eventually(t, "several reads", func() bool { st.mu.Lock(); defer st.mu.Unlock(); return st.reads > 3 })
	if !f.Behind("s") || !r.Writable() {
		t.Error("Redis is trusted with a session whose refresh has failed")
	}
	hang := make(chan struct{})
	st.mu.Lock()
	st.err, st.hang = nil, hang
	before := st.reads
	st.mu.Unlock()
	f.Changed("s")
	eventually(t, "a late read", func() bool { st.mu.Lock(); defer st.mu.Unlock(); return st.reads > before })
	if n := bare(t, s.Addr()).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys were written from failed reads", n)
	}
	st.mu.Lock()
	st.hang = nil
	st.mu.Unlock()
	close(hang)
	flush(t, f)
	holds(t, bare(t, s.Addr()), turns(t, "s", 1, 3), DefaultTTL)
	if f.Behind("s") {
		t.Error("Redis is not trusted after a refresh that succeeded")
	}
}

func TestErasedSessionIsForgotten(t *testing.T) {
	s := servertest.Redis(t)
	r, st := newRedis(t, patient(s.URL())), newStore()
	f := newRefresher(t, RefresherConfig{Redis: r, Reader: st})
	check(t, r.Refresh(t.Context(), "s", recentOf(turns(t, "s", 1, 3), 10)))
	f.Changed("s")
	flush(t, f)
	if n := bare(t, s.Addr()).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys are left of a session that is gone", n)
	}
}

func TestRefusedWritesAreTriedAgain(t *testing.T) {
	s := servertest.Redis(t)
	r, st := newRedis(t, patient(s.URL())), newStore()
	f := newRefresher(t, RefresherConfig{Redis: r, Reader: st, RetryAfter: 20 * time.Millisecond})
	c := bare(t, s.Addr())
	check(t, c.ConfigSet(t.Context(), "maxmemory", "1").Err())
	st.put(turns(t, "s", 1, 3)...)
	f.Changed("s")
	eventually(t, "a refusal", func() bool { return !r.Writable() })
	if !r.Up() {
		t.Error("a full Redis opened the breaker of reads, though reads go on")
	}
	check(t, c.ConfigSet(t.Context(), "maxmemory", "0").Err())
	flush(t, f)
	holds(t, c, turns(t, "s", 1, 3), DefaultTTL)
}

func TestCloseDrainsOrSaysWhatIsLeft(t *testing.T) {
	s := servertest.Redis(t)
	r, st := newRedis(t, patient(s.URL())), newStore()
	f := newRefresher(t, RefresherConfig{Redis: r, Reader: st})
	var sessions []string
	for i := range 300 {
		sessions = append(sessions, fmt.Sprint("s", i))
		st.put(turns(t, sessions[i], 1, 3)...)
	}
	f.Changed(sessions...)
	check(t, f.Close(t.Context()))
	for _, session := range sessions {
		holds(t, bare(t, s.Addr()), turns(t, session, 1, 3), DefaultTTL)
	}
	f.Changed("more")
	if err := f.ChangedWait(t.Context(), "more"); err == nil {
		t.Error("a closed refresher takes sessions")
	}
	check(t, f.Close(t.Context()))

	s.Hang()
	defer s.Resume()
	f = newRefresher(t, RefresherConfig{Redis: r, Reader: st})
	f.Changed(sessions...)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	within(t, patience/2, "Close", func() {
		if err := f.Close(ctx); err == nil || err.Error() != "300 sessions are not refreshed in Redis" {
			t.Error(err)
		}
	})
}

func TestRefresherConfigIsChecked(t *testing.T) {
	r := newRedis(t, Config{})
	for _, c := range []RefresherConfig{{}, {Redis: r}, {Reader: newStore()}, {Redis: r, Reader: newStore(), Workers: -1}} {
		if _, err := NewRefresher(c); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

// racingStore returns what was true when the read began, and lets the transcript
// change before the read ends.
type racingStore struct {
	*store
	change func()
	once   atomic.Bool
}

func (s *racingStore) Path(ctx context.Context, session string, q transcript.PathQuery) (transcript.Recent, error) {
	rec, err := s.store.Path(ctx, session, q)
	if s.once.CompareAndSwap(false, true) {
		s.change()
	}
	return rec, err
}

func TestChangeDuringReadIsNotLost(t *testing.T) {
	s := servertest.Redis(t)
	r, st := newRedis(t, patient(s.URL())), &racingStore{store: newStore()}
	st.put(turns(t, "s", 1, 3)...)
	f := newRefresher(t, RefresherConfig{Redis: r, Reader: st})
	st.change = func() {
		st.put(turns(t, "s", 4, 12)...)
		f.Changed("s")
	}
	f.Changed("s")
	flush(t, f)
	holds(t, bare(t, s.Addr()), turns(t, "s", 1, 12), DefaultTTL)
	if errors.Is(f.Flush(t.Context()), context.Canceled) {
		t.Error("Flush of nothing fails")
	}
}
