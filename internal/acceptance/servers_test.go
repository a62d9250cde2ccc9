package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/internal/stream"
)

const (
	group  = "transcripts"
	oneDay = 24 * time.Hour
)

// connect is a connection of the test's own.
func connect(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := stream.Connect(t.Context(), stream.Config{URL: url, Name: "acceptance", Wait: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// wantConsumed waits until a group has acknowledged all that is in the stream.
func wantConsumed(t *testing.T, within time.Duration, js jetstream.JetStream, group string) time.Duration {
	t.Helper()
	return eventually(t, within, "group "+group+" has consumed the stream", func() error { return unconsumed(t, js, group) })
}

// unconsumed says what of the stream a group has not acknowledged; nil is all.
func unconsumed(t *testing.T, js jetstream.JetStream, group string) error {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	s, err := js.Stream(ctx, stream.Turns)
	if err != nil {
		return err
	}
	c, err := js.Consumer(ctx, stream.Turns, group)
	if err != nil {
		return err
	}
	info := c.CachedInfo()
	if last := s.CachedInfo().State.LastSeq; info.NumPending > 0 || info.NumAckPending > 0 || info.AckFloor.Stream < last {
		return fmt.Errorf("of %d turns in the stream %d are not delivered, %d not acknowledged, %d requests wait", last, info.NumPending, info.NumAckPending, info.NumWaiting)
	}
	return nil
}

// openRedis is a client of the test's own.
func openRedis(t *testing.T, addrs ...string) redis.UniversalClient {
	t.Helper()
	c := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: addrs, MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { c.Close() })
	return c
}

// wantRedis waits until Redis holds of every session the last ten answered turns,
// in both keys, each of which expires within a day.
func wantRedis(t *testing.T, within time.Duration, c redis.UniversalClient, want sessions) time.Duration {
	t.Helper()
	left := make(map[string]string, len(want))
	for session, turns := range want {
		left[session] = conversation(turns)
	}
	return eventually(t, within, "Redis holds the last ten answered turns of every session", func() error {
		wrong, err := wrongInRedis(t.Context(), c, left, want, false)
		if err != nil {
			return fmt.Errorf("%d of %d sessions are not right; %w", wrong, len(want), err)
		}
		return nil
	})
}

// wrongInRedis looks at the sessions of left and removes those that are right. Nothing
// at all may be right too.
func wrongInRedis(ctx context.Context, c redis.UniversalClient, left map[string]string, want sessions, orNothing bool) (wrong int, first error) {
	names := make([]string, 0, len(left))
	for session := range left {
		names = append(names, session)
	}
	for part := range slices.Chunk(names, 500) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		pipe := c.Pipeline()
		type reply struct {
			value, turns *redis.StringCmd
			ttl, own     *redis.DurationCmd
		}
		replies := make([]reply, len(part))
		for i, session := range part {
			key := "chat:conversation:" + session
			own := "afterword:recent:{" + key + "}"
			replies[i] = reply{pipe.Get(ctx, key), pipe.HGet(ctx, own, "turns"), pipe.PTTL(ctx, key), pipe.PTTL(ctx, own)}
		}
		pipe.Exec(ctx) // each reply has its own error
		for i, session := range part {
			r := replies[i]
			if orNothing && errors.Is(r.value.Err(), redis.Nil) && errors.Is(r.turns.Err(), redis.Nil) {
				delete(left, session)
				continue
			}
			err := sameAs(r.value, left[session])
			if err == nil {
				err = sameTurns(r.turns, recent(want[session]))
			}
			for _, ttl := range []*redis.DurationCmd{r.ttl, r.own} {
				if err == nil && (ttl.Err() != nil || ttl.Val() <= 0 || ttl.Val() > oneDay) {
					err = fmt.Errorf("TTL %v, %v", ttl.Val(), ttl.Err())
				}
			}
			if err == nil {
				delete(left, session)
			} else if wrong++; first == nil {
				first = fmt.Errorf("session %s: %w", session, err)
			}
		}
	}
	return wrong, first
}

func sameAs(value *redis.StringCmd, want string) error {
	if value.Err() != nil {
		return value.Err()
	}
	if value.Val() != want {
		return fmt.Errorf("\n%s", firstDifference(value.Val(), want))
	}
	return nil
}

// sameTurns looks at afterword's own key, which has the same turns whole.
func sameTurns(value *redis.StringCmd, want []turn) error {
	if value.Err() != nil {
		return value.Err()
	}
	var got []string
	for line := range strings.Lines(value.Val()) {
		var w struct{ ID string }
		if err := json.Unmarshal([]byte(line), &w); err != nil {
			return err
		}
		got = append(got, w.ID)
	}
	if !slices.EqualFunc(got, want, func(id string, w turn) bool { return id == w.ID }) {
		return fmt.Errorf("afterword's own key holds turns %v", got)
	}
	return nil
}
