package acceptance

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/embedded"
	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// The power of the stream's disk goes. What the embedded server acknowledged is in
// the stream afterwards.
func TestPowerCutOfTheStream(t *testing.T) {
	rounds := choose(5, 30)
	rnd := random(t)
	disk := faults.Loop(t, "ext4")
	dir := filepath.Join(disk.Dir(), "nats")
	var acked []turn
	k := newTalk(rnd, namesOf("stream-%d", 10))
	for i := range rounds {
		before := len(acked)
		func() {
			server, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir, Addr: "127.0.0.1:0", MaxBytes: 32 << 20})
			if err != nil {
				t.Fatal(err)
			}
			js := connect(t, server.ClientURL())
			defer js.Conn().Close()
			if err := stream.Ensure(t.Context(), js, stream.StreamConfig{MaxBytes: 16 << 20}); err != nil {
				t.Fatal(err)
			}
			wantStored(t, js, acked, i)
			for range 20 + rnd.IntN(60) {
				w := k.next()
				if err := publishRaw(t.Context(), js, w); err != nil {
					t.Fatal(err)
				}
				acked = append(acked, w)
			}
			disk.Cut() // all that is acknowledged was so before
			ctx, cancel := context.WithTimeout(t.Context(), startSoon)
			defer cancel()
			if err := server.Shutdown(ctx); err != nil {
				t.Logf("the server ends without its disk: %v", err)
			}
		}()
		disk.Restore()
		if t.Failed() || len(acked) == before {
			return
		}
	}
	t.Logf("%d power cuts of the stream's disk → none of %d acknowledged turns lost", rounds, len(acked))
}

// publishRaw publishes a turn and waits for the stream to acknowledge it.
func publishRaw(ctx context.Context, js jetstream.JetStream, w turn) error {
	_, err := js.PublishMsg(ctx, &nats.Msg{Subject: stream.TurnPrefix + token(w.Session), Data: []byte(w.payload())})
	return err
}

// wantStored checks that a stream has turns.
func wantStored(t *testing.T, js jetstream.JetStream, acked []turn, round int) {
	t.Helper()
	if len(acked) == 0 {
		return
	}
	s, err := js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[string]bool)
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq > 0 && seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatalf("message %d: %v", seq, err)
		}
		have[string(m.Data)] = true
	}
	lost := 0
	for _, w := range acked {
		if !have[w.payload()] {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%s: lost: round %d, power cut of the stream: %d of %d acknowledged turns", powerSafe, round, lost, len(acked))
	}
}

// The power of a consumer's disk goes while its syncs are slow. What it has
// acknowledged to the stream, and so will never get again, is in the files.
func TestPowerCutOfTheConsumer(t *testing.T) {
	rounds := choose(3, 20)
	faults.NeedTrace(t)
	rnd := random(t)
	disk := faults.Loop(t, "ext4")
	nats := servertest.NATSProcess(t)
	js := connect(t, nats.URL())
	l := newLedger(filepath.Join(disk.Dir(), "data"))
	k := newTalk(rnd, namesOf("acked-%d", 10))
	slow := faults.Injection{Calls: []string{"syncfs"}, Delay: time.Second}
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	var sent []turn // by stream sequence, from 1
	for i := range rounds {
		consume := startUnder(t, func(args ...string) []string { return slow.Command(t, args...) },
			"consume", "--nats-url", nats.URL(), "--redis-url", "none", "--data-dir", l.dataDir, "--listen", "127.0.0.1:0", "--file-timeout", "4s", "--ack-wait", "14s")
		for _, n := range []int{5 + rnd.IntN(20), 1} {
			// No sync is under way, which would keep the last one too.
			spread(t, 4*time.Second)
			for range n {
				w := k.next()
				l.send(w)
				if err := publishRaw(t.Context(), js, w); err != nil {
					t.Fatal(err)
				}
				sent = append(sent, w)
			}
			servertest.Eventually(t, healed, "turns to be acknowledged", func() bool { return acknowledged(t, js) == uint64(len(sent)) })
		}
		l.ack(sent[:acknowledged(t, js)]...)
		l.freeze(disk.Cut)
		consume.kill9()
		disk.Restore()
		l.thaw()
		l.check(t, powerSafe, fmt.Sprintf("round %d, power cut of the consumer", i))
		if t.Failed() {
			return
		}
	}
	t.Logf("%d power cuts of a consumer's disk right after an acknowledgement → %s", rounds, l.figures())
}

// acknowledged is up to which sequence the group has acknowledged everything.
func acknowledged(t *testing.T, js jetstream.JetStream) uint64 {
	c, err := js.Consumer(t.Context(), stream.Turns, group)
	if err != nil {
		return 0
	}
	return c.CachedInfo().AckFloor.Stream
}
