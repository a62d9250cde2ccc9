package consumer

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// Whoever may reply can claim to be a member: nothing that reaches a terminal is in it, an instance
// that answers twice is not there twice, no other answer in its name hides it, and answers without
// end do not keep the asker.
func TestForgedMembers(t *testing.T) {
	f := &fixture{t: t, nats: servertest.NATS(t)}
	nc := f.connect().Conn()
	good := Member{Instance: "i", Group: "g", Host: "h", Latency: make([]int64, latencyBuckets)}
	forged := func(change func(*Member)) []byte {
		m := good
		change(&m)
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	answers := [][]byte{
		forged(func(*Member) {}), forged(func(*Member) {}),
		forged(func(m *Member) { m.Instance, m.Host = "x", "\x1b[2J" }),
		forged(func(m *Member) { m.Instance, m.NotReady = "x", "a\u202eb" }),
		forged(func(m *Member) { m.Instance, m.Version = "x", strings.Repeat("v", maxReason+1) }),
		forged(func(m *Member) { m.Instance, m.Group = "x", "a b" }),
		forged(func(m *Member) { m.Instance, m.Exposed = "x", []string{"\x1b[2J"} }),
		forged(func(m *Member) { m.Instance, m.Latency = "x", append([]int64{-1}, good.Latency[1:]...) }),
		forged(func(m *Member) { m.Instance, m.Latency = "x", append([]int64{math.MaxInt64}, good.Latency[1:]...) }),
		forged(func(m *Member) { m.Instance, m.InFlight = "x", -1 }),
		[]byte(strings.Repeat("x", maxAnswer+1)),
	}
	asker := f.connect().Conn()
	ask := func(answer func(*nats.Msg)) (members []Member, whole bool) {
		t.Helper()
		sub, err := nc.Subscribe(stream.Members, answer)
		if err != nil {
			t.Fatal(err)
		}
		defer sub.Unsubscribe()
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		members, whole, err = Members(t.Context(), asker, quiet)
		if err != nil {
			t.Fatal(err)
		}
		return members, whole
	}
	all := func(m *nats.Msg) {
		for _, a := range answers {
			_ = m.Respond(a)
		}
	}
	members, whole := ask(all)
	if len(members) != 1 || members[0].Host != "h" || members[0].Disputed || !whole {
		t.Errorf("whole %v: %+v", whole, members)
	}
	members, whole = ask(func(m *nats.Msg) { // a forger who is faster than the member
		_ = m.Respond(forged(func(m *Member) { m.NotReady = "forged" }))
		all(m)
	})
	if len(members) != 2 || !members[0].Disputed || !members[1].Disputed || !whole {
		t.Errorf("whole %v: %+v", whole, members)
	}
	members, whole = ask(func(m *nats.Msg) {
		all(m)
		for range 3 * maxMembers {
			_ = m.Respond([]byte("{}"))
		}
	})
	if len(members) != 1 || whole {
		t.Errorf("of too many answers, whole %v: %+v", whole, members)
	}
	tick, done := time.NewTicker(quiet/4), make(chan struct{})
	defer tick.Stop()
	defer close(done)
	began := time.Now()
	members, whole = ask(func(m *nats.Msg) {
		all(m)
		for {
			select {
			case <-tick.C:
				_ = m.Respond([]byte("{}"))
			case <-done:
				return
			}
		}
	})
	if took := time.Since(began); len(members) != 1 || whole {
		t.Errorf("of answers without end after %s, whole %v: %+v", took, whole, members)
	}
}
