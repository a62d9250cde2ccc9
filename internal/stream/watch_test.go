package stream_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

const patience = 30 * time.Second

// lagging is a group with some turns before it.
func lagging(t *testing.T, js jetstream.JetStream, turns int) jetstream.Consumer {
	t.Helper()
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	cons, err := js.CreateConsumer(t.Context(), stream.Turns, jetstream.ConsumerConfig{Durable: "transcripts", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	for i := range turns {
		if _, err := js.Publish(t.Context(), stream.TurnSubject(fmt.Sprint("s", i)), []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	return cons
}

func group(t *testing.T, js jetstream.JetStream) stream.ConsumerInfo {
	t.Helper()
	infos, err := stream.Info(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range infos[0].Consumers {
		if c.Durable {
			return c
		}
	}
	t.Fatalf("no group among %+v", infos[0].Consumers)
	return stream.ConsumerInfo{}
}

// The lag in seconds is the age of the oldest turn that is not acknowledged: it grows
// while that is so, whatever was acknowledged after it, and is 0 when all are.
func TestLagAge(t *testing.T) {
	js := jetStream(t, servertest.NATS(t).URL())
	cons := lagging(t, js, 3)
	first, err := cons.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c := group(t, js); c.Lag() != 3 || c.Pending != 3 || c.Deliveries != 0 || c.LagAge <= 0 {
		t.Errorf("nothing fetched: %+v", c)
	}
	batch, err := cons.Fetch(3)
	if err != nil {
		t.Fatal(err)
	}
	var msgs []jetstream.Msg
	for m := range batch.Messages() {
		msgs = append(msgs, m)
	}
	if len(msgs) != 3 || batch.Error() != nil {
		t.Fatalf("%d messages, %v", len(msgs), batch.Error())
	}
	for _, m := range msgs[1:] {
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := msgs[0].Metadata()
	if err != nil {
		t.Fatal(err)
	}
	c := group(t, js)
	if c.Lag() != 1 || c.AckPending != 1 || c.Deliveries != 3 || c.LagAge < first.TimeStamp.Sub(stored.Timestamp) {
		t.Errorf("the first of three is not acknowledged: %+v", c)
	}
	servertest.Eventually(t, patience, "the lag to grow", func() bool { return group(t, js).LagAge > c.LagAge+100*time.Millisecond })
	if err := msgs[0].DoubleAck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := group(t, js); c.Lag() != 0 || c.LagAge != 0 {
		t.Errorf("all are acknowledged: %+v", c)
	}
}

// Turns that were removed before the group had them do not hide those after them.
func TestLagAgeAfterRemoval(t *testing.T) {
	js := jetStream(t, servertest.NATS(t).URL())
	lagging(t, js, 3)
	s, err := js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(2) {
		if err := s.DeleteMsg(t.Context(), seq+1); err != nil {
			t.Fatal(err)
		}
	}
	if c := group(t, js); c.LagAge <= 0 || c.LagAge > patience {
		t.Errorf("%+v", c)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := group(t, js); c.LagAge != 0 {
		t.Errorf("of an empty stream: %+v", c)
	}
}

// A watch has no figures while the streams cannot be seen, rather than old ones, and
// finds them again by itself.
func TestWatch(t *testing.T) {
	srv := servertest.NATS(t)
	js := jetStream(t, srv.URL())
	w := stream.NewWatch(stream.WatchConfig{JS: js, Every: 20 * time.Millisecond})
	if o := w.Last(); len(o.Streams) != 0 {
		t.Errorf("%+v before the first look", o)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	lagging(t, js, 2)
	seen := func() bool {
		o := w.Last()
		return len(o.Streams) == 2 && o.Streams[0].Messages == 2 && len(o.Streams[0].Consumers) == 1
	}
	servertest.Eventually(t, patience, "the streams to be seen", seen)
	srv.Stop()
	servertest.Eventually(t, patience, "them to be gone", func() bool { return len(w.Last().Streams) == 0 })
	srv.Restart()
	servertest.Eventually(t, patience, "them to be seen again", seen)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
