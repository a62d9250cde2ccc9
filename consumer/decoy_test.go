package consumer

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// put stores a message under a message id.
func (f *fixture) put(subject, id string, data []byte, headers ...string) uint64 {
	f.t.Helper()
	m := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	for i := 0; i < len(headers); i += 2 {
		m.Header.Set(headers[i], headers[i+1])
	}
	if id != "" {
		m.Header.Set(stream.HeaderMsgID, id)
	}
	ack, err := f.js.PublishMsg(f.t.Context(), m)
	if err != nil || ack.Duplicate {
		f.t.Fatal(ack, err)
	}
	return ack.Sequence
}

// Whoever knows the message id that a dead letter will have cannot make it disappear, neither
// with the first id, nor with that which is used then.
func TestDecoysOfDeadLetters(t *testing.T) {
	f := newFixture(t)
	subject := stream.TurnSubject("s")
	broken := [][]byte{[]byte(`{"a":1`), []byte(`{"b":2`), []byte(`{"c":3`)}
	dead := stream.DeadPrefix + DefaultGroup
	id := func(n int) string { return stream.DeadMsgID(DefaultGroup, uint64(n)) }
	f.put(dead, id(1), []byte("decoy"))
	f.put(dead, id(2), []byte("decoy"))
	f.put(dead, id(2)+"/"+stream.MsgID(broken[1]), []byte("decoy"))
	// One with the payload of the letter and other headers.
	f.put(dead, id(3), broken[2], stream.HeaderSubject, subject, stream.HeaderStreamSeq, "3", stream.HeaderReason, "nothing")
	for _, b := range broken {
		f.send(subject, b, "")
	}
	_, stop := f.start(Config{Store: f.store(filepath.Join(t.TempDir(), "transcripts"))})
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	genuine := 0
	d := DeadLetters{JS: f.js}
	for _, l := range f.lettersOf(DeadFilter{Reason: string(KindJSON)}) {
		l, _, payload, err := d.Letter(t.Context(), l.Seq)
		if err != nil || l.Doubt != "" || l.StreamSeq < 1 || !bytes.Equal(payload, broken[l.StreamSeq-1]) {
			t.Errorf("letter %+v with %q (%v)", l, payload, err)
		}
		genuine++
	}
	if genuine != len(broken) {
		t.Errorf("%d letters, want %d: the others are lost", genuine, len(broken))
	}
	// One that is stored twice for want of an acknowledgement is there once.
	m := func() *nats.Msg {
		return &nats.Msg{Subject: dead, Data: []byte("x"), Header: nats.Header{stream.HeaderMsgID: {"id"}, stream.HeaderTime: {fmt.Sprint(time.Now().UnixNano())}, "x-own": {" kept "}}}
	}
	var seqs [2]uint64
	for i := range seqs {
		ack, err := stream.PublishOnce(t.Context(), f.js, m(), 10*time.Second, stream.HeaderTime)
		if err != nil {
			t.Fatal(err)
		}
		seqs[i] = ack.Sequence
	}
	if seqs[0] != seqs[1] {
		t.Errorf("stored as %d and as %d", seqs[0], seqs[1])
	}
}

// Only what equals the message of the stream of turns is requeued.
func TestForgedLetters(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	subject := stream.TurnSubject("s")
	broken := []byte(`{"broken`)
	forged := makeTurn(t, "s", 1, 1)
	gone := f.put(subject, "", broken)
	turns, err := f.js.Stream(ctx, stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	if err := turns.DeleteMsg(ctx, gone); err != nil {
		t.Fatal(err)
	}
	at := f.put(subject, "", broken, "x-own", "1")
	genuine := []string{stream.HeaderSubject, subject, stream.HeaderStreamSeq, fmt.Sprint(at), stream.HeaderReason, "not acceptable JSON", stream.HeaderTime, "then", "x-own", "1"}
	with := func(name, value string) []string { return append(append([]string{}, genuine...), name, value) }
	dead := stream.DeadPrefix + "g"
	want := f.put(dead, "", broken, genuine...)
	f.put(dead, "", forged.Payload(), genuine...)
	f.put(dead, "", broken, with("x-own", "2")...)
	f.put(dead, "", broken, with("x-more", "1")...)
	f.put(dead, "", broken, with(stream.HeaderSubject, stream.TurnSubject("other"))...)
	f.put(dead, "", broken, with(stream.HeaderStreamSeq, "77")...)
	f.put(dead, "", forged.Payload(), with(stream.HeaderStreamSeq, fmt.Sprint(gone))...)
	f.put(dead, "", broken, with(stream.HeaderStreamSeq, "")...)
	f.put(dead, "", broken[:3], with(headerTruncated, "5")...)
	last := f.put(dead, "", broken[:3], with(headerTruncated, fmt.Sprint(len(broken)))...) // genuine: the rest did not fit

	if _, ok, err := (DeadReader{JS: f.js}).Turn(ctx, "s", forged.ID); ok || err != nil {
		t.Errorf("a forged letter makes its turn dead: %v, %v", ok, err)
	}

	listed := f.lettersOf(DeadFilter{})
	if err := (DeadLetters{JS: f.js}).Compare(ctx, listed); err != nil {
		t.Fatal(err)
	}
	for _, l := range listed {
		if genuine := l.Seq == want || l.Seq == last; genuine != (l.Doubt == "") {
			t.Errorf("letter %d: in doubt: %q", l.Seq, l.Doubt)
		}
	}

	// A message with the id that the requeue will have does not make it disappear either.
	s, err := f.js.Stream(ctx, stream.Dead)
	if err != nil {
		t.Fatal(err)
	}
	letter, err := s.GetMsg(ctx, want)
	if err != nil {
		t.Fatal(err)
	}
	f.put(stream.TurnSubject("decoy"), stream.RequeueMsgID(want, letter.Time), []byte("decoy"))

	d := DeadLetters{JS: f.js}
	requeued := make(map[uint64]uint64)
	take := func(r Requeued) {
		if r.Kept == nil {
			requeued[r.Seq] = r.As
		} else {
			servertest.OneLine(t, r.Kept, "cannot be requeued")
		}
		if l, _, _, err := d.Letter(ctx, r.Seq); r.Kept != nil && (err != nil || l.Doubt == "") {
			t.Errorf("letter %d is kept (%v) and nothing is in doubt", r.Seq, r.Kept)
		}
	}
	if err := d.Requeue(ctx, DeadFilter{}, RequeueConfig{}, take); err != nil {
		t.Fatal(err)
	}
	if len(requeued) != 2 {
		t.Errorf("requeued %v, want %d and %d", requeued, want, last)
	}
	for _, seq := range []uint64{want, last} {
		m, err := turns.GetMsg(ctx, requeued[seq])
		if err != nil || m.Subject != subject || !bytes.Equal(m.Data, broken) || m.Header.Get("x-own") != "1" {
			t.Errorf("letter %d was requeued as %d: %+v (%v)", seq, requeued[seq], m, err)
		}
	}
	before := maps.Clone(requeued)
	if err := d.Requeue(ctx, DeadFilter{}, RequeueConfig{Force: true, Verdict: time.Hour}, take); err != nil { // there is no group to wait for
		t.Fatal(err)
	}
	if n := len(requeued) - len(before); n != 7 { // what was cut cannot be made whole from another message
		t.Errorf("%d were requeued with force, want 7", n)
	}
}
