package transcript

import (
	"bytes"
	"crypto/sha256"
	"strconv"
	"unicode/utf8"

	"github.com/afterword-io/afterword/internal/record"
	"github.com/go-json-experiment/json/jsontext"
)

// salvaged is what can still be read of a damaged file.
type salvaged struct {
	session  string
	document bool       // not a tail
	turns    []Snapshot // in the order of the file
	whole    bool       // a sum vouches for all of turns
	foreign  bool       // the file is whole and of another session, so nothing of it is taken
	cut      bool       // the end is missing: what stood there left no trace
	count    int        // turns that a document says it holds; -1 when it does not say
	kept     []byte     // of an adopted document
	sum      string     // what a document says its sum is; "" when that cannot be read
	named    []damage   // lines that cannot be read, whose turn is known
	gaps     []gap      // lines that cannot be read, whose turn is not known
	more     bool       // newlines may be damaged, too, so that nobody knows how many lines there were
	ended    bool       // the last line of a document was met: behind it are none but lines that were written twice
	others   int        // lines that give way to trusted turns of the same id and are not like them: the id may be damaged
}

// damage is a line that cannot be read, but for the turn that it is of.
type damage struct {
	id     string
	at     Instant // 0 when it cannot be read
	size   int     // of the line
	rev    int     // 0 when it cannot be read
	before int     // it stood before turns[before]
}

// revHead is what stands before the revision of a turn.
const revHead = `","rev":`

// gap is a run of lines of which nothing can be read: lines of them, before
// turns[before], of size bytes. It has 0 lines where others may have become a part of a
// line whose turn is known.
type gap struct{ before, lines, size int }

// unreadable notes a line, or what is left of one.
func (v *salvaged) unreadable(raw []byte) {
	if v.ended {
		return
	}
	v.more = v.more || !isText(raw)
	if n := len(messageHead); len(raw) > n && (string(raw[:n]) == messageHead || v.document && oneByteOff(string(raw[:n]), messageHead)) {
		rest := raw[n:]
		if id, after, ok := bytes.Cut(rest, []byte{'"'}); ok && checkTurnID("id", string(id)) == nil {
			d := damage{id: string(id), size: len(raw), before: len(v.turns)}
			if n := bytes.LastIndex(raw, []byte(revHead)); n >= 0 {
				c := cursor{b: raw, i: n + len(revHead)}
				if rev := c.number(); !c.bad {
					d.rev = rev
				}
			}
			if stamp, ok := bytes.CutPrefix(after, []byte(timeHead[1:])); ok && len(stamp) > instantLen {
				d.at, _ = parseCanonicalInstant(stamp[:instantLen])
			}
			v.named = append(v.named, d)
			if v.document && !isText(raw) { // others may have been in it
				v.gap(0, len(raw))
			}
			return
		}
	}
	v.gap(1, len(raw))
}

// gap notes lines of which nothing can be read, behind the turns so far.
func (v *salvaged) gap(lines, size int) {
	if n := len(v.gaps); n > 0 && v.gaps[n-1].before == len(v.turns) {
		v.gaps[n-1].lines += lines
		v.gaps[n-1].size += size
		return
	}
	v.gaps = append(v.gaps, gap{before: len(v.turns), lines: lines, size: size})
}

// salvageDocument reads what it can of a document that does not check. Nothing
// vouches for a line of it but that it is a turn, unless its sum is that of the
// document that its lines make: then the damage is somewhere else.
func salvageDocument(session string, data []byte) *salvaged {
	v := &salvaged{session: session, document: true, count: -1}
	first, body, _ := bytes.Cut(data, []byte{'\n'})
	ours := bytes.HasPrefix(first, []byte(documentHead)) && bytes.HasSuffix(first, []byte(messagesHead[1:]))
	named := session
	if ours {
		if got, err := headSession(first); err == nil {
			named = got
		}
	}
	if named != session {
		if _, err := ParseDocument(named, data); err == nil {
			v.foreign = true // whole, and somebody else's
			return v
		}
	}
	if i := bytes.Index(first, []byte(messagesHead[2:])); !ours && i >= 0 { // its newline is damaged
		body = bytes.TrimPrefix(data[i+len(messagesHead)-2:], []byte{'\n'})
	} else if !ours && bytes.HasPrefix(first, []byte(messageHead)) { // its beginning is missing
		body = data
	} else if head := headLen(session); !ours && len(first) != head { // with the beginning of a message, or several
		at := v.nextMessage(first)
		if len(first) < head {
			head = 0
		}
		if lost := first[min(at, head):at]; len(lost) > 1 { // more than a newline
			v.unreadable(lost)
		}
		v.documentLine(first[at:])
	}
	if at, t, err := parseTrailer(data); err == nil {
		v.count, v.kept, v.sum = t.count, t.own.Kept, t.own.SHA256
		body = body[:max(0, len(body)-(len(data)-at))]
	} else {
		v.cut = true
		v.looseTrailer(data)
	}
	for len(body) > 0 {
		raw, after, _ := bytes.Cut(body, []byte{'\n'})
		body = after
		v.documentLine(raw)
	}
	if !ours && len(v.turns) == 0 {
		if older := salvageOlder(session, data); older != nil && len(older.turns)+len(older.gaps) > 0 {
			return older
		}
	}
	if v.sumIs(v.turns) {
		v.whole, v.gaps, v.named = true, nil, nil
	} else if named != session {
		// Damaged, and perhaps somebody else's: no turn may get into another's transcript.
		lines := len(v.turns) + len(v.named)
		for _, g := range v.gaps {
			lines += g.lines
		}
		return &salvaged{session: session, document: true, count: v.count, gaps: []gap{{lines: lines}}}
	}
	return v
}

// sumIs reports whether the document's sum is that of the document that turns
// make: then it held just these.
func (v *salvaged) sumIs(turns []Snapshot) bool {
	if v.sum == "" {
		return false
	}
	d, err := MergeAll(v.session, turns...)
	if err != nil {
		return false
	}
	b, err := d.Bytes()
	if err != nil {
		return false
	}
	_, t, err := parseTrailer(b)
	return err == nil && t.own.SHA256 == v.sum
}

// documentLine takes what a line of a document holds: one message, or several
// where newlines between them are damaged.
func (v *salvaged) documentLine(raw []byte) {
	for len(bytes.Trim(raw, ", \r")) > 0 {
		if isTrailer(raw) {
			v.ended = true
			if v.cut && v.sum == "" { // something stands behind it
				v.lastLine(raw)
				v.looseTrailer(raw)
			}
			v.cut = false
			return
		}
		value, rest := firstValue(raw)
		s, ok := salvageMessage(v.session, value)
		if !ok {
			if bytes.Contains(raw, []byte(countHead[1:])) && bytes.Contains(raw, []byte(`"schema":`)) { // a damaged last line
				v.lastLine(raw)
				return
			}
			at := v.nextMessage(raw)
			v.unreadable(raw[:at])
			raw = raw[at:]
			continue
		}
		v.turns = append(v.turns, s)
		if raw = afterSeparator(rest, messageHead, trailerHead); raw == nil && len(bytes.Trim(rest, ", \r")) > 1 { // one byte is a damaged comma
			at := v.nextMessage(rest)
			v.unreadable(rest[:at])
			raw = rest[at:]
		}
	}
}

// isTrailer reports whether a line is the last one of a document, or what is left of its beginning.
func isTrailer(raw []byte) bool {
	n := 0
	for n < min(len(raw), len(trailerHead)) && raw[n] == trailerHead[n] {
		n++
	}
	return n > 1 || n == len(raw) && n > 0
}

// nextMessage returns where in a damaged line the next good message begins, behind a newline that
// is damaged, too; len(raw) when there is none. Objects inside of a message follow one of ",:[".
func (v *salvaged) nextMessage(raw []byte) int {
	for at := 1; at < len(raw); at++ {
		n := bytes.Index(raw[at:], []byte(messageHead))
		if n < 0 {
			break
		}
		if at += n; bytes.IndexByte([]byte(",:["), raw[at-1]) >= 0 {
			continue
		}
		if value, _ := firstValue(raw[at:]); value != nil {
			if _, ok := salvageMessage(v.session, value); ok {
				return at
			}
		}
	}
	return len(raw)
}

// headLen is the length of the first line of a document.
func headLen(session string) int {
	id, _ := jsontext.AppendQuote(nil, session)
	return len(documentHead) + len(id) + len(createdHead) + instantLen + len(messagesHead)
}

// lastLine takes the last line of a document without its beginning, which lines before it
// may have lost their ends to: how many turns there were tells.
func (v *salvaged) lastLine(raw []byte) {
	_, after, _ := bytes.Cut(raw, []byte(countHead[1:]))
	digits, _, _ := bytes.Cut(after, []byte{','})
	if n, err := strconv.Atoi(string(digits)); err == nil && n >= 0 {
		v.count, v.cut = n, false
	}
	at := bytes.Index(raw, []byte(trailerHead))
	if at < 0 {
		at = bytes.Index(raw, []byte(countHead[1:])) - len(trailerHead) - instantLen - 1
	}
	if at > 0 {
		v.unreadable(raw[:at])
	}
	v.ended = true
}

// firstValue returns the JSON value that raw begins with and what comes after
// it; nil when there is none.
func firstValue(raw []byte, opts ...jsontext.Options) (value, rest []byte) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(raw), append(opts, jsontext.AllowDuplicateNames(true))...)
	if _, err := dec.ReadValue(); err != nil {
		return nil, raw
	}
	n := dec.InputOffset()
	return raw[:n:n], raw[n:]
}

// afterSeparator returns what follows a damaged separator of at most two bytes,
// if it is one of heads.
func afterSeparator(rest []byte, heads ...string) []byte {
	for skip := range min(3, len(rest)) {
		for _, head := range heads {
			if bytes.HasPrefix(rest[skip:], []byte(head)) {
				return rest[skip:]
			}
		}
	}
	return nil
}

// salvageMessage reads one message of a document that is not to be trusted.
func salvageMessage(session string, raw []byte) (Snapshot, bool) {
	if raw == nil {
		return Snapshot{}, false
	}
	if s, ok := scanCanonical(session, raw); ok && s.from == s.to && checkTurnID("id", s.ID) == nil && s.Timestamp.valid() &&
		s.Rev <= RedactRev && (s.Rev == RedactRev) == (s.Status == Redacted) {
		return s, true // firstValue has read all of it
	}
	s, err := parseMessage(session, raw)
	return s, err == nil && s.ID != ""
}

// looseTrailer finds in a damaged last line what an adopted document keeps, and the sum.
func (v *salvaged) looseTrailer(data []byte) {
	data = bytes.TrimSuffix(data, []byte{'\n'})
	last := data[bytes.LastIndexByte(data, '\n')+1:]
	if bytes.HasPrefix(last, []byte(messageHead)) { // and the beginning of the last line is damaged, or all of it is missing
		last = last[max(0, bytes.LastIndex(last, []byte(countHead))):]
		if !bytes.HasPrefix(last, []byte(countHead)) {
			return
		}
	}
	if _, after, ok := bytes.Cut(last, []byte(`"sha256":"`)); ok && len(after) > 2*sha256.Size && after[2*sha256.Size] == '"' {
		v.sum = string(after[:2*sha256.Size])
	}
	if _, after, ok := bytes.Cut(last, []byte(`,"kept":`)); ok {
		if value, _ := firstValue(after); jsontext.Value(value).Kind() == '{' {
			v.kept = value
		}
	}
}

// maxResync bounds how often reading is taken up again in a damaged document of
// the older system, which has no lines to go by.
const maxResync = 10_000

// salvageOlder reads the messages of a damaged document in another layout, each
// a JSON object somewhere after "messages". It is nil when there is no such thing.
func salvageOlder(session string, data []byte) *salvaged {
	at := bytes.Index(data, []byte(`"messages"`))
	if at < 0 {
		return nil
	}
	v := &salvaged{session: session, document: true, count: -1, cut: true}
	if _, after, ok := bytes.Cut(data[at:], []byte(`"message_count"`)); ok {
		value, _ := firstValue(bytes.TrimLeft(after, ": \t\r\n"))
		if n, err := strconv.Atoi(string(value)); err == nil && n >= 0 {
			v.count = n
		}
	}
	lenient := adoptOptions()
	if _, after, ok := bytes.Cut(data[:at], []byte(`"session_id"`)); ok {
		value, _ := firstValue(bytes.TrimLeft(after, ": \t\r\n"))
		if id, err := jsontext.AppendUnquote(nil, value); err == nil && string(id) != session {
			v.gaps = []gap{{lines: 1}} // perhaps somebody else's
			return v
		}
	}
	a := adopter{session: session, last: minInstant - 1, seen: make(map[string]int), lenient: lenient}
	rest := data[at+len(`"messages"`):]
	bad := false    // the bytes before rest could not be read
	var from []byte // where they begin
	for tries := 0; tries < maxResync; {
		next := bytes.IndexByte(rest, '{')
		between := rest[:max(next, 0)]
		if next < 0 {
			between = rest
		}
		if !bad && bytes.IndexByte(between, ']') >= 0 { // the end of the list
			v.cut = false
			break
		}
		if next < 0 {
			break
		}
		rest = rest[next:]
		value, after := firstValue(rest, lenient)
		if value != nil && olderMessage(value) {
			if bad {
				v.gap(messagesIn(from[:len(from)-len(rest)]), 0)
			}
			if s, err := a.message(value); err == nil {
				v.turns = append(v.turns, s)
			} else {
				v.unreadable(nil)
			}
			rest, bad = after, false
			continue
		}
		if tries++; !bad {
			from, bad = rest, true
		}
		rest = rest[1:]
	}
	if bad {
		v.gap(messagesIn(from), 0)
	}
	return v
}

// messagesIn is how many messages of the older system there were at least in a part that cannot be read.
func messagesIn(part []byte) int { return max(1, bytes.Count(part, []byte(`"user"`))) }

// olderMessage says whether an object looks like a message of the older system.
func olderMessage(value []byte) bool {
	return bytes.Contains(value, []byte(`"user"`)) && bytes.Contains(value, []byte(`"assistant"`))
}

// salvageTail reads the lines of a tail that check. A line is as good as any
// when its sum holds, whatever stands before and after it.
func salvageTail(session string, data []byte) *salvaged {
	v := &salvaged{session: session, whole: true, count: -1}
	take := func(payload []byte) bool {
		s, err := DecodeStored(payload)
		if err != nil || s.SessionID != session {
			return false
		}
		v.turns = append(v.turns, s)
		return true
	}
	record.Scan(data, func(payload []byte) error {
		if !take(payload) {
			v.unreadable(nil) // written wrongly, or of another session
		}
		return nil
	}, func(bad *record.CorruptError) {
		line, _, _ := bytes.Cut(data[bad.Offset:], []byte{'\n'})
		v.tailLine(line, take)
	})
	return v
}

// isText reports whether bytes can be of one line.
func isText(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' })
}

// tailLine takes what a bad line of a tail still holds: where a newline is
// damaged, two good lines have become a bad one.
func (v *salvaged) tailLine(line []byte, take func([]byte) bool) {
	sumLen := record.Overhead - 1
	for {
		if len(line) <= sumLen {
			v.unreadable(nil)
			return
		}
		value, rest := firstValue(line[sumLen:])
		good := false
		if value != nil {
			one := append(bytes.Clone(line[:sumLen+len(value)]), '\n')
			record.Scan(one, func(payload []byte) error { good = take(payload); return nil }, func(*record.CorruptError) {})
		}
		if !good {
			v.unreadable(line[sumLen:])
			v.more = v.more || value == nil && !isText(line)
		}
		if value == nil || len(rest) == 0 {
			return
		}
		sum := rest[1:min(len(rest), sumLen)]
		if _, err := strconv.ParseUint(string(sum), 16, 32); err != nil || len(rest) <= 1+sumLen {
			if good { // and behind it was another line, of which not even the beginning is left
				v.unreadable(rest)
				v.more = v.more || !isText(rest)
			}
			return
		}
		line = rest[1:]
	}
}
