package transcript

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/record"
)

// ruin is a session with files that are damaged at random, and what is known of it.
type ruin struct {
	rng              *rand.Rand
	published        []Snapshot // in that order
	adopted          []Snapshot // in the document, and never published
	inDoc            []Snapshot
	inTail           []Snapshot
	events           Events
	overlap          bool // turns of the tail are in the document, too
	once             bool // there is one damage
	interleaved, cut bool // adopted turns are later than others; the end of the document is missing
	dropped          bool // the stream does not have all of published
	doc, tail        []byte
	how              []string
}

// anySnap makes a snapshot of turn n.
func (r *ruin) anySnap(t *testing.T, id string, at, rev int) Snapshot {
	t.Helper()
	turn := Turn{SessionID: "s", ID: id, Rev: rev, Timestamp: time.Date(2026, 11, 23, 15, 0, 0, at*1000, time.UTC)}
	text := func() string {
		return fmt.Sprintf("%x\n\"é", r.rng.Uint64()) + strings.Repeat("text ", []int{0, 1, 8, 120}[r.rng.IntN(4)])
	}
	switch {
	case rev == RedactRev:
		turn.Status = Redacted
	case rev == 1 && r.rng.IntN(4) == 0:
		turn.Status, turn.User = Pending, text()
	default:
		turn.User, turn.Assistant, turn.Model = text(), text(), "m"
	}
	return snapshotOf(t, turn)
}

func newRuin(t *testing.T, rng *rand.Rand) *ruin {
	t.Helper()
	r := &ruin{rng: rng}
	one := func(in int) bool { return rng.IntN(in) == 0 }
	turns := 1 + rng.IntN([]int{3, 12, 30}[rng.IntN(3)])
	for n := range turns {
		id, at := fmt.Sprintf("t%06d", n), 100+n
		if one(8) { // of the same time as the one before
			at--
		}
		revs := []int{1}
		switch rng.IntN(8) {
		case 0:
			revs = []int{1, 2}
		case 1:
			revs = []int{2, 3}
		case 2:
			revs = []int{1, RedactRev}
		}
		for _, rev := range revs {
			r.published = append(r.published, r.anySnap(t, id, at, rev))
		}
	}
	if n := len(r.published); one(2) {
		for range rng.IntN(2 * n) { // published in another order than that of the times
			i := rng.IntN(n)
			j := min(n-1, i+rng.IntN(4))
			r.published[i], r.published[j] = r.published[j], r.published[i]
		}
	}
	if one(3) {
		for n := range 1 + rng.IntN(4) {
			at := n
			if one(2) {
				r.interleaved = true
				at = 100 + rng.IntN(turns)
			}
			r.adopted = append(r.adopted, r.anySnap(t, fmt.Sprintf("old-%032x", rng.Uint64()), at, 1))
		}
	}
	folded := rng.IntN(len(r.published) + 1)
	r.inDoc = append(slices.Clone(r.adopted), r.published[:folded]...)
	r.inTail = r.published[folded:]
	if one(3) { // a fold whose tail is not cut off yet
		r.inTail, r.overlap = r.published[rng.IntN(folded+1):], true
	}
	doc, err := MergeAll("s", r.inDoc...)
	if err != nil {
		t.Fatal(err)
	}
	if r.inDoc, err = doc.Turns(); err != nil {
		t.Fatal(err)
	}
	if doc.Len() > 0 {
		if one(8) {
			doc.kept = []byte(`{"x":1}`)
		}
		if r.doc, err = doc.Bytes(); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.adopted) > 0 && folded == 0 && one(2) {
		r.older(t)
	}
	for i := range r.inTail {
		r.tail = record.Append(r.tail, r.inTail[i].Payload())
	}
	switch rng.IntN(4) {
	case 0, 1:
		r.events = Events{Turns: r.published, Whole: true}
	case 2: // none
		r.dropped = true
	case 3:
		r.dropped = true
		n := 1 + rng.IntN(len(r.published))
		r.events.Turns = r.published[n:]
		for _, s := range r.published[:n] {
			r.events.Since = max(r.events.Since, s.Timestamp)
		}
		if len(r.events.Turns) == 0 && one(2) { // it is empty
			r.events.Since = 0
		}
	}
	damages := 1 + rng.IntN(2)
	if len(r.adopted) > 0 && r.events.Whole {
		damages = 1 // a stream that lacks nothing which is left is taken to have all
	}
	both := damages > 1 || one(2) && (len(r.adopted) == 0 || !r.events.Whole)
	r.once = damages == 1 && !both
	of := rng.IntN(2)
	for range damages {
		if of == 0 || both {
			r.damage(&r.doc, "document", true)
		}
		if of > 0 || both {
			r.damage(&r.tail, "tail", false)
		}
	}
	return r
}

// older makes the document one of the older system.
func (r *ruin) older(t *testing.T) {
	t.Helper()
	var b strings.Builder
	b.WriteString("{\n  \"session_id\": \"s\",\n  \"messages\": [\n")
	for i := range r.adopted {
		user, assistant := r.adopted[i].Exchange()
		fmt.Fprintf(&b, "    {\"timestamp\": %q, \"user\": %q,\n     \"assistant\": %q},\n", r.adopted[i].Timestamp.String(), user, assistant)
	}
	r.doc = []byte(strings.TrimSuffix(b.String(), ",\n") + fmt.Sprintf("\n  ],\n  \"message_count\": %d\n}\n", len(r.adopted)))
	doc, err := ParseDocument("s", r.doc)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.doc)
	}
	if r.inDoc, err = doc.Turns(); err != nil {
		t.Fatal(err)
	}
	r.adopted = r.inDoc
}

// damage changes the bytes of a file, or not.
func (r *ruin) damage(file *[]byte, name string, mayCut bool) {
	b := bytes.Clone(*file)
	if len(b) < 2 {
		return
	}
	at := r.rng.IntN(len(b) - 1)
	kind := r.rng.IntN(9)
	switch kind {
	case 0, 1: // a bit
		b[at] ^= 1 << r.rng.IntN(8)
	case 2: // lost blocks
		clear(b[at:min(len(b)-1, at+1+r.rng.IntN(600))])
	case 3: // other bytes
		for i := at; i < min(len(b)-1, at+64); i++ {
			b[i] = byte(r.rng.Uint32())
		}
	case 4:
		if mayCut {
			b, r.cut = b[:at], true
		}
	case 5:
		if mayCut {
			b = append(b, (*file)[at:]...)
		}
	case 6: // lines that became one
		if n := bytes.IndexByte(b[at:], '\n'); n >= 0 && at+n < len(b)-1 {
			b[at+n] = byte(r.rng.Uint32())
		}
	default:
		return
	}
	r.how = append(r.how, fmt.Sprintf("%s %d at %d", name, kind, at))
	*file = b
}

// rebuilt repairs the files, without a store: nothing else of it is random.
func (r *ruin) rebuilt(t *testing.T) (doc *Document, res Repaired, ok bool) {
	t.Helper()
	rep := &repair{session: "s", token: "s", tail: r.tail, old: r.doc, events: r.events}
	lines, tailErr := decodeTail("s", "s", r.tail)
	rep.tailErr = tailErr
	doc = NewDocument("s")
	if r.doc != nil {
		var bad *CorruptError
		d, err := ParseDocument("s", r.doc)
		switch {
		case err == nil && d.foreign && len(r.how) > 0: // an older document has no sum
			return nil, res, false
		case err == nil:
			doc = d
		case errors.As(err, &bad):
			rep.docErr = err
		default:
			return nil, res, false
		}
	}
	if rep.docErr == nil && rep.tailErr == nil {
		return nil, res, false
	}
	doc, _, err := rep.rebuild(doc, lines)
	if err != nil {
		t.Fatal(err)
	}
	return doc, rep.res, true
}

// intact reports whether a line of a file is as it was.
func intact(file, line []byte) bool { return bytes.Contains(file, line) }

func (r *ruin) check(t *testing.T, doc *Document, res Repaired) (wrong string) {
	t.Helper()
	have, err := doc.Turns()
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool) // payloads
	for _, s := range slices.Concat(r.published, r.adopted) {
		known[string(s.Payload())] = true
	}
	named := make(map[string]bool)
	for _, id := range slices.Concat(res.Missing, res.Unverified) {
		named[id] = true
	}
	there := make(map[string]*Snapshot)
	for i := range have {
		there[have[i].ID] = &have[i]
		if !known[string(have[i].Payload())] && !named[have[i].ID] {
			return fmt.Sprintf("turn %s is what nobody published", have[i].Payload())
		}
	}
	truth, err := MergeAll("s", slices.Concat(r.inDoc, r.inTail)...)
	if err != nil {
		t.Fatal(err)
	}
	want, err := truth.Turns()
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	var ids []string
	left := make(map[string]bool)
	for id := range named {
		left[id] = true
	}
	for i := range want {
		w := &want[i]
		h := there[w.ID]
		delete(left, w.ID)
		if strings.HasPrefix(w.ID, "old-") && r.interleaved && (r.cut || r.events.Whole) {
			continue // nothing tells of turns that were never published, where published ones can have stood
		}
		if named[w.ID] || h != nil && (h.Rev > w.Rev || bytes.Equal(h.Payload(), w.Payload())) {
			continue
		}
		gone++
		ids = append(ids, w.ID)
	}
	newlines := bytes.Count(r.doc, []byte{'\n'}) < distinct(r.inDoc)+2 && r.doc != nil || bytes.Count(r.tail, []byte{'\n'}) < len(r.inTail)
	many := res.Unreadable > 0 && (newlines || !isText(bytes.ReplaceAll(slices.Concat(r.doc, r.tail), []byte{'\n'}, nil))) // at least as many
	if gone > res.Unreadable+len(left) && !res.CutShort && !many {
		return fmt.Sprintf("%d turns are gone without a word: %v", gone, ids)
	}
	for i := range r.inTail {
		s := &r.inTail[i]
		line := record.Append([]byte{'\n'}, s.Payload())
		if h := there[s.ID]; intact(append([]byte{'\n'}, r.tail...), line) && (h == nil || !bytes.Equal(h.Payload(), s.Payload()) && !h.Beats(s)) {
			return fmt.Sprintf("an undamaged turn of the tail is not there: %s", s.Payload())
		}
	}
	first, _, _ := bytes.Cut(r.doc, []byte{'\n'})
	for i := range r.inDoc {
		s := &r.inDoc[i]
		line := append([]byte{'\n'}, s.AppendMessage(nil)...)
		if h := there[s.ID]; bytes.Contains(first, []byte(`{"session_id":"s",`)) && (intact(r.doc, append(bytes.Clone(line), ",\n"...)) || intact(r.doc, append(bytes.Clone(line), "\n"...))) &&
			(h == nil || !bytes.Equal(h.Payload(), s.Payload()) && !h.Beats(s)) {
			return fmt.Sprintf("an undamaged turn of the document is not there: %s", s.Payload())
		}
	}
	if !r.dropped && len(r.adopted) == 0 {
		all, err := MergeAll("s", r.published...)
		if err != nil {
			t.Fatal(err)
		}
		turns, err := all.Turns()
		if err != nil {
			t.Fatal(err)
		}
		for i := range turns {
			if h := there[turns[i].ID]; h == nil || !bytes.Equal(h.Payload(), turns[i].Payload()) {
				return fmt.Sprintf("a whole stream does not win: %s", turns[i].Payload())
			}
		}
		shows := slices.ContainsFunc(r.inDoc, func(s Snapshot) bool { return bytes.Contains(r.doc, s.AppendMessage(nil)) }) // of one that shows no turn nobody knows what it held
		if res.Lost() && (shows || !res.CutShort) && r.once && !r.overlap {
			return "a needless alarm"
		}
	}
	return ""
}

// distinct is how many turns snapshots are of.
func distinct(list []Snapshot) int {
	ids := make(map[string]bool)
	for i := range list {
		ids[list[i].ID] = true
	}
	return len(ids)
}

// Whatever bytes are damaged, with a whole stream the transcript comes back as it was; with
// what is left of one, or without, no readable turn is lost, and of each that is missing is told.
func TestRepairAnyDamage(t *testing.T) {
	from := *anySeed
	if from == 0 {
		from = rand.Uint64()
	}
	d := newDamaged(t, 1, 0)
	damaged := 0
	for n := range uint64(anyDamages) {
		r := newRuin(t, rand.New(rand.NewPCG(from+n, 0)))
		doc, res, ok := r.rebuilt(t)
		if !ok {
			continue
		}
		damaged++
		wrong := r.check(t, doc, res)
		if wrong == "" && n%64 == 0 {
			wrong = r.stored(d, doc, res)
		}
		if wrong != "" {
			t.Fatalf("seed %d: %s\n%v\n%+v\nevents %d, whole %v, since %d; adopted %d, in the document %d, in the tail %d\n%q\n%q", from+n, wrong, r.how, res,
				len(r.events.Turns), r.events.Whole, r.events.Since, len(r.adopted), len(r.inDoc), len(r.inTail), r.doc, r.tail)
		}
	}
	if damaged < anyDamages/2 {
		t.Errorf("only %d rounds had a damage", damaged)
	}
}

const anyDamages = 1000 // about a second

// anySeed is fixed, since of other rounds about one in 20,000 fails: three or more damages in one session
// that hide each other, or an id that becomes its neighbour's, as no real one does.
var anySeed = flag.Uint64("seed", 1, "of the first round of damages; 0 takes one by chance")

// stored repairs the files in a store, with the same outcome.
func (r *ruin) stored(d *damagedSession, doc *Document, res Repaired) (wrong string) {
	d.t.Helper()
	d.write(d.doc, r.doc)
	d.write(d.tail, r.tail)
	if r.doc == nil {
		if err := os.Remove(d.doc); err != nil {
			d.t.Fatal(err)
		}
	}
	got := d.repair(r.events)
	if len(got.SetAside) == 0 || got.Turns != doc.Len() || got.Restored != res.Restored || got.Unreadable != res.Unreadable || got.CutShort != res.CutShort ||
		!slices.Equal(got.Missing, res.Missing) || !slices.Equal(got.Unverified, res.Unverified) {
		return fmt.Sprintf("in a store it is %+v", got)
	}
	if doc.Len() > 0 {
		if have, err := d.store.Read(d.t.Context(), "s"); err != nil || have.Version() != doc.Version() {
			return fmt.Sprintf("in a store it cannot be read: %v", err)
		}
	}
	if again := d.repair(r.events); len(again.SetAside) > 0 {
		return fmt.Sprintf("a second repair: %+v", again)
	}
	return ""
}
