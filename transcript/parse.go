package transcript

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Decode reads an event: a whole turn with session, id and timestamp. limit
// bounds its canonical encoding in bytes; 0 means [MaxPayload]. Its error is
// one of those [Malformed] names. The snapshot may alias payload.
func Decode(payload []byte, limit int) (Snapshot, error) {
	if s, ok := decodeCanonical(payload); ok && len(payload) <= cmp.Or(limit, MaxPayload) {
		return s, nil
	}
	return decodeAny(payload, limit)
}

// DecodeStored is Decode for an event that afterword itself has stored, perhaps an older
// version that was less strict: what breaks a rule since then is no reason to lose the turn.
// A redacted turn comes without what it carries. There is no limit.
func DecodeStored(payload []byte) (Snapshot, error) {
	if s, ok := decodeCanonical(payload); ok {
		return s, nil
	}
	p := parsers.Get().(*parser)
	defer p.release()
	p.reset(payload)
	d := Draft{Rev: 1, Status: Complete, unchecked: true}
	if err := p.object(func(name string, value jsontext.Value) error { return d.set(name, value) }); err != nil {
		return Snapshot{}, err
	}
	return d.Snapshot(math.MaxInt)
}

// decodeAny is Decode for whatever may have come.
func decodeAny(payload []byte, limit int) (Snapshot, error) {
	d, err := ParseDraft(payload)
	if err != nil {
		return Snapshot{}, err
	}
	return d.Snapshot(limit)
}

// ParseDraft reads one turn as a client sent it. Unknown members are kept, names
// are case-sensitive. Its error is a [*SyntaxError] for what is not acceptable
// JSON and a [*RuleError] for a turn that breaks a rule; the whole payload is
// read before a rule is reported, so broken JSON is always a syntax error. The
// draft aliases payload.
func ParseDraft(payload []byte) (Draft, error) {
	p := parsers.Get().(*parser)
	defer p.release()
	p.reset(payload)
	d, err := p.draft()
	if err != nil {
		return Draft{}, err
	}
	return d, d.check()
}

var parsers = sync.Pool{New: func() any { return &parser{dec: jsontext.NewDecoder(bytes.NewReader(nil))} }}

// parser reads one object member by member.
type parser struct {
	src  bytes.Buffer
	dec  *jsontext.Decoder
	data []byte
}

func (p *parser) reset(data []byte, opts ...jsontext.Options) {
	p.data = data
	p.src = *bytes.NewBuffer(data) // a Buffer is decoded in place, without a copy
	p.dec.Reset(&p.src, opts...)
}

func (p *parser) release() {
	p.data = nil
	p.src = bytes.Buffer{}
	p.dec.Reset(&p.src)
	parsers.Put(p)
}

// object calls fn for every member of the one object in the input. Its first
// rule error is returned once all of the input has been read.
func (p *parser) object(fn func(name string, value jsontext.Value) error) error {
	kind := p.dec.PeekKind()
	if kind != '{' {
		if err := p.checkDepth(MaxDepth); err != nil {
			return err
		}
		if _, err := p.dec.ReadValue(); err != nil {
			return syntaxError(err)
		}
		if err := p.end(); err != nil {
			return err
		}
		return &RuleError{Member: "the turn", Rule: "must be a JSON object, not " + kindName(kind)}
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	var rule error
	for p.dec.PeekKind() != '}' {
		raw, err := p.dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		name := memberName(raw)
		if k := p.dec.PeekKind(); k == '{' || k == '[' {
			if err := p.checkDepth(MaxDepth - 1); err != nil {
				return err
			}
		}
		value, err := p.dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		if rule == nil {
			rule = fn(name, value)
		}
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	if err := p.end(); err != nil {
		return err
	}
	return rule
}

// end expects nothing after the value.
func (p *parser) end() error {
	_, err := p.dec.ReadToken()
	switch {
	case err == io.EOF:
		return nil
	case err != nil:
		return syntaxError(err)
	}
	return &SyntaxError{Offset: p.dec.InputOffset(), Reason: "there is more after the turn"}
}

// memberName returns the name that raw quotes, without an allocation for those
// that every turn has.
func memberName(raw jsontext.Value) string {
	switch string(raw) {
	case `"id"`:
		return "id"
	case `"session_id"`:
		return sessionMember
	case `"timestamp"`:
		return "timestamp"
	case `"user"`:
		return "user"
	case `"assistant"`:
		return "assistant"
	case `"status"`:
		return "status"
	case `"rev"`:
		return "rev"
	}
	name, _ := jsontext.AppendUnquote(nil, raw) // checked by the decoder
	return string(name)
}

// checkDepth bounds the nesting of the value that comes next, before anything
// recurses into it.
func (p *parser) checkDepth(limit int) error {
	depth, inString := 0, false
	for i := int(p.dec.InputOffset()); i < len(p.data); i++ {
		switch c := p.data[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return &SyntaxError{Offset: int64(i), Reason: fmt.Sprintf("nested deeper than %d", MaxDepth)}
			}
		case c == '}' || c == ']':
			if depth--; depth <= 0 {
				return nil
			}
		}
	}
	return nil
}

func (p *parser) draft() (Draft, error) {
	d := Draft{Rev: 1, Status: Complete}
	err := p.object(func(name string, value jsontext.Value) error { return d.set(name, value) })
	return d, err
}

// set takes one member of the input.
func (d *Draft) set(name string, value jsontext.Value) error {
	var err error
	switch name {
	case "id":
		var id string
		if id, err = turnIDOf(name, value); err == nil {
			d.ID = id
		}
	case sessionMember:
		var id string
		if id, err = stringOf(name, value); err == nil {
			if err = CheckSessionID(id); err == nil {
				d.SessionID = id
			}
		}
	case "timestamp":
		var t Instant
		if t, err = instantOf(name, value); err == nil {
			d.SetTimestamp(t)
		}
	case "user":
		d.user, err = canonicalString(name, value)
	case "assistant":
		d.assistant, err = canonicalString(name, value)
	case "status":
		var s string
		if s, err = stringOf(name, value); err == nil {
			if err = checkStatus(Status(s)); err == nil {
				d.Status = Status(s)
			}
		}
	case "rev":
		var n int64
		if n, err = integerOf(name, value, 1, RedactRev); err == nil {
			d.Rev = int(n)
		}
	case "completed_at":
		var t Instant
		if t, err = instantOf(name, value); err == nil {
			d.completedAt = t
			d.add(name, quoted(t))
		}
	case "tool_calls":
		d.tools = value.Kind() == '[' && !emptyArray(value)
		err = d.addOther(name, value)
	case "parent":
		var id string
		if id, err = stringOf(name, value); err == nil && id != "" {
			err = checkTurnID(name, id)
		}
		if err == nil {
			d.parent, d.hasParent = id, true
		}
		if err == nil || d.unchecked { // older versions kept any parent, as a member that they did not know
			err = d.addOther(name, value)
		}
	case "supersedes":
		var id string
		if id, err = turnIDOf(name, value); err == nil {
			d.supersedes = id
			err = d.addOther(name, value)
		}
	default:
		err = d.addOther(name, value)
	}
	return err
}

// addOther takes a member that no other part of afterword looks into: it is
// checked when it is known, and kept with its order and number literals.
func (d *Draft) addOther(name string, value jsontext.Value) error {
	switch check := optional[name]; {
	case d.unchecked:
	case check != nil:
		unknown, err := check(name, value)
		if err != nil {
			return err
		}
		for _, path := range unknown {
			d.noteUnknown(path)
		}
	case !knownMember(name):
		d.noteUnknown(name)
	}
	b, err := canonicalValue(name, value)
	if err != nil {
		return err
	}
	d.add(name, b)
	return nil
}

// optional checks the types of the members of the wire contract that need no
// other treatment.
var optional = map[string]checker{
	"error":         isString,
	"finish_reason": isString,
	"model":         isString,
	"user_id":       isString,
	"trace_id":      isString,
	"meta":          checkObject(nil),
	"usage":         checkObject(map[string]checker{"input_tokens": isCount, "output_tokens": isCount}),
	"tool_calls":    checkArray(checkObject(map[string]checker{"id": isString, "name": isString, "arguments": isAny, "result": isAny, "status": isString})),
	"attachments":   checkArray(checkObject(map[string]checker{"uri": isString, "media_type": isString, "size": isCount, "sha256": isString})),
}

// checker checks a member by its path, and returns the paths of unknown members in it.
type checker func(name string, v jsontext.Value) (unknown []string, err error)

func isAny(string, jsontext.Value) ([]string, error) { return nil, nil }

func isString(name string, v jsontext.Value) ([]string, error) { return nil, checkString(name, v) }

func isCount(name string, v jsontext.Value) ([]string, error) {
	_, err := integerOf(name, v, 0, 1<<53)
	return nil, err
}

func knownMember(name string) bool {
	switch name {
	case "id", sessionMember, "timestamp", "user", "assistant", "status", "rev", "completed_at", "parent", "supersedes":
		return true
	}
	return optional[name] != nil
}

func checkString(name string, v jsontext.Value) error {
	if v.Kind() != '"' {
		return wrongType(name, "a string", v)
	}
	return nil
}

func checkObject(members map[string]checker) checker {
	return func(name string, v jsontext.Value) (unknown []string, err error) {
		if v.Kind() != '{' {
			return nil, wrongType(name, "an object", v)
		}
		if members == nil {
			return nil, nil
		}
		dec := jsontext.NewDecoder(bytes.NewBuffer(v))
		if _, err := dec.ReadToken(); err != nil {
			return nil, syntaxError(err)
		}
		for dec.PeekKind() != '}' {
			tok, err := dec.ReadToken()
			if err != nil {
				return nil, syntaxError(err)
			}
			check, path := members[tok.String()], name+"."+tok.String()
			value, err := dec.ReadValue()
			if err != nil {
				return nil, syntaxError(err)
			}
			if check == nil {
				if len(unknown) < maxUnknown {
					unknown = append(unknown, path)
				}
				continue
			}
			if _, err := check(path, value); err != nil {
				return nil, err
			}
		}
		return unknown, nil
	}
}

func checkArray(element checker) checker {
	return func(name string, v jsontext.Value) (unknown []string, err error) {
		if v.Kind() != '[' {
			return nil, wrongType(name, "an array", v)
		}
		dec := jsontext.NewDecoder(bytes.NewBuffer(v))
		if _, err := dec.ReadToken(); err != nil {
			return nil, syntaxError(err)
		}
		for i := 0; dec.PeekKind() != ']'; i++ {
			value, err := dec.ReadValue()
			if err != nil {
				return nil, syntaxError(err)
			}
			in, err := element(name+"["+strconv.Itoa(i)+"]", value)
			if err != nil {
				return nil, err
			}
			if len(unknown) < maxUnknown {
				unknown = append(unknown, in...)
			}
		}
		return unknown, nil
	}
}

// emptyArray reports whether an array has no elements.
func emptyArray(v jsontext.Value) bool {
	return len(bytes.TrimSpace(v[1:len(v)-1])) == 0
}

func stringOf(name string, v jsontext.Value) (string, error) {
	if err := checkString(name, v); err != nil {
		return "", err
	}
	if text := v[1 : len(v)-1]; bytes.IndexByte(text, '\\') < 0 {
		return string(text), nil
	}
	b, err := jsontext.AppendUnquote(nil, v)
	return string(b), err
}

// turnIDOf reads an id. An empty one is not an absent one.
func turnIDOf(name string, v jsontext.Value) (string, error) {
	id, err := stringOf(name, v)
	if err != nil {
		return "", err
	}
	return id, checkTurnID(name, id)
}

func instantOf(name string, v jsontext.Value) (Instant, error) {
	s, err := stringOf(name, v)
	if err != nil {
		return 0, err
	}
	i, err := ParseInstant(s)
	if err != nil {
		return 0, &RuleError{Member: name, Rule: err.Error()}
	}
	return i, nil
}

func integerOf(name string, v jsontext.Value, low, high int64) (int64, error) {
	if v.Kind() != '0' {
		return 0, wrongType(name, "an integer", v)
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < low || n > high {
		return 0, &RuleError{Member: name, Rule: fmt.Sprintf("must be an integer from %d to %d, written without fraction or exponent", low, high)}
	}
	return n, nil
}

// canonicalString returns v itself when it is canonical already. Raw controls
// are no JSON, so only a backslash can make a string less than canonical.
func canonicalString(name string, v jsontext.Value) ([]byte, error) {
	if err := checkString(name, v); err != nil {
		return nil, err
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return v, nil
	}
	return canonicalValue(name, v)
}

// canonicalValue removes white space and needless escapes, and nothing else.
func canonicalValue(name string, v jsontext.Value) ([]byte, error) {
	b, err := jsontext.AppendFormat(make([]byte, 0, len(v)), v)
	if err != nil {
		return nil, &RuleError{Member: name, Rule: "cannot be encoded: " + jsonReason(err)}
	}
	return b, nil
}

func wrongType(name, want string, v jsontext.Value) error {
	hint := ""
	if v.Kind() == 'n' {
		hint = "; leave it out when there is none"
	}
	return &RuleError{Member: name, Rule: "must be " + want + ", not " + kindName(v.Kind()) + hint}
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '[':
		return "an array"
	case '{':
		return "an object"
	}
	return "nothing"
}
