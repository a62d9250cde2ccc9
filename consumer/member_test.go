package consumer

import (
	"fmt"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

const quiet = 200 * time.Millisecond

// Every running consumer says who it is, what it has done and why it does not work;
// one that has stopped is gone.
func TestMembers(t *testing.T) {
	f := newFixture(t)
	if members, _, err := Members(t.Context(), f.js.Conn(), quiet); err != nil || len(members) != 0 {
		t.Fatalf("%v, %v before there is one", members, err)
	}
	store := f.store(t.TempDir())
	_, stopA := f.start(Config{Store: store, Host: "a", Version: "v1.2.3"})
	f.start(Config{Store: f.store(t.TempDir()), Group: "copy", Host: "b"})
	const turns = 20
	for i := range turns {
		at := "2026-01-31T12:00:00Z" // too old for a latency from one end to the other
		if i >= turns/2 {
			at = time.Now().UTC().Format(time.RFC3339Nano)
		}
		payload := fmt.Appendf(nil, `{"id":"%d","session_id":"s","timestamp":"%s","user":"u","assistant":"a"}`, i, at)
		if _, err := f.js.Publish(t.Context(), stream.TurnSubject("s"), payload); err != nil {
			t.Fatal(err)
		}
	}
	var members []Member
	servertest.Eventually(t, 20*time.Second, "two members that have acknowledged everything", func() bool {
		var err error
		members, _, err = Members(t.Context(), f.js.Conn(), quiet)
		return err == nil && len(members) == 2 && members[0].Acked == turns && members[1].Acked == turns
	})
	copied, m := members[0], members[1]
	if copied.Group != "copy" || copied.Host != "b" || m.Group != DefaultGroup || m.Host != "a" || m.Version != "v1.2.3" || m.Folder != store.Identity().ID || m.Instance == copied.Instance {
		t.Errorf("members are %+v and %+v", copied, m)
	}
	noted, ends := int64(0), int64(0)
	for i := range m.Latency {
		noted, ends = noted+m.Latency[i], ends+m.EndToEnd[i]
	}
	if ends < 1 || ends > turns/2 {
		t.Errorf("%d latencies from one end to the other are noted", ends)
	}
	if noted < 1 || noted > turns || m.LastAck == nil || time.Since(*m.LastAck) > time.Minute || m.NotReady != "" {
		t.Errorf("%d latencies are noted, last acknowledged %v, not ready %q", noted, m.LastAck, m.NotReady)
	}
	if err := stopA(); err != nil {
		t.Fatal(err)
	}
	servertest.Eventually(t, 20*time.Second, "the one that was stopped to be gone", func() bool {
		members, _, err := Members(t.Context(), f.js.Conn(), quiet)
		return err == nil && len(members) == 1 && members[0].Host == "b"
	})
}

// A latency is in the first bucket whose bound it does not exceed.
func TestLatencyBound(t *testing.T) {
	for i := 1; i < latencyBuckets; i++ {
		if LatencyBound(i) <= LatencyBound(i-1) {
			t.Fatalf("bound %d is %s, the one before %s", i, LatencyBound(i), LatencyBound(i-1))
		}
	}
	if most := LatencyBound(latencyBuckets - 2); LatencyBound(0) != 500*time.Microsecond || most < time.Minute {
		t.Errorf("bounds are from %s to %s", LatencyBound(0), most)
	}
}
