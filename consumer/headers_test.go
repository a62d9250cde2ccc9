package consumer

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/stream"
)

// raw publishes messages with header lines as they are, broken ones too.
func (f *fixture) raw(subject, payload string, blocks ...string) {
	f.t.Helper()
	c, err := net.Dial("tcp", f.nats.Addr())
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	out := &bytes.Buffer{}
	out.WriteString("CONNECT {\"headers\":true,\"verbose\":false}\r\n")
	for _, b := range blocks {
		b = "NATS/1.0\r\n" + b + "\r\n\r\n"
		fmt.Fprintf(out, "HPUB %s %d %d\r\n%s%s\r\n", subject, len(b), len(b)+len(payload), b, payload)
	}
	out.WriteString("PING\r\n")
	if _, err := c.Write(out.Bytes()); err != nil {
		f.t.Fatal(err)
	}
	for got := ""; !strings.Contains(got, "PONG"); {
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			f.t.Fatal(got, err)
		}
		got += string(b[:n])
	}
}

// buried has a consumer take messages with header blocks, and returns the dead letters that all of them become.
func (f *fixture) buried(payload string, blocks ...string) []DeadLetter {
	f.t.Helper()
	f.raw(stream.TurnSubject("s"), payload, blocks...)
	_, stop := f.start(Config{Store: f.store(filepath.Join(f.t.TempDir(), "transcripts"))})
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		f.t.Fatal(err)
	}
	letters := f.lettersOf(DeadFilter{})
	if err := (DeadLetters{JS: f.js}).Compare(f.t.Context(), letters); err != nil || len(letters) != len(blocks) {
		f.t.Fatalf("%d letters (%v), want %d", len(letters), err, len(blocks))
	}
	return letters
}

// A message without a payload becomes a dead letter, too, where a header of it is one by which the server says
// something about a pull.
func TestStatusOfEmptyMessages(t *testing.T) {
	f := newFixture(t)
	blocks := []string{
		"Status: 503", "Status: 100", "Status: 404", "Status: 408\r\nNats-Pending-Messages: 5", "Status: 400", "Status: 423", "Status: 409\r\nDescription: Consumer Deleted",
		"Status: 409\r\nDescription: Leadership Change", "Status: 503",
	}
	letters := f.buried("", blocks...)
	stored := 0 // that others read of the stream
	_, err := read(t.Context(), f.js, stream.Turns, stream.TurnSubject("s"), 5*time.Second, func(jetstream.Msg, *jetstream.MsgMetadata) error {
		stored++
		return nil
	})
	if err != nil || stored != len(blocks) {
		t.Errorf("%d messages are read of the stream (%v)", stored, err)
	}
	for _, l := range letters {
		if l.Doubt != "" || l.Reason != "not acceptable JSON at byte 0: it ends too early" {
			t.Errorf("letter of %q: %+v", blocks[l.StreamSeq-1], l)
		}
	}
}

// Whatever headers a message has, it becomes a dead letter that is not in doubt, and hides no other.
func TestHeadersOfDeadLetters(t *testing.T) {
	f := newFixture(t)
	blocks := []string{
		"garbage", "X A: v\r\nx-kept: 1", "X-\u202e: v", "X-A: a\rb", "Status: 404", "X: " + strings.Repeat("x", 60_000),
		headerTruncated + ": 5\r\nafterword-reason: mine\r\n" + stream.HeaderReason + ": mine",
		jetstream.SequenceHeader + ": none\r\n" + jetstream.TimeStampHeaer + ": never", "x-own: 1",
	}
	letters := f.buried("{}", blocks...)
	for _, l := range letters {
		_, h, _, err := (DeadLetters{JS: f.js}).Letter(t.Context(), l.Seq)
		if err != nil || l.Doubt != "" || l.Reason == "mine" || h["afterword-reason"] != nil || h.Get(headerTruncated) != "" {
			t.Errorf("letter of %.40q: %+v, %v (%v)", blocks[l.StreamSeq-1], l, h, err)
		}
		left := ""
		if i := l.StreamSeq - 1; i > 0 && i < 6 {
			left = "1"
		}
		if h.Get(headerLeftOut) != left || l.StreamSeq == 2 && h.Get("x-kept") != "1" {
			t.Errorf("letter of %.40q: headers %v", blocks[l.StreamSeq-1], h)
		}
	}
	done := 0
	err := (DeadLetters{JS: f.js}).Requeue(t.Context(), DeadFilter{}, RequeueConfig{}, func(r Requeued) {
		if done++; r.Kept != nil {
			t.Errorf("letter of %.40q: %v", blocks[r.StreamSeq-1], r.Kept)
		}
	})
	if err != nil || done != len(blocks) {
		t.Errorf("%d requeued (%v)", done, err)
	}
}
