package transcript

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Schema is the version of documents and directories that this code writes.
const Schema = 1

// The fixed pieces of a document:
//
//	{"session_id":"abc","created_at":"…","messages":[
//	{"id":…},
//	{"id":…}
//	],"updated_at":"…","message_count":2,"afterword":{"schema":1,"revision":2,"sha256":"…"}}
const (
	documentHead = `{"session_id":`
	createdHead  = `,"created_at":"`
	messagesHead = `","messages":[`
	messageHead  = `{"id":"`
	timeHead     = `","timestamp":"`
	trailerHead  = `],"updated_at":"`
	countHead    = `","message_count":`
	ownHead      = `,"afterword":`
)

// CorruptError is a file that cannot be trusted: nothing is written on top of it.
type CorruptError struct {
	Path   string // file, in the transcripts folder; "" when the bytes came from elsewhere
	Reason string
}

func (e *CorruptError) Error() string {
	if e.Path == "" {
		return "corrupt document: " + e.Reason
	}
	return "corrupt file " + e.Path + ": " + e.Reason
}

// SchemaError is a document or directory that a newer afterword wrote.
type SchemaError struct {
	Path   string
	Schema int
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("%s has schema %d, this afterword knows up to %d: run the version that wrote it, or a newer one", e.Path, e.Schema, Schema)
}

// own is the member of a document that belongs to afterword.
type own struct {
	Schema   int            `json:"schema"`
	Revision int64          `json:"revision"`
	SHA256   string         `json:"sha256"`
	Kept     jsontext.Value `json:"kept,omitzero"`
}

var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 64<<10) }}

// encoder writes a document message by message: what its end says is known only then.
type encoder struct {
	out countWriter
	sum hash.Hash
	buf *bufio.Writer // its errors stick until the end
	n   int           // messages so far
}

// newEncoder makes an encoder; release gives its buffer back.
func newEncoder(w io.Writer) *encoder {
	e := &encoder{out: countWriter{w: w}, sum: sha256.New(), buf: writers.Get().(*bufio.Writer)}
	e.buf.Reset(io.MultiWriter(&e.out, e.sum))
	return e
}

func (e *encoder) release() {
	e.buf.Reset(nil)
	writers.Put(e.buf)
}

// begin writes the first line. created is the timestamp of the first message.
func (e *encoder) begin(session string, created Instant) error {
	id, err := jsontext.AppendQuote(nil, session)
	if err != nil {
		return err
	}
	b := append(append([]byte(documentHead), id...), createdHead...)
	b = append(created.append(b), messagesHead...)
	_, err = e.buf.Write(append(b, '\n'))
	return err
}

func (e *encoder) message(l *line) error {
	if e.n++; e.n > 1 {
		e.buf.WriteString(",\n")
	}
	e.buf.Write(l.raw[:l.from])
	_, err := e.buf.Write(l.raw[l.to:])
	return err
}

// end writes the last line, and returns the size of the document and its afterword member.
func (e *encoder) end(updated Instant, revision int64, kept []byte) (size int64, member []byte, err error) {
	if e.n > 0 {
		e.buf.WriteByte('\n')
	}
	b := updated.append([]byte(trailerHead))
	b = strconv.AppendInt(append(b, countHead...), int64(e.n), 10)
	e.buf.Write(b)
	if err := e.buf.Flush(); err != nil { // the sum is of everything up to here
		return e.out.n, nil, err
	}
	member, err = json.Marshal(own{Schema: Schema, Revision: revision, SHA256: hex.EncodeToString(e.sum.Sum(nil)), Kept: kept}, jsontext.AllowDuplicateNames(true))
	if err != nil {
		return e.out.n, nil, err
	}
	_, err = e.out.Write(append(append(append(b[:0], ownHead...), member...), "}\n"...))
	return e.out.n, member, err
}

// WriteTo writes the canonical bytes.
func (d *Document) WriteTo(w io.Writer) (int64, error) {
	if d.partial {
		return 0, errors.New("write document: only its end was read")
	}
	e := newEncoder(w)
	defer e.release()
	created := Instant(0)
	if len(d.lines) > 0 {
		created = d.lines[0].at
	}
	if err := e.begin(d.SessionID, created); err != nil {
		return e.out.n, err
	}
	for i := range d.lines {
		if err := e.message(&d.lines[i]); err != nil {
			return e.out.n, err
		}
	}
	n, _, err := e.end(d.updated, d.revision, d.kept)
	return n, err
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// Bytes returns the canonical bytes.
func (d *Document) Bytes() ([]byte, error) {
	var b bytes.Buffer
	_, err := d.WriteTo(&b)
	return b.Bytes(), err
}

// ParseDocument reads the document of a session and checks all of it. A document
// in another layout, such as that of the older system, is adopted. Its error is
// a [*CorruptError] or a [*SchemaError]. The document aliases data.
func ParseDocument(session string, data []byte) (*Document, error) {
	first, _, _ := bytes.Cut(data, []byte{'\n'})
	if !bytes.HasPrefix(first, []byte(documentHead)) || !bytes.HasSuffix(first, []byte(messagesHead[1:])) {
		return adopt(session, data)
	}
	d := NewDocument(session)
	if got, err := headSession(first); err != nil {
		return nil, corrupt("%v", err)
	} else if got != session {
		return nil, corrupt("it belongs to another session")
	}
	at, t, err := parseTrailer(data)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data[:t.summed])
	if hex.EncodeToString(sum[:]) != t.own.SHA256 {
		return nil, corrupt("its sha256 differs")
	}
	d.updated, d.revision, d.kept = t.updated, t.own.Revision, t.own.Kept
	d.lines = make([]line, 0, t.count)
	if err := d.parseLines(data[len(first)+1 : at]); err != nil {
		return nil, err
	}
	if len(d.lines) != t.count {
		return nil, corrupt("it holds %d messages and says %d", len(d.lines), t.count)
	}
	if d.foreign {
		return d, d.recount()
	}
	return d, nil
}

// redactedMark stands in every message of a redacted turn, and in hardly any other.
const redactedMark = `,"status":"redacted","rev":1000000`

// bareOf returns what is kept of a redacted turn whose line carries more: documents of older
// versions hold what it was published with.
func bareOf(session string, l *line) (s Snapshot, ok bool, err error) {
	if !bytes.Contains(l.raw, []byte(redactedMark)) {
		return s, false, nil
	}
	s, err = decodeMessage(session, l.raw)
	return s, err == nil && s.Status == Redacted && len(s.raw)-(s.to-s.from) != len(l.raw), err
}

// parseLines reads messages, each on a line, all but the last with a comma.
func (d *Document) parseLines(rest []byte) error {
	redacted := bytes.Contains(rest, []byte(redactedMark))
	for len(rest) > 0 {
		raw, after, _ := bytes.Cut(rest, []byte{'\n'})
		if rest = after; len(rest) > 0 {
			raw = bytes.TrimSuffix(raw, []byte{','})
		}
		l, ok := parseLine(raw)
		if !ok {
			return corrupt("message %d is not readable", len(d.lines)+1)
		}
		if redacted {
			s, ok, err := bareOf(d.SessionID, &l)
			if err != nil {
				return err
			}
			if ok {
				l, d.foreign = lineOf(&s), true // a fold writes it anew
			}
		}
		if n := len(d.lines); n > 0 && d.lines[n-1].compare(&l) >= 0 {
			return corrupt("message %d is out of order", n+1)
		}
		d.lines = append(d.lines, l)
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return &CorruptError{Reason: fmt.Sprintf(format, args...)}
}

// DocumentSession reads which session a document says it is of.
func DocumentSession(data []byte) (string, error) {
	var head struct {
		SessionID string `json:"session_id"`
	}
	if first, _, _ := bytes.Cut(data, []byte{'\n'}); bytes.HasPrefix(first, []byte(documentHead)) && bytes.HasSuffix(first, []byte(messagesHead[1:])) {
		return headSession(first)
	}
	if err := json.Unmarshal(data, &head, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true)); err != nil {
		return "", corrupt("it is not a transcript: %s", jsonReason(err))
	}
	return head.SessionID, nil
}

// headSession reads the session out of a document's first line.
func headSession(first []byte) (string, error) {
	quotedID := first[len(documentHead):]
	end := len(quotedID) - len(createdHead) - instantLen - len(messagesHead)
	if end < 2 {
		return "", fmt.Errorf("its first line is cut short")
	}
	b, err := jsontext.AppendUnquote(nil, quotedID[:end])
	if err != nil {
		return "", fmt.Errorf("its session_id is not readable")
	}
	return string(b), nil
}

// parseLine finds where a message stands without decoding it.
func parseLine(raw []byte) (line, bool) {
	if !bytes.HasPrefix(raw, []byte(messageHead)) || raw[len(raw)-1] != '}' {
		return line{}, false
	}
	rest := raw[len(messageHead):]
	end := bytes.IndexByte(rest, '"')
	if end < 1 || !bytes.HasPrefix(rest[end:], []byte(timeHead)) {
		return line{}, false
	}
	stamp := rest[end+len(timeHead):]
	if len(stamp) <= instantLen || stamp[instantLen] != '"' {
		return line{}, false
	}
	at, ok := parseCanonicalInstant(stamp[:instantLen])
	return line{at: at, id: rest[:end:end], raw: raw}, ok
}

// trailer is what a document's last line says.
type trailer struct {
	updated Instant
	count   int
	summed  int // length of what the sum is of, from where the data begins
	own     own
}

// parseTrailer finds and reads the last line of data, which is a document or the
// end of one, and returns where it starts.
func parseTrailer(data []byte) (at int, t trailer, err error) {
	if len(data) == 0 || data[len(data)-1] != '\n' {
		return 0, t, corrupt("it is cut short")
	}
	at = bytes.LastIndexByte(data[:len(data)-1], '\n') + 1
	last := data[at : len(data)-1]
	rest, ok := bytes.CutPrefix(last, []byte(trailerHead))
	if !ok || len(rest) < instantLen || !bytes.HasSuffix(rest, []byte{'}'}) {
		return 0, t, corrupt("its last line is not readable")
	}
	if t.updated, ok = parseCanonicalInstant(rest[:instantLen]); !ok {
		return 0, t, corrupt("its updated_at is not readable")
	}
	count, after, ok := bytes.Cut(bytes.TrimPrefix(rest[instantLen:], []byte(countHead)), []byte(ownHead))
	if !ok {
		return 0, t, corrupt("its last line is not readable")
	}
	if t.count, err = strconv.Atoi(string(count)); err != nil || t.count < 0 {
		return 0, t, corrupt("its message_count is not readable")
	}
	t.summed = len(data) - 1 - len(after) - len(ownHead)
	if err := json.Unmarshal(after[:len(after)-1], &t.own, jsontext.AllowDuplicateNames(true)); err != nil {
		return 0, t, corrupt("its afterword member is not readable")
	}
	if t.own.Schema > Schema {
		return 0, t, &SchemaError{Path: "the document", Schema: t.own.Schema}
	}
	return at, t, nil
}

// decodeMessage reads one message of a document, which it may alias. Members that afterword knows
// but does not need are not checked again: adopted ones may break the rules.
func decodeMessage(session string, raw []byte) (Snapshot, error) {
	if s, ok := scanCanonical(session, raw); ok {
		return s, nil
	}
	return parseMessage(session, raw)
}

// parseMessage reads one message whatever its layout.
func parseMessage(session string, raw []byte) (Snapshot, error) {
	p := parsers.Get().(*parser)
	defer p.release()
	p.reset(raw)
	d := Draft{Rev: 1, Status: Complete, unchecked: true}
	err := p.object(func(name string, value jsontext.Value) error { return d.set(name, value) })
	if err == nil {
		err = d.check()
	}
	if err != nil {
		return Snapshot{}, corrupt("message: %v", err)
	}
	d.SessionID = session
	return d.encode(), nil
}
