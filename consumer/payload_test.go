package consumer

import (
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// A dead letter fits into its stream, whatever that allows; and what is too long for one server
// is not, once the consumer is connected to another one.
func TestPayloadLimitOfTheConsumer(t *testing.T) {
	f := newFixture(t)
	dead, err := f.js.Stream(t.Context(), stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	cfg := dead.CachedInfo().Config
	cfg.MaxMsgSize = 2 * stream.PayloadReserve
	if _, err := f.js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c, _ := f.start(Config{Store: f.store(dir)})
	f.ready(c)
	f.send(stream.TurnPrefix+"s", []byte(`{"user":1,"x":"`+strings.Repeat("x", 100<<10)+`"}`), "")
	servertest.Eventually(t, 30*time.Second, "the dead letter", func() bool { return c.Stats().Dead == 1 })
	m, err := dead.GetMsg(t.Context(), 1)
	if err != nil || len(m.Data) != stream.PayloadReserve || m.Header.Get(headerTruncated) == "" {
		t.Errorf("%v: %d bytes, %v", err, len(m.Data), m.Header)
	}

	f.nats.Restart(servertest.MaxPayload(4 << 20))
	f.js = f.connect()
	turn := transcript.Turn{SessionID: "s", ID: "long", Timestamp: time.Now(), User: strings.Repeat("x", 2<<20)}
	d, err := turn.Draft()
	if err != nil {
		t.Fatal(err)
	}
	snap, err := d.Snapshot(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	f.publish(snap)
	servertest.Eventually(t, 30*time.Second, "the long turn", func() bool { return c.Stats().Acked == 1 })
	if s := c.Stats(); s.Dead != 1 {
		t.Errorf("%+v", s)
	}

	// What was stored stays a turn when the server takes less since then.
	f.nats.Restart(servertest.MaxPayload(1 << 20))
	f.js = f.connect()
	late, _ := f.start(Config{Store: f.store(t.TempDir()), Group: "late"})
	servertest.Eventually(t, 30*time.Second, "the long turn in another group", func() bool { return late.Stats().Acked == 1 })
	if res, err := Replay(t.Context(), ReplayConfig{JS: f.js, Store: f.store(t.TempDir())}); err != nil || res.Turns != 1 {
		t.Errorf("%+v: %v", res, err)
	}
}

// A durable consumer that others made, or changed, is repaired when a member joins.
func TestJoinRepairsTheDurable(t *testing.T) {
	f := newFixture(t)
	store := f.store(t.TempDir())
	cfg := (&Consumer{cfg: Config{Store: store}.withDefaults()}).durable()
	cfg.FilterSubject, cfg.HeadersOnly, cfg.InactiveThreshold, cfg.MaxRequestBatch = stream.TurnPrefix+"nobody", true, time.Hour, 1
	if _, err := f.js.CreateConsumer(t.Context(), stream.Turns, cfg); err != nil {
		t.Fatal(err)
	}
	c, _ := f.start(Config{Store: store})
	f.send(stream.TurnPrefix+"s", []byte(`{"session_id":"s","id":"a","timestamp":"2026-01-31T12:00:00Z","user":"u"}`), "")
	servertest.Eventually(t, 30*time.Second, "the turn", func() bool { return c.Stats().Acked == 1 })
}
