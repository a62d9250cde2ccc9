package consumer

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// Whoever may reply can claim to be a member: nothing that reaches a terminal is in it, no
// instance is there twice, and answers without end do not keep the asker.
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
		[]byte(strings.Repeat("x", maxAnswer+1)),
	}
	var endless atomic.Bool
	sub, err := nc.Subscribe(stream.Members, func(m *nats.Msg) {
		for _, a := range answers {
			_ = m.Respond(a)
		}
		for i := 0; endless.Load() && i < 3*maxMembers; i++ {
			_ = m.Respond([]byte("{}"))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	asker := f.connect().Conn()
	for _, on := range []bool{false, true} {
		endless.Store(on)
		members, err := Members(t.Context(), asker, time.Second)
		if err != nil || len(members) != 1 || members[0].Host != "h" {
			t.Errorf("%v %v: %+v", on, err, members)
		}
	}
}
