package transcript

import (
	"cmp"
	"math"

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
