package exchange

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// turn is a turn that is put together, or taken apart.
type turn struct {
	id        string
	at        transcript.Instant
	user      string
	assistant string
	status    string // "" is complete
	calls     []turnCall
	links     [][]int // of each message of which it was folded, the calls that it makes or answers
	members   []field // others, by their names, without meta
	meta      []field // members of meta
	bare      bool    // meta is there without members
}

// turnCall is a tool call of a turn.
type turnCall struct {
	call
	result jsontext.Value // nil when there is none
	order  []string       // names of its members, as they came
}

func (t *turn) set(name string, value jsontext.Value) {
	t.members = append(t.members, field{name: name, value: value})
}

// appendMeta appends meta with these members.
func (t *turn) appendMeta(b []byte, list []field) []byte {
	if len(list) == 0 && !t.bare {
		return b
	}
	var meta []byte
	for _, f := range list {
		meta = appendField(meta, f.name, f.value)
	}
	return appendField(b, "meta", orEmpty(meta))
}

// openMeta takes meta as it is.
func (t *turn) openMeta(v jsontext.Value) error {
	t.bare = true
	return members(v, func(name string, value jsontext.Value) error {
		t.setMeta(name, value)
		return nil
	})
}

func (t *turn) setMeta(name string, value jsontext.Value) {
	t.meta = append(t.meta, field{name: name, value: value})
}

// answered reports whether a recent history has the turn.
func (t *turn) answered() bool {
	final := t.status == "" || t.status == string(transcript.Partial) || t.status == string(transcript.Cancelled)
	return final && (t.assistant != "" || len(t.calls) > 0)
}

// payload is the turn as it is published.
func (t *turn) payload(session string) []byte {
	return t.whole(appendField(nil, "session_id", quoted(session)))
}

// whole is the turn as it is published, behind what is in b.
func (t *turn) whole(b []byte) []byte {
	b = appendField(b, "id", quoted(t.id))
	b = appendField(b, "timestamp", quoted(t.at.String()))
	return t.close(b)
}

// content is the turn without session, id and time.
func (t *turn) content() []byte { return t.close(nil) }

func (t *turn) close(b []byte) []byte {
	b = appendField(b, "user", quoted(t.user))
	b = appendField(b, "assistant", quoted(t.assistant))
	if t.status != "" {
		b = appendField(b, "status", quoted(t.status))
	}
	if len(t.calls) > 0 {
		b = appendField(b, "tool_calls", t.toolCalls())
	}
	for _, f := range t.members {
		b = appendField(b, f.name, f.value)
	}
	return closeObject(t.appendMeta(b, t.meta))
}

func (t *turn) toolCalls() jsontext.Value {
	b := []byte{'['}
	for i := range t.calls {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, t.calls[i].object()...)
	}
	return append(b, ']')
}

func (c *turnCall) object() jsontext.Value {
	var list []field
	if c.id != "" {
		list = append(list, field{name: "id", value: quoted(c.id)})
	}
	if c.name != "" {
		list = append(list, field{name: "name", value: quoted(c.name)})
	}
	if c.arguments != nil {
		list = append(list, field{name: "arguments", value: c.arguments})
	}
	if c.result != nil {
		list = append(list, field{name: "result", value: c.result})
	}
	list = append(list, c.more...)
	slices.SortStableFunc(list, func(a, b field) int {
		return slices.Index(c.order, a.name) - slices.Index(c.order, b.name)
	})
	b := []byte(nil)
	for _, f := range list {
		b = appendField(b, f.name, f.value)
	}
	return orEmpty(b)
}

// orEmpty closes an object, which may have no members.
func orEmpty(b []byte) jsontext.Value {
	if b == nil {
		return jsontext.Value("{}")
	}
	return closeObject(b)
}

// hashID is the id of a turn whose first message has this number in the conversation.
func (t *turn) hashID(session string, number int) string {
	return ContentID("msg-", session, number, t.content())
}

// ContentID is the id of a turn that came without one: made of its session, its number in what it
// came in, and its content, so that the same input always gives the same.
func ContentID(prefix, session string, number int, content []byte) string {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(session)))
	h.Write(n[:])
	h.Write([]byte(session))
	binary.BigEndian.PutUint64(n[:], uint64(number))
	h.Write(n[:])
	h.Write(content)
	return prefix + hex.EncodeToString(h.Sum(nil)[:16])
}

// idOf returns the id of a message as that of a turn, "" when it cannot be one.
func idOf(m *message) string {
	if m.id == "" || transcript.CheckTurnID(m.id) != nil {
		return ""
	}
	return m.id
}

func number(n int) jsontext.Value { return strconv.AppendInt(nil, int64(n), 10) }
