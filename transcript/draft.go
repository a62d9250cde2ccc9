package transcript

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Draft is a turn on its way in: checked, but perhaps still without id and
// timestamp. It comes from [ParseDraft] or [Turn.Draft] and becomes a [Snapshot].
type Draft struct {
	SessionID string // "" when the payload did not say
	ID        string // "" when it is still to be given
	Rev       int
	Status    Status

	timestamp    Instant
	hasTimestamp bool
	user         []byte // quoted, canonical; nil when absent
	assistant    []byte
	completedAt  Instant
	supersedes   string
	members      []member // every other member
	unchecked    bool     // known members that nobody looks into are taken as they are
}

type member struct {
	name  string
	value []byte // canonical
}

// Timestamp returns when the turn began; ok is false while it has none.
func (d *Draft) Timestamp() (t Instant, ok bool) { return d.timestamp, d.hasTimestamp }

// SetTimestamp says when the turn began.
func (d *Draft) SetTimestamp(t Instant) { d.timestamp, d.hasTimestamp = t, true }

func (d *Draft) add(name string, value []byte) {
	d.members = append(d.members, member{name, value})
}

// check holds the draft against the rules that need no id or timestamp yet.
func (d *Draft) check() error {
	switch {
	case d.user == nil:
		return &RuleError{Member: "user", Rule: "is missing"}
	case d.Rev < 1 || d.Rev > RedactRev:
		return &RuleError{Member: "rev", Rule: fmt.Sprintf("must be an integer from 1 to %d", MaxRev)}
	case (d.Rev == RedactRev) != (d.Status == Redacted):
		return &RuleError{Member: "rev", Rule: fmt.Sprintf("must be %d when status is redacted, and at most %d otherwise", RedactRev, MaxRev)}
	case d.ID == "" && d.Rev > 1:
		return &RuleError{Member: "id", Rule: "is missing: a rev above 1 says which turn it revises"}
	case d.ID != "" && !d.hasTimestamp:
		return &RuleError{Member: "timestamp", Rule: "is missing: a turn that brings its own id brings its timestamp too, the same in every snapshot of it"}
	case d.hasTimestamp && !d.timestamp.valid():
		return &RuleError{Member: "timestamp", Rule: errInstant.Error()}
	}
	if err := checkStatus(d.Status); err != nil {
		return err
	}
	if d.SessionID != "" {
		if err := CheckSessionID(d.SessionID); err != nil {
			return err
		}
	}
	if d.ID != "" {
		if err := checkTurnID("id", d.ID); err != nil {
			return err
		}
	}
	if d.supersedes != "" {
		return checkTurnID("supersedes", d.supersedes)
	}
	return nil
}

func checkStatus(s Status) error {
	if !s.valid() {
		return &RuleError{Member: "status", Rule: "must be one of pending, complete, partial, failed, cancelled, redacted"}
	}
	return nil
}

// CheckTurnID reports which rule a turn's id breaks.
func CheckTurnID(id string) error { return checkTurnID("id", id) }

func checkTurnID(name, id string) error {
	ok := len(id) >= 1 && len(id) <= MaxTurnID
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._:-", c) >= 0
	}
	if !ok {
		return &RuleError{Member: name, Rule: fmt.Sprintf("must be 1 to %d of A-Z a-z 0-9 . _ : -", MaxTurnID)}
	}
	return nil
}

// Snapshot encodes the draft. It fails with a [*RuleError] when the session, id
// or timestamp is still missing, and with a [*TooLargeError] when the payload is
// longer than limit bytes (0 means [MaxPayload]).
func (d *Draft) Snapshot(limit int) (Snapshot, error) {
	switch {
	case d.SessionID == "":
		return Snapshot{}, &RuleError{Member: "session_id", Rule: "is missing"}
	case d.ID == "":
		return Snapshot{}, &RuleError{Member: "id", Rule: "is missing"}
	case !d.hasTimestamp:
		return Snapshot{}, &RuleError{Member: "timestamp", Rule: "is missing"}
	}
	if err := d.check(); err != nil { // the caller may have set members since it was made
		return Snapshot{}, err
	}
	s := d.encode()
	if limit == 0 {
		limit = MaxPayload
	}
	if len(s.raw) > limit {
		return Snapshot{}, &TooLargeError{Size: len(s.raw), Limit: limit}
	}
	return s, nil
}

// encode writes the canonical form: six members in fixed order, then the others,
// the session among them, by name.
func (d *Draft) encode() Snapshot {
	if d.assistant == nil {
		d.assistant = []byte(`""`)
	}
	size := 160 + len(d.ID) + len(d.user) + len(d.assistant) + 2*len(d.SessionID)
	for _, m := range d.members {
		size += len(m.name) + len(m.value) + 8
	}
	b := make([]byte, 0, size)
	b = append(b, `{"id":"`...)
	b = append(b, d.ID...)
	b = append(b, `","timestamp":"`...)
	b = d.timestamp.append(b)
	b = append(b, `","user":`...)
	b = append(b, d.user...)
	b = append(b, `,"assistant":`...)
	b = append(b, d.assistant...)
	b = append(b, `,"status":"`...)
	b = append(b, d.Status...)
	b = append(b, `","rev":`...)
	b = strconv.AppendInt(b, int64(d.Rev), 10)

	slices.SortFunc(d.members, func(x, y member) int { return strings.Compare(x.name, y.name) })
	from, to := 0, 0
	session := func() {
		from = len(b)
		b = appendSession(b, d.SessionID)
		to = len(b)
	}
	for _, m := range d.members {
		if to == 0 && m.name > sessionMember {
			session()
		}
		b = append(b, ',')
		b, _ = jsontext.AppendQuote(b, m.name) // checked when the member was added
		b = append(b, ':')
		b = append(b, m.value...)
	}
	if to == 0 {
		session()
	}
	b = append(b, '}')

	user := len(`{"id":"","timestamp":"",`) + len(d.ID) + instantLen
	return Snapshot{
		SessionID: d.SessionID, ID: d.ID, Timestamp: d.timestamp, Rev: d.Rev, Status: d.Status,
		CompletedAt: d.completedAt, Supersedes: d.supersedes,
		raw: b, from: from, to: to,
		text:  user,
		texts: user + len(`"user":,"assistant":`) + len(d.user) + len(d.assistant),
		empty: len(d.assistant) == len(`""`),
	}
}

const sessionMember = "session_id"

func appendSession(b []byte, id string) []byte {
	b = append(b, `,"session_id":`...)
	b, _ = jsontext.AppendQuote(b, id) // checked: valid UTF-8
	return b
}

func quote(name, s string) ([]byte, error) {
	b, err := jsontext.AppendQuote(make([]byte, 0, len(s)+len(s)/16+2), s)
	if err != nil {
		return nil, &RuleError{Member: name, Rule: "is not valid UTF-8"}
	}
	return b, nil
}

func quoted(i Instant) []byte {
	b := append(make([]byte, 0, instantLen+2), '"')
	return append(i.append(b), '"')
}
