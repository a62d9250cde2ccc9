package status_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/status"
	"github.com/afterword-io/afterword/publisher"
)

// What is wrong with the publisher of a process is said, with what helps, in time to act.
func TestPublisher(t *testing.T) {
	fine := func() publisher.Stats {
		return publisher.Stats{MaxTurns: 100, MaxBytes: 1000, Spool: publisher.SpoolStats{MaxBytes: 1000}}
	}
	for _, c := range []struct {
		set   func(*publisher.Stats)
		check string
		level status.Level
		found string
	}{
		{func(*publisher.Stats) {}, status.CheckPublisher, status.OK, "0 accepted turns not stored yet"},
		{func(*publisher.Stats) {}, status.CheckSpool, status.OK, "0.0 B of 1000.0 B"},
		{func(s *publisher.Stats) { s.InMemory = 79 }, status.CheckPublisher, status.OK, ""},
		{func(s *publisher.Stats) { s.InMemory = 80 }, status.CheckPublisher, status.Critical, "the buffer is 80% full"},
		{func(s *publisher.Stats) { s.Memory = 900 }, status.CheckPublisher, status.Critical, "the buffer is 90% full"},
		{func(s *publisher.Stats) { s.Turns, s.Bytes, s.InMemory = 1000, 9000, 50 }, status.CheckPublisher, status.OK, "1000 accepted turns"}, // in the spool
		{func(s *publisher.Stats) { s.Blocked = 9 * time.Second }, status.CheckPublisher, status.OK, ""},
		{func(s *publisher.Stats) { s.Blocked = 10 * time.Second }, status.CheckPublisher, status.Warning, "taken nothing for 10.0s"},
		{func(s *publisher.Stats) { s.Blocked = time.Minute }, status.CheckPublisher, status.Critical, "taken nothing for 60.0s"},
		{func(s *publisher.Stats) {
			s.Turns, s.Oldest, s.Aside, s.AsideWhy = 1, time.Minute, 1, nats.ErrMaxPayload
		}, status.CheckPublisher, status.Warning, "1 turn is refused while others are stored: nats: maximum payload exceeded; 1 accepted turn not stored yet"},
		{func(s *publisher.Stats) { s.Turns, s.Oldest = 1, time.Minute }, status.CheckPublisher, status.Warning, "more slowly than they come; 1 accepted turn not stored yet, the oldest for 60.0s"},
		{func(s *publisher.Stats) { s.Overflows, s.Overflowed = 3, time.Now().Add(-time.Minute) }, status.CheckPublisher, status.Critical, "turns are refused"},
		{func(s *publisher.Stats) { s.Overflows, s.Overflowed = 3, time.Now().Add(-10*time.Minute) }, status.CheckPublisher, status.OK, ""},
		{func(s *publisher.Stats) { s.Spool.Blocked = 10 * time.Second }, status.CheckSpool, status.Warning, "nothing can be spooled for 10.0s"},
		{func(s *publisher.Stats) { s.Spool.Bytes = 800 }, status.CheckSpool, status.Warning, "80% full"},
		{func(s *publisher.Stats) { s.Spool.Bytes = 799 }, status.CheckSpool, status.OK, ""},
	} {
		s := fine()
		c.set(&s)
		g, err := status.New(status.Config{
			Connect:   func(context.Context) (jetstream.JetStream, error) { return nil, errors.New("nobody is there") },
			Publisher: func() publisher.Stats { return s },
		})
		if err != nil {
			t.Fatal(err)
		}
		seen := false
		for _, k := range g.Gather(t.Context()).Checks {
			if k.Name != c.check {
				continue
			}
			seen = true
			if k.Level != c.level || !strings.Contains(k.Found, c.found) || (k.Do == "") != (k.Level == status.OK) {
				t.Errorf("%+v: %+v, not %s with %q", s, k, c.level, c.found)
			}
		}
		if !seen {
			t.Errorf("%+v: no check %s", s, c.check)
		}
	}
}
