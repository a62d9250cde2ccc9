package exchange

import (
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// open takes a stored turn apart.
func open(s *transcript.Snapshot) (*turn, error) { return openTurn(s.Payload()) }

// openTurn takes a turn apart.
func openTurn(value jsontext.Value) (*turn, error) {
	o, err := objectOf(value, "")
	if err != nil {
		return nil, err
	}
	t := &turn{id: unquoteOr(o.peek("id")), user: unquoteOr(o.peek("user")), assistant: unquoteOr(o.peek("assistant")), status: unquoteOr(o.peek("status"))}
	if t.at, err = transcript.ParseInstant(unquoteOr(o.peek("timestamp"))); err != nil {
		return nil, err
	}
	if t.status == string(transcript.Complete) {
		t.status = ""
	}
	for _, f := range o.list {
		switch f.name {
		case "session_id", "id", "timestamp", "user", "assistant", "status":
		case "meta":
			if err = t.openMeta(f.value); err != nil {
				return nil, err
			}
		case "tool_calls":
			list, err := elements(f.value, "")
			if err != nil {
				return nil, err
			}
			for _, v := range list {
				c, err := callOf(v)
				if err != nil {
					return nil, err
				}
				t.calls = append(t.calls, c)
			}
			if len(list) == 0 {
				t.set(f.name, f.value)
			}
		default:
			t.set(f.name, f.value)
		}
	}
	return t, nil
}

// messages tells a turn as messages, whose ids are made from that of the turn: the one that opens it has the same.
func (t *turn) messages() []message {
	places := t.layout()
	if places == nil {
		places = t.plan()
	}
	systems, attachments := t.systems(), t.attachments()
	texts := map[string]*cutter{user: {text: t.user}, assistant: {text: t.assistant}}
	ids := t.callIDs()
	var list []message
	for i, p := range places {
		m := message{role: p.role, named: p.named, id: t.id + "." + strconv.Itoa(i), time: t.at + transcript.Instant(i), timed: true}
		for _, n := range p.texts {
			var s string
			switch p.role {
			case system:
				s, systems = systems[0], systems[1:]
			default:
				s, _ = texts[p.role].next(n)
			}
			m.texts = append(m.texts, s)
		}
		for _, k := range p.calls {
			c := t.calls[k]
			c.id = ids[k]
			if p.role == tool {
				m.result = &result{id: c.id, value: c.result}
			} else {
				m.calls = append(m.calls, c.call)
			}
		}
		m.attachments, attachments = attachments[:p.attachments], attachments[p.attachments:]
		if p.role == assistant {
			m.model = t.text("model")
		}
		list = append(list, m)
	}
	if len(list) > 0 {
		list[opening(list)].id = t.id
	}
	return list
}

// callIDs are ids by which results find their calls: each there once.
func (t *turn) callIDs() []string {
	ids, seen := make([]string, len(t.calls)), make(map[string]bool)
	for k := range t.calls {
		id := t.calls[k].id
		for n := 0; id == "" || seen[id]; n++ {
			id = fmt.Sprintf("call_%d_%d", k, n)
		}
		ids[k], seen[id] = id, true
	}
	return ids
}
