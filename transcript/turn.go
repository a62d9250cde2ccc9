package transcript

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a turn (the wire contract).
const (
	MaxTurnID  = 128       // bytes of [A-Za-z0-9._:-]
	MaxRev     = 999_999   // highest revision of an ordinary snapshot
	RedactRev  = 1_000_000 // revision of a redaction, which beats every other
	MaxDepth   = 32        // nesting of objects and arrays, the turn itself included
	MaxPayload = 1<<20 - 16<<10
)

// Status says how far a turn has come.
type Status string

// The statuses. [Pending] is the only one that is not final.
const (
	Pending   Status = "pending"   // the answer is not there yet
	Complete  Status = "complete"  // the default
	Partial   Status = "partial"   // the answer was cut short
	Failed    Status = "failed"    // there is no answer, see error
	Cancelled Status = "cancelled" // the user stopped it
	Redacted  Status = "redacted"  // erased on request; it keeps id, timestamp and rev, and nothing else
)

func (s Status) valid() bool {
	switch s {
	case Pending, Complete, Partial, Failed, Cancelled, Redacted:
		return true
	}
	return false
}

// Final reports whether the turn has come to its end.
func (s Status) Final() bool { return s != Pending }

// Turn is an exchange as a Go program handles it. Only SessionID and User are
// asked for. ID and Timestamp are given by the publisher when they are zero; a
// caller that sets ID, or Rev above 1, sets Timestamp too.
type Turn struct {
	ID        string    `json:"id,omitzero"`         // 1 to 128 of [A-Za-z0-9._:-]; unique in the session
	SessionID string    `json:"session_id,omitzero"` // 1 to 255 bytes of UTF-8 without control characters
	Timestamp time.Time `json:"-"`                   // when the turn began, kept to the microsecond; the same in every snapshot of it
	User      string    `json:"user"`
	Assistant string    `json:"assistant"`
	Status    Status    `json:"status,omitzero"` // "" means complete
	Rev       int       `json:"rev,omitzero"`    // 0 means 1; of two snapshots the higher wins

	CompletedAt  time.Time      `json:"-"` // zero means absent
	Error        string         `json:"error,omitzero"`
	FinishReason string         `json:"finish_reason,omitzero"`
	Model        string         `json:"model,omitzero"`
	Usage        *Usage         `json:"usage,omitzero"`
	ToolCalls    []ToolCall     `json:"tool_calls,omitempty"`
	Attachments  []Attachment   `json:"attachments,omitempty"`
	UserID       string         `json:"user_id,omitzero"`
	TraceID      string         `json:"trace_id,omitzero"`
	Parent       *string        `json:"parent,omitzero"`     // id of the turn that this one follows; "" for the first of a conversation; nil for what [Path] says
	Supersedes   string         `json:"supersedes,omitzero"` // id of the turn that this one replaces: without Parent, this one follows what that one follows
	Meta         map[string]any `json:"meta,omitempty"`

	// Extra holds members this version does not know. They are kept as they are.
	Extra map[string]jsontext.Value `json:"-"`
}

// Usage counts tokens.
type Usage struct {
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
}

// ToolCall is one call the model made. Arguments and Result are any JSON.
type ToolCall struct {
	ID        string         `json:"id,omitzero"`
	Name      string         `json:"name,omitzero"`
	Arguments jsontext.Value `json:"arguments,omitzero"`
	Result    jsontext.Value `json:"result,omitzero"`
	Status    string         `json:"status,omitzero"`
}

// Attachment points to something that was sent along; Size is in bytes.
type Attachment struct {
	URI       string `json:"uri,omitzero"`
	MediaType string `json:"media_type,omitzero"`
	Size      int64  `json:"size,omitzero"`
	SHA256    string `json:"sha256,omitzero"`
}

// Draft encodes the turn for publishing. Its error is a [*RuleError].
func (t *Turn) Draft() (Draft, error) {
	d := Draft{SessionID: t.SessionID, ID: t.ID, Rev: t.Rev, Status: t.Status, supersedes: t.Supersedes}
	if d.Rev == 0 {
		d.Rev = 1
	}
	if d.Status == "" {
		d.Status = Complete
	}
	if !t.Timestamp.IsZero() {
		d.SetTimestamp(InstantOf(t.Timestamp))
	}
	d.plain, d.userText, d.assistantText = true, t.User, t.Assistant
	if err := checkText("user", t.User); err != nil {
		return Draft{}, err
	}
	if err := checkText("assistant", t.Assistant); err != nil {
		return Draft{}, err
	}
	if !t.CompletedAt.IsZero() {
		d.completedAt = InstantOf(t.CompletedAt)
		if !d.completedAt.valid() {
			return Draft{}, &RuleError{Member: "completed_at", Rule: errInstant.Error()}
		}
		d.add("completed_at", quoted(d.completedAt))
	}
	for _, m := range [...]struct{ name, text string }{
		{"error", t.Error}, {"finish_reason", t.FinishReason}, {"model", t.Model},
		{"supersedes", t.Supersedes}, {"trace_id", t.TraceID}, {"user_id", t.UserID},
	} {
		if m.text == "" {
			continue
		}
		if err := d.addText(m.name, m.text); err != nil {
			return Draft{}, err
		}
	}
	if t.Parent != nil {
		d.parent, d.hasParent = *t.Parent, true
		if err := d.addText("parent", d.parent); err != nil {
			return Draft{}, err
		}
	}
	if err := t.draftNested(&d); err != nil {
		return Draft{}, err
	}
	return d, d.check()
}

// marshalReason says why a Go value has no JSON, without what is in it.
func marshalReason(err error) string {
	if strings.Contains(err.Error(), "invalid UTF-8") {
		return "a text in it is not valid UTF-8"
	}
	return "it holds a value that has no JSON"
}

// draftNested encodes the members that are not plain strings.
func (t *Turn) draftNested(d *Draft) error {
	marshal := func(name string, v any) error {
		value, err := json.Marshal(v, json.Deterministic(true))
		if err != nil {
			return &RuleError{Member: name, Rule: "cannot be encoded: " + marshalReason(err)}
		}
		return d.addOther(name, value)
	}
	if t.Usage != nil {
		if err := marshal("usage", t.Usage); err != nil {
			return err
		}
	}
	if d.tools = len(t.ToolCalls) > 0; d.tools {
		if err := marshal("tool_calls", t.ToolCalls); err != nil {
			return err
		}
	}
	if len(t.Attachments) > 0 {
		if err := marshal("attachments", t.Attachments); err != nil {
			return err
		}
	}
	if len(t.Meta) > 0 {
		if err := marshal("meta", t.Meta); err != nil {
			return err
		}
	}
	for name, value := range t.Extra {
		if knownMember(name) {
			return &RuleError{Member: name, Rule: "has a field of its own and cannot be in Extra"}
		}
		if err := marshal(name, value); err != nil {
			return err
		}
	}
	return nil
}
