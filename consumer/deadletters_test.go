package consumer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// lettersOf lists what a filter takes.
func (f *fixture) lettersOf(filter DeadFilter) (all []DeadLetter) {
	f.t.Helper()
	err := DeadLetters{JS: f.js}.Each(f.t.Context(), filter, func(l DeadLetter) error {
		all = append(all, l)
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return all
}

func seqs(letters []DeadLetter) (seqs []uint64) {
	for _, l := range letters {
		seqs = append(seqs, l.Seq)
	}
	return seqs
}

// bury stores a dead letter, of which each header that is "" is left out.
func (f *fixture) bury(group, reason, subject string, payload []byte, headers ...string) {
	f.t.Helper()
	m := &nats.Msg{Subject: stream.DeadPrefix + group, Data: payload, Header: nats.Header{}}
	headers = append(headers, stream.HeaderReason, reason, stream.HeaderSubject, subject)
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != "" {
			m.Header.Set(headers[i], headers[i+1])
		}
	}
	if _, err := f.js.PublishMsg(f.t.Context(), m); err != nil {
		f.t.Fatal(err)
	}
}

// Every kind of reason is what a consumer really makes of such a message, and is counted.
func TestKindsOfReasons(t *testing.T) {
	f := newFixture(t)
	dir := filepath.Join(t.TempDir(), "transcripts")
	store := f.open(transcript.Config{Dir: dir, SessionMaxBytes: 3000})
	if err := os.MkdirAll(tailPath(dir, "bad"), 0o700); err != nil { // a folder where the tail should be
		t.Fatal(err)
	}
	turn := makeTurn(t, "s", 1, 1)
	good := turn.Payload()
	f.send(stream.TurnSubject("s"), []byte("{"), "")
	f.send(stream.TurnSubject("s"), []byte(`{"session_id":"s"}`), "")
	f.send(stream.TurnSubject("s"), bytes.Replace(good, []byte("question"), bytes.Repeat([]byte("q"), 5000), 1), "")
	f.send(stream.TurnSubject("s"), good, "note")
	f.send(stream.TurnSubject("other"), good, "")
	f.send(stream.TurnSubject("s"), dated(t, good, turn.Timestamp, time.Now().Add(transcript.MaxAhead+time.Hour)), "")
	f.send(stream.TurnSubject("s"), bytes.Replace(good, []byte(`"complete","rev":1`), []byte(`"redacted","rev":1000000`), 1), "")
	f.publish(makeTurn(t, "bad", 1, 1))
	full := makeTurn(t, "full", 1, 1)
	f.send(stream.TurnSubject("full"), bytes.Replace(full.Payload(), []byte("question"), bytes.Repeat([]byte("q"), 3500), 1), "")
	c, stop := f.start(Config{Store: store, Deliveries: 1, PayloadLimit: 4000})
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var kinds []ReasonKind
	for _, l := range f.lettersOf(DeadFilter{}) {
		kinds = append(kinds, l.Kind)
		if got := seqs(f.lettersOf(DeadFilter{Reason: string(l.Kind)})); !slices.Equal(got, []uint64{l.Seq}) {
			t.Errorf("kind %s: letters %v, want %d", l.Kind, got, l.Seq)
		}
	}
	slices.Sort(kinds)
	if want := slices.Sorted(slices.Values(ReasonKinds[:])); !slices.Equal(kinds, want) {
		t.Errorf("kinds %v, want each of %v", kinds, want)
	}
	s := c.Stats()
	for i, n := range s.DeadOf {
		if n != 1 {
			t.Errorf("%d letters counted of kind %s, want 1", n, ReasonKinds[i])
		}
	}
}

// dated is a payload with another timestamp.
func dated(t *testing.T, payload []byte, was transcript.Instant, at time.Time) []byte {
	t.Helper()
	from, to := []byte(was.String()), []byte(transcript.InstantOf(at).String())
	if !bytes.Contains(payload, from) {
		t.Fatalf("%s has no timestamp %s", payload, from)
	}
	return bytes.Replace(payload, from, to, 1)
}

func tailPath(dir, session string) string {
	return filepath.Join(dir, strings.TrimSuffix(transcript.DocumentPath(transcript.Sharded, session), ".json")+".tail")
}

func TestDeadFilters(t *testing.T) {
	f := newFixture(t)
	a, b := stream.TurnSubject("a"), stream.TurnSubject("b/c")
	f.bury("g1", "user is missing", a, []byte("secret"))
	f.bury("g2", "not acceptable JSON at byte 1: x", b, []byte("{"))
	f.bury("g1", unwritable+"denied", b, nil)
	f.bury("g1", "", "", nil, stream.HeaderStreamSeq, "none", headerTruncated, "much") // of anybody
	after := f.lettersOf(DeadFilter{})[2].Stored.Add(time.Nanosecond)
	for name, c := range map[string]struct {
		filter DeadFilter
		want   []uint64
	}{
		"all":           {DeadFilter{}, []uint64{1, 2, 3, 4}},
		"group":         {DeadFilter{Group: "g1"}, []uint64{1, 3, 4}},
		"another group": {DeadFilter{Group: "g3"}, nil},
		"kind":          {DeadFilter{Reason: "json"}, []uint64{2}},
		"text":          {DeadFilter{Reason: "missing"}, []uint64{1}},
		"session":       {DeadFilter{Session: "b/c"}, []uint64{2, 3}},
		"both":          {DeadFilter{Session: "b/c", Group: "g1"}, []uint64{3}},
		"since":         {DeadFilter{Since: after}, []uint64{4}},
		"future":        {DeadFilter{Since: time.Now().Add(time.Hour)}, nil},
		"part":          {DeadFilter{After: 1, Until: 3}, []uint64{2, 3}},
		"since a part":  {DeadFilter{After: 1, Since: after}, []uint64{4}},
		"beyond":        {DeadFilter{After: 4}, nil},
		"limit":         {DeadFilter{Limit: 2}, []uint64{1, 2}},
		"numbers":       {DeadFilter{Seqs: []uint64{3, 1, 3}}, []uint64{1, 3}},
		"number, group": {DeadFilter{Seqs: []uint64{1, 2}, Group: "g2"}, []uint64{2}},
	} {
		if got := seqs(f.lettersOf(c.filter)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	l := f.lettersOf(DeadFilter{Seqs: []uint64{1}})[0]
	if paged := f.lettersOf(DeadFilter{Limit: 1})[0]; paged != l || l.Group != "g1" || l.Size != 6 || l.Subject != a || l.Kind != KindRule {
		t.Errorf("one letter: %+v, in a list %+v", l, paged)
	}
	d := DeadLetters{JS: f.js}
	for _, missing := range []uint64{0, 99} {
		if err := d.Each(t.Context(), DeadFilter{Seqs: []uint64{missing}}, nil); !errors.Is(err, ErrNoLetter) {
			t.Errorf("letter %d: %v", missing, err)
		}
		if _, _, _, err := d.Letter(t.Context(), missing); !errors.Is(err, ErrNoLetter) {
			t.Errorf("letter %d: %v", missing, err)
		}
	}
	_, h, payload, err := d.Letter(t.Context(), 1)
	if err != nil || string(payload) != "secret" || len(h) != 2 {
		t.Errorf("letter 1: %v %q %v", h, payload, err)
	}

	// Some, all of a group, all that were there, and none.
	remove := func(filter DeadFilter, want uint64, left ...uint64) {
		t.Helper()
		n, err := d.Remove(t.Context(), filter)
		if got := seqs(f.lettersOf(DeadFilter{})); err != nil || n != want || !slices.Equal(got, left) {
			t.Errorf("%d removed, %v are left, %v; want %d and %v", n, got, err, want, left)
		}
	}
	remove(DeadFilter{Reason: "rule", Session: "a"}, 1, 2, 3, 4)
	remove(DeadFilter{Group: "g1", Until: 3}, 1, 2, 4)
	remove(DeadFilter{Until: 2}, 1, 4)
	remove(DeadFilter{Until: 2}, 0, 4)
	remove(DeadFilter{}, 1)
	remove(DeadFilter{}, 0)
}

// What was wrong is mended: a requeue brings the turn into its transcript, once.
func TestRequeueAfterAFix(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	dir := filepath.Join(t.TempDir(), "transcripts")
	store := f.store(dir)
	if err := os.MkdirAll(tailPath(dir, "bad"), 0o700); err != nil {
		t.Fatal(err)
	}
	turn := makeTurn(t, "bad", 1, 1)
	f.publish(turn)
	f.send(stream.TurnSubject("bad"), []byte(`{"session_id":"bad"}`), "") // nobody can mend this
	_, stop := f.start(Config{Store: store, Deliveries: 1})
	defer stop()
	servertest.Eventually(t, 20*time.Second, "two dead letters", func() bool { return len(f.lettersOf(DeadFilter{})) == 2 })
	if _, ok, err := (DeadReader{JS: f.js}).Turn(ctx, "bad", turn.ID); err != nil || !ok {
		t.Errorf("the turn among the dead letters: %v %v", ok, err)
	}

	requeue := func(filter DeadFilter) (all []Requeued) {
		t.Helper()
		err := DeadLetters{JS: f.js}.Requeue(ctx, filter, RequeueConfig{Verdict: 30 * time.Second}, func(r Requeued) { all = append(all, r) })
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	// The level of a turn: dead while it is a dead letter, and what the stream makes of
	// it when its letter is removed.
	if s, ok, err := NewStreamReader(f.js, 0).Turn(ctx, "bad", turn.ID); err != nil || !ok || s.ID != turn.ID {
		t.Errorf("the turn in the stream: %v %v", ok, err)
	}
	// Before the fix both come back, with numbers of their own.
	for _, r := range requeue(DeadFilter{}) {
		if r.Back == nil || r.Back.RequeuedFrom != r.Seq || r.Back.Kind != r.Kind || r.Written || r.Kept != nil {
			t.Errorf("letter %d: %+v, want it to have come back", r.Seq, r)
		}
	}
	letters := f.lettersOf(DeadFilter{})
	if len(letters) != 2 || letters[0].RequeuedFrom == 0 || letters[0].StreamSeq <= 2 {
		t.Errorf("dead again: %+v", letters)
	}

	if err := os.Remove(tailPath(dir, "bad")); err != nil {
		t.Fatal(err)
	}
	got := requeue(DeadFilter{Reason: string(KindUnwritable)})
	if len(got) != 1 || got[0].Kept != nil || got[0].Back != nil || !got[0].Written || got[0].As <= 4 {
		t.Errorf("requeued %+v", got)
	}
	if doc, err := store.Read(ctx, "bad"); err != nil || doc.Len() != 1 {
		t.Errorf("the turn is called written: %v", err)
	}
	if _, ok, err := (DeadReader{JS: f.js}).Turn(ctx, "bad", turn.ID); err != nil || ok {
		t.Errorf("the turn among the dead letters after the fix: %v %v", ok, err)
	}
	f.drained(DefaultGroup)
	if left := f.lettersOf(DeadFilter{}); len(left) != 1 || left[0].Kind != KindRule {
		t.Errorf("left: %+v", left)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(ctx); err != nil {
		t.Fatal(err)
	}
	sameDocuments(t, documents(t, dir), undisturbed(t, []transcript.Snapshot{turn}))
}

// What is published is the message as it was, under an id of its own: a
// crash between the two halves of a requeue stores it once.
func TestRequeueIsTheMessageAgain(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	payload := []byte("{ as it came\n")
	subject := stream.TurnSubject("s")
	f.bury("g", "why", subject, payload, stream.HeaderMsgID, "g/1", stream.HeaderStreamSeq, "1", stream.HeaderTime, "then", stream.HeaderType, "note", "x-own", "kept")
	d := DeadLetters{JS: f.js}
	s, err := d.stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	letter, err := s.GetMsg(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	// The first half of a requeue, as far as the crash.
	first, err := f.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: payload, Header: nats.Header{
		stream.HeaderMsgID: {stream.RequeueMsgID(1, letter.Time)}, stream.HeaderType: {"note"}, "x-own": {"kept"}, stream.HeaderRequeuedFrom: {"1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	as, err := d.requeue(ctx, s, origins{}, 1, true)
	if err != nil || as != first.Sequence {
		t.Fatalf("requeued as %d, %v; want %d again", as, err, first.Sequence)
	}
	if _, err := d.requeue(ctx, s, origins{}, 1, true); !errors.Is(err, ErrNoLetter) {
		t.Errorf("a letter that is gone: %v", err)
	}

	f.bury("g", "why", subject, payload, stream.HeaderMsgID, "g/2", stream.HeaderStreamSeq, "1", stream.HeaderTime, "then", stream.HeaderType, "note", "x-own", "kept")
	if as, err = d.requeue(ctx, s, origins{}, 2, true); err != nil || as != first.Sequence+1 {
		t.Fatalf("requeued as %d, %v", as, err)
	}
	turns, err := f.js.Stream(ctx, stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	m, err := turns.GetMsg(ctx, as)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{jetstream.StreamHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer, jetstream.SubjectHeader} {
		m.Header.Del(name)
	}
	got, want := fmt.Sprint(m.Header), fmt.Sprint(nats.Header{
		stream.HeaderMsgID: m.Header[stream.HeaderMsgID], stream.HeaderType: {"note"}, "x-own": {"kept"}, stream.HeaderRequeuedFrom: {"2"},
	})
	if m.Subject != subject || !bytes.Equal(m.Data, payload) || got != want || m.Header.Get(stream.HeaderMsgID) == stream.MsgID(payload) {
		t.Errorf("published again on %s with %s: %q; want headers %s", m.Subject, got, m.Data, want)
	}
}

// Letters that cannot be requeued stay, and say why; the others are requeued.
func TestRequeueKeeps(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	turn := makeTurn(t, "s", 1, 1)
	whole := turn.Payload()
	f.send(stream.TurnSubject("s"), whole, "")
	f.send(stream.TurnSubject("s"), []byte("something else"), "")
	cut, length := whole[:20], fmt.Sprint(len(whole))
	for _, subject := range []string{"", "afterword.dead.g", "afterword.turns.", "afterword.turns.a.b", "afterword.turns." + strings.Repeat("x", 600), "$JS.API.STREAM.DELETE.AFTERWORD_TURNS"} {
		f.bury("g", "why", subject, whole)
	}
	f.bury("g", "why", stream.TurnSubject("s"), cut, headerTruncated, length)
	f.bury("g", "why", stream.TurnSubject("s"), cut, headerTruncated, length, stream.HeaderStreamSeq, "2")
	f.bury("g", "why", stream.TurnSubject("s"), cut, headerTruncated, length, stream.HeaderStreamSeq, "77")
	kept := uint64(len(f.lettersOf(DeadFilter{})))
	f.bury("g", "why", stream.TurnSubject("s"), cut, headerTruncated, length, stream.HeaderStreamSeq, "1")
	var requeued []uint64
	err := DeadLetters{JS: f.js}.Requeue(ctx, DeadFilter{}, RequeueConfig{Force: true}, func(r Requeued) {
		if r.Kept == nil {
			requeued = append(requeued, r.Seq)
			return
		}
		var k *KeptError
		if !errors.As(r.Kept, &k) || k.Seq != r.Seq {
			t.Errorf("letter %d: %v", r.Seq, r.Kept)
		}
		servertest.OneLine(t, r.Kept, "cannot be requeued")
	})
	if err != nil || !slices.Equal(requeued, []uint64{kept + 1}) {
		t.Errorf("requeued %v, %v; want %d", requeued, err, kept+1)
	}
	if left := f.lettersOf(DeadFilter{}); uint64(len(left)) != kept {
		t.Errorf("%d letters are left, want %d", len(left), kept)
	}
	turns, err := f.js.Stream(ctx, stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := turns.GetMsg(ctx, 3); err != nil || !bytes.Equal(m.Data, whole) {
		t.Errorf("of the letter that was cut: %v, %v", m, err)
	}

	f.bury("g", "why", stream.TurnSubject("s"), whole)
	f.nats.Stop()
	err = DeadLetters{JS: f.js, Request: time.Second}.Requeue(ctx, DeadFilter{}, RequeueConfig{Force: true}, func(r Requeued) { t.Errorf("requeued without a server: %+v", r) })
	if err == nil || errors.As(err, new(*KeptError)) {
		t.Errorf("without a server: %v", err)
	}
}

// Listing takes no more memory for many letters than for few.
func TestDeadLettersInBoundedMemory(t *testing.T) {
	js := servertest.JetStream(t, servertest.NATSProcess(t).URL()) // whose memory is not that of this process
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	const letters = 2*deadPage + 7
	payload := make([]byte, 64<<10)
	for i := range letters {
		m := nats.NewMsg(stream.DeadPrefix + "g")
		m.Header.Set(stream.HeaderReason, fmt.Sprintf("reason %d", i))
		m.Data = payload
		if _, err := js.PublishMsgAsync(m); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(5 * time.Minute): // each is synced
		t.Fatal("the letters are not stored")
	}
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := uint64(0)
	err := DeadLetters{JS: js}.Each(t.Context(), DeadFilter{}, func(l DeadLetter) error {
		if n++; l.Seq != n || l.Size != len(payload) || l.Reason != fmt.Sprintf("reason %d", n-1) {
			t.Errorf("letter %d is %+v", n, l)
		}
		if n == letters {
			runtime.GC()
			runtime.ReadMemStats(&now)
		}
		return nil
	})
	if err != nil || n != letters {
		t.Fatalf("%d letters, %v; want %d", n, err, letters)
	}
	// Its payloads are 63 MiB.
	grown := int64(now.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("the heap has grown by %d MiB", grown>>20)
	if grown > 8<<20 {
		t.Error("that is too much")
	}
}
