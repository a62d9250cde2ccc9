package transcript

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// scanCanonical reads a turn from bytes that this package encoded and that a
// checksum vouches for, some ten times faster than decoding them. It takes an
// event of the session or a message of its document. ok is false for anything
// that is not just as it would be written; the caller then decodes it. The
// snapshot aliases raw.
func scanCanonical(session string, raw []byte) (s Snapshot, ok bool) {
	return scan(session, raw, false)
}

// decodeCanonical reads an event from anybody that is just as it would be
// written, and so needs no other encoding. ok is false for everything that is
// not, or that it does not know to be: the long way then tells what is wrong, if
// anything is. The snapshot aliases raw.
func decodeCanonical(raw []byte) (s Snapshot, ok bool) {
	if !plainText(raw) || !utf8.Valid(raw) || !canonicalEscapes(raw) {
		return s, false
	}
	if s, ok = scan("", raw, true); !ok || s.SessionID == "" || s.from == s.to {
		return s, false
	}
	if checkTurnID("id", s.ID) != nil || CheckSessionID(s.SessionID) != nil ||
		s.Rev > RedactRev || (s.Rev == RedactRev) != (s.Status == Redacted) {
		return s, false
	}
	return s, (s.Supersedes == "" || checkTurnID("supersedes", s.Supersedes) == nil) &&
		(s.Parent == "" || checkTurnID("parent", s.Parent) == nil)
}

// scan is scanCanonical for the session that is given. In strict mode it takes
// any session, and of the members that a turn need not have only texts, in their order.
func scan(session string, raw []byte, strict bool) (s Snapshot, ok bool) {
	l, ok := parseLine(raw)
	if !ok {
		return s, false
	}
	c := cursor{b: raw, i: len(messageHead) + len(l.id) + len(timeHead) + instantLen + 1}
	s = Snapshot{SessionID: session, ID: string(l.id), Timestamp: l.at, raw: raw, text: c.i + 1}
	c.literal(`,"user":`)
	c.text()
	c.literal(`,"assistant":`)
	said := c.i
	c.text()
	s.texts, s.empty = c.i, c.i-said == len(`""`)
	c.literal(`,"status":`)
	s.Status = statusOf(c.text())
	c.literal(`,"rev":`)
	s.Rev = c.number()
	var last []byte
	for !c.bad && c.i < len(raw)-1 {
		at := c.i
		c.literal(`,`)
		name := c.text()
		c.literal(`:`)
		value := c.value()
		if c.bad || bytes.IndexByte(name, '\\') >= 0 {
			return s, false
		}
		if strict {
			if bytes.Compare(last, name) >= 0 || !textMember(name) || len(value) < 2 || value[0] != '"' {
				return s, false
			}
			last = name
		}
		switch string(name) {
		case `"session_id"`:
			switch {
			case strict && bytes.IndexByte(value, '\\') >= 0:
				return s, false
			case strict:
				s.SessionID = string(value[1 : len(value)-1])
			case s.to != 0 || !isQuoted(value, session):
				return s, false
			}
			s.from, s.to = at, c.i
			continue
		case `"completed_at"`:
			if len(value) < 2 {
				return s, false
			}
			if s.CompletedAt, ok = parseCanonicalInstant(value[1 : len(value)-1]); !ok {
				return s, false
			}
		case `"parent"`:
			if len(value) < 2 || value[0] != '"' || len(value) > 2 && checkTurnID("parent", string(value[1:len(value)-1])) != nil {
				return s, false
			}
			s.Parent, s.HasParent = string(value[1:len(value)-1]), true
		case `"tool_calls"`:
			s.tools = len(value) > len(`[]`) && value[0] == '['
		case `"supersedes"`:
			if len(value) < 3 || value[0] != '"' {
				return s, false
			}
			s.Supersedes = string(value[1 : len(value)-1])
		}
		if s.to == 0 && string(name) > `"session_id"` { // where the session would stand
			s.from, s.to = at, at
		}
	}
	if s.to == 0 {
		s.from, s.to = c.i, c.i
	}
	if s.Status == Redacted && !s.bare() {
		return s, false
	}
	return s, !c.bad && c.i == len(raw)-1 && raw[c.i] == '}' && s.Status != "" && s.Rev >= 1
}

// bare reports whether a redacted turn carries nothing: it is as long as what it has to have.
func (s *Snapshot) bare() bool {
	return s.texts-s.text == len(`"user":"","assistant":""`) &&
		len(s.raw)-(s.to-s.from) == s.texts+len(`,"status":"redacted","rev":1000000}`)
}

// textMember reports whether a member that a turn need not have is a text, by its quoted name.
func textMember(name []byte) bool {
	switch string(name) {
	case `"completed_at"`, `"error"`, `"finish_reason"`, `"model"`, `"parent"`, `"session_id"`, `"supersedes"`, `"trace_id"`, `"user_id"`:
		return true
	}
	return false
}

// plainText reports whether b has no control characters, eight bytes at a time.
func plainText(b []byte) bool {
	const each, high = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		// The high bit of a byte is set when it was under 0x20 and not over 0x7f.
		if w := binary.NativeEndian.Uint64(b); (w-0x20*each)&^w&high != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c < 0x20 {
			return false
		}
	}
	return true
}

// canonicalEscapes reports whether every backslash in a JSON text stands where it
// has to, and in the one way in which it is written.
func canonicalEscapes(b []byte) bool {
	for {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			return true
		}
		if i+1 == len(b) {
			return false
		}
		width := 2
		switch b[i+1] {
		case '"', '\\', 'b', 'f', 'n', 'r', 't':
		case 'u':
			if width = 6; i+width > len(b) || !longEscape(b[i+2:i+width]) {
				return false
			}
		default:
			return false
		}
		b = b[i+width:]
	}
}

// longEscape reports whether a control has no shorter escape than \u and these digits.
func longEscape(hex []byte) bool {
	if string(hex[:2]) != "00" || hex[2] != '0' && hex[2] != '1' {
		return false
	}
	switch c := hex[3]; {
	case c >= '0' && c <= '7', c == 'e', c == 'f':
		return true
	case c == '8', c == '9', c == 'a', c == 'b', c == 'c', c == 'd':
		return hex[2] == '1' || c == 'b'
	}
	return false
}

// isQuoted reports whether value is the encoding of text.
func isQuoted(value []byte, text string) bool {
	if len(value) == len(text)+2 {
		return string(value[1:len(value)-1]) == text
	}
	b, err := jsontext.AppendUnquote(nil, value)
	return err == nil && string(b) == text
}

func statusOf(quoted []byte) Status {
	for _, s := range [...]Status{Complete, Pending, Partial, Failed, Cancelled, Redacted} {
		if len(quoted) == len(s)+2 && string(quoted[1:len(quoted)-1]) == string(s) {
			return s
		}
	}
	return ""
}

// cursor walks over JSON whose syntax is known to be good. Once bad it stays so.
type cursor struct {
	b   []byte
	i   int
	bad bool
}

func (c *cursor) literal(want string) {
	if c.bad || len(c.b)-c.i < len(want) || string(c.b[c.i:c.i+len(want)]) != want {
		c.bad = true
		return
	}
	c.i += len(want)
}

// text takes a string, with its quotes.
func (c *cursor) text() []byte {
	if c.bad || c.i >= len(c.b) || c.b[c.i] != '"' {
		c.bad = true
		return nil
	}
	from := c.i
	for i := c.i + 1; ; {
		n := bytes.IndexByte(c.b[i:], '"')
		if n < 0 {
			c.bad = true
			return nil
		}
		end := i + n
		slashes := 0
		for end-1-slashes > from && c.b[end-1-slashes] == '\\' {
			slashes++
		}
		if i = end + 1; slashes%2 == 0 {
			c.i = i
			return c.b[from:i]
		}
	}
}

func (c *cursor) number() (n int) {
	from := c.i
	for !c.bad && c.i < len(c.b) && c.b[c.i] >= '0' && c.b[c.i] <= '9' && c.i-from < 8 {
		n = 10*n + int(c.b[c.i]-'0')
		c.i++
	}
	c.bad = c.bad || c.i == from || c.b[from] == '0'
	return n
}

// value takes any value.
func (c *cursor) value() []byte {
	from, depth := c.i, 0
	for !c.bad && c.i < len(c.b) {
		switch ch := c.b[c.i]; {
		case ch == '"':
			c.text()
			if depth == 0 {
				return c.b[from:c.i]
			}
			continue
		case ch == '{' || ch == '[':
			depth++
		case ch == '}' || ch == ']':
			if depth == 0 {
				return c.b[from:c.i]
			}
			if depth--; depth == 0 {
				c.i++
				return c.b[from:c.i]
			}
		case ch == ',' && depth == 0:
			return c.b[from:c.i]
		}
		c.i++
	}
	c.bad = true
	return nil
}
