package transcript

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Draft is a turn on its way in: checked, but perhaps still without id and
// timestamp. It comes from [ParseDraft] or [Turn.Draft] and becomes a [Snapshot].
type Draft struct {
	SessionID string // "" when the payload did not say
	ID        string // "" when it is still to be given
	Rev       int
	Status    Status

	timestamp     Instant
	hasTimestamp  bool
	user          []byte // quoted, canonical; nil when absent
	assistant     []byte
	plain         bool // userText and assistantText stand for user and assistant
	userText      string
	assistantText string
	completedAt   Instant
	supersedes    string
	parent        string
	hasParent     bool
	tools         bool      // it has tool calls
	few           [4]member // every other member; most turns have no more than these
	fewUsed       int
	more          []member
	unknown       []string // paths of members that are not of the wire contract, at most maxUnknown
	unchecked     bool     // stored before: known members that nobody looks into are taken as they are
}

// member is a value in its canonical encoding, or a text that is not quoted yet.
type member struct {
	name  string
	value []byte
	text  string // valid UTF-8; used when value is nil
}

// Timestamp returns when the turn began; ok is false while it has none.
func (d *Draft) Timestamp() (t Instant, ok bool) { return d.timestamp, d.hasTimestamp }

// SetTimestamp says when the turn began.
func (d *Draft) SetTimestamp(t Instant) { d.timestamp, d.hasTimestamp = t, true }

func (d *Draft) add(name string, value []byte) { d.addMember(member{name: name, value: value}) }

// addText checks a text and keeps it as it is: encode quotes it into its place.
func (d *Draft) addText(name, text string) error {
	if err := checkText(name, text); err != nil {
		return err
	}
	d.addMember(member{name: name, text: text})
	return nil
}

func (d *Draft) addMember(m member) {
	if d.fewUsed == len(d.few) {
		d.more = append(d.more, m)
		return
	}
	d.few[d.fewUsed] = m
	d.fewUsed++
}

// sorted returns the members by name.
func (d *Draft) sorted() []member {
	list := d.few[:d.fewUsed]
	if len(d.more) > 0 {
		list = slices.Concat(list, d.more)
	}
	slices.SortFunc(list, func(x, y member) int { return strings.Compare(x.name, y.name) })
	return list
}

// check holds the draft against the rules that need no id or timestamp yet.
func (d *Draft) check() error {
	switch {
	case d.user == nil && !d.plain:
		return d.missingUser()
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
		if err := checkTurnID("supersedes", d.supersedes); err != nil {
			return err
		}
	}
	if d.parent != "" {
		if err := checkTurnID("parent", d.parent); err != nil {
			return err
		}
	}
	if d.Status == Redacted && !d.unchecked {
		return d.checkRedaction()
	}
	return nil
}

// checkRedaction reports the first member of a redacted turn that may carry what was said.
func (d *Draft) checkRedaction() error {
	switch {
	case d.userText != "" || len(d.user) > len(`""`):
		return &RedactionError{"user"}
	case d.assistantText != "" || len(d.assistant) > len(`""`):
		return &RedactionError{"assistant"}
	}
	for _, m := range d.sorted() {
		if mayCarry(m.name) {
			return redactionError(m.name)
		}
	}
	return nil
}

// redactionError is about an optional member, named where it is one of a turn.
func redactionError(name string) *RedactionError {
	switch name {
	case "user", "assistant", "error", "tool_calls", "attachments", "meta":
		return &RedactionError{name}
	}
	return &RedactionError{}
}

// mayCarry reports whether an optional member may hold something of what was said.
func mayCarry(name string) bool {
	switch name {
	case "completed_at", "finish_reason", "model", "parent", "supersedes", "trace_id", "usage", "user_id":
		return false
	}
	return true
}

// missingUser names the member that was probably meant, if one of the draft resembles it.
func (d *Draft) missingUser() error {
	for _, m := range d.Misspellings() {
		if m.Meant == "user" {
			return &RuleError{Member: "user", Rule: "is missing; " + strconv.QuoteToASCII(m.Member) + " is another member: names are exact"}
		}
	}
	return &RuleError{Member: "user", Rule: "is missing"}
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
	if d.Status == Redacted {
		d = d.redacted()
	}
	members := d.sorted()
	size := 160 + len(d.ID) + quotedSize(d.user, d.userText) + quotedSize(d.assistant, d.assistantText) + 2*len(d.SessionID)
	for _, m := range members {
		size += len(m.name) + quotedSize(m.value, m.text) + 8
	}
	b := make([]byte, 0, size)
	b = append(b, `{"id":"`...)
	b = append(b, d.ID...)
	b = append(b, `","timestamp":"`...)
	b = d.timestamp.append(b)
	b = append(b, `",`...)
	text := len(b)
	b = append(b, `"user":`...)
	b = appendText(b, d.user, d.userText)
	b = append(b, `,"assistant":`...)
	answer := len(b)
	b = appendText(b, d.assistant, d.assistantText)
	texts := len(b)
	b = append(b, `,"status":"`...)
	b = append(b, d.Status...)
	b = append(b, `","rev":`...)
	b = strconv.AppendInt(b, int64(d.Rev), 10)

	from, to := 0, 0
	session := func() {
		from = len(b)
		b = appendSession(b, d.SessionID)
		to = len(b)
	}
	for _, m := range members {
		if to == 0 && m.name > sessionMember {
			session()
		}
		b = append(b, ',')
		b, _ = jsontext.AppendQuote(b, m.name) // checked when the member was added
		b = append(b, ':')
		b = appendText(b, m.value, m.text)
	}
	if to == 0 {
		session()
	}
	b = append(b, '}')

	return Snapshot{
		SessionID: d.SessionID, ID: d.ID, Timestamp: d.timestamp, Rev: d.Rev, Status: d.Status,
		CompletedAt: d.completedAt, Parent: d.parent, HasParent: d.hasParent, Supersedes: d.supersedes,
		raw: b, from: from, to: to,
		text: text, texts: texts,
		empty: texts-answer == len(`""`), tools: d.tools,
	}
}

// redacted is all of a redacted turn that is kept, whatever it carries.
func (d *Draft) redacted() *Draft {
	return &Draft{
		SessionID: d.SessionID, ID: d.ID, Rev: d.Rev, Status: d.Status,
		timestamp: d.timestamp, hasTimestamp: d.hasTimestamp, plain: true,
	}
}

const sessionMember = "session_id"

func appendSession(b []byte, id string) []byte {
	b = append(b, `,"session_id":`...)
	b, _ = jsontext.AppendQuote(b, id) // checked: valid UTF-8
	return b
}

func checkText(name, s string) error {
	if !utf8.ValidString(s) {
		return &RuleError{Member: name, Rule: "is not valid UTF-8"}
	}
	return nil
}

// appendText appends a quoted value, or quotes text when there is none.
func appendText(b, value []byte, text string) []byte {
	if value != nil {
		return append(b, value...)
	}
	b, _ = jsontext.AppendQuote(b, text) // checked: valid UTF-8
	return b
}

// quotedSize estimates what appendText appends: some of a text is escaped.
func quotedSize(value []byte, text string) int {
	return len(value) + len(text) + len(text)/16 + 2
}

func quoted(i Instant) []byte {
	b := append(make([]byte, 0, instantLen+2), '"')
	return append(i.append(b), '"')
}
