package transcript

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// scanCanonical reads a turn from bytes that this package encoded and that a
// checksum vouches for, some ten times faster than decoding them. It takes an
// event of the session or a message of its document. ok is false for anything
// that is not just as it would be written; the caller then decodes it. The
// snapshot aliases raw.
func scanCanonical(session string, raw []byte) (s Snapshot, ok bool) {
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
	for !c.bad && c.i < len(raw)-1 {
		at := c.i
		c.literal(`,`)
		name := c.text()
		c.literal(`:`)
		value := c.value()
		if c.bad || bytes.IndexByte(name, '\\') >= 0 {
			return s, false
		}
		switch string(name) {
		case `"session_id"`:
			if s.to != 0 || !isQuoted(value, session) {
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
	return s, !c.bad && c.i == len(raw)-1 && raw[c.i] == '}' && s.Status != "" && s.Rev >= 1
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
	c.bad = c.bad || c.i == from
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
