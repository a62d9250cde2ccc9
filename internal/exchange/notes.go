package exchange

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// notesName is the member of an exported conversation in which afterword keeps what the format
// has no place for: for each turn, of how many of the elements it was made, and its members
// without the texts; and turns whole that are no elements, as those of another branch.
const notesName = "afterword"

// Kinds of arguments and results, as notes have them: formats know texts only.
const (
	asText = "text"
	asJSON = "json"
)

// note is the turn without its texts.
func (t *turn) note() jsontext.Value {
	b := appendField(nil, "id", quoted(t.id))
	b = appendField(b, "timestamp", quoted(t.at.String()))
	if t.status != "" {
		b = appendField(b, "status", quoted(t.status))
	}
	if len(t.calls) > 0 {
		var calls []jsontext.Value
		for _, c := range t.calls {
			c.arguments, c.result = kindOf(c.arguments), kindOf(c.result)
			calls = append(calls, c.object())
		}
		b = appendField(b, "tool_calls", array(calls))
	}
	for _, f := range t.members {
		b = appendField(b, f.name, f.value)
	}
	meta := slices.Clone(t.meta)
	for i := range meta {
		if f := &meta[i]; f.name == system && len(t.systems()) > 0 { // its texts are messages
			f.value = jsontext.Value("null")
			if t.metaValue(system).Kind() == '[' {
				f.value = jsontext.Value("[]")
			}
		}
	}
	return closeObject(t.appendMeta(b, meta))
}

// isWhole reports whether what is noted of a turn is all of it.
func isWhole(note jsontext.Value) bool {
	o, err := objectOf(note, "")
	return err == nil && o.has("user")
}

func kindOf(v jsontext.Value) jsontext.Value {
	switch {
	case v == nil:
		return nil
	case v.Kind() == '"':
		return quoted(asText)
	}
	return quoted(asJSON)
}

// restore makes the turns of a conversation that afterword exported. ok is false when its notes
// do not fit its messages: another program wrote it since.
func (c *conversation) restore() (turns []*turn, ok bool) {
	if c.notes.Kind() != '[' {
		return nil, false
	}
	list, _ := elements(c.notes, "")
	at := 0
	for _, v := range list {
		o, err := objectOf(v, "")
		if err != nil {
			return nil, false
		}
		n := integer(o.take("messages"))
		if n > len(c.units)-at {
			return nil, false
		}
		var msgs []message
		for _, unit := range c.units[at : at+n] {
			msgs = append(msgs, unit...)
		}
		at += n
		note := o.take("turn")
		if n == 0 && isWhole(note) {
			t, err := openTurn(note)
			if err != nil {
				return nil, false
			}
			turns = append(turns, t)
			continue
		}
		t := fold(msgs)
		if !t.recall(note) {
			return nil, false
		}
		turns = append(turns, t)
	}
	return turns, at == len(c.units)
}

// recall gives a turn that was folded from exported messages the members that it had.
func (t *turn) recall(note jsontext.Value) bool {
	o, err := objectOf(note, "")
	if err != nil {
		return false
	}
	systems := t.systems()
	calls := t.calls
	id, at := o.label("id"), o.take("timestamp")
	if t.at, err = transcript.ParseInstant(textOf(at)); err != nil || transcript.CheckTurnID(id) != nil {
		return false
	}
	t.id, t.status = id, o.label("status")
	t.members, t.meta, t.calls, t.links = nil, nil, nil, nil
	for _, f := range o.list {
		switch {
		case f.used:
		case f.name == "meta":
			if f.value.Kind() != '{' || t.openMeta(f.value) != nil {
				return false
			}
		case f.name == "tool_calls":
			noted, err := elements(f.value, "")
			if err != nil || len(noted) != len(calls) {
				return false
			}
			for k, v := range noted {
				c, err := callOf(v)
				if err != nil {
					return false
				}
				c.arguments = recallKind(c.arguments, calls[k].arguments)
				c.result = recallKind(c.result, calls[k].result)
				t.calls = append(t.calls, c)
			}
			if len(noted) == 0 {
				t.set(f.name, f.value)
			}
		default:
			t.set(f.name, f.value)
		}
	}
	if len(t.calls) != len(calls) {
		return false
	}
	for i := range t.meta {
		if f := &t.meta[i]; len(systems) > 0 && f.name == system && (string(f.value) == "null" || string(f.value) == "[]") {
			if string(f.value) == "null" && len(systems) == 1 {
				f.value = quoted(systems[0])
			} else {
				f.value = textArray(systems)
			}
			systems = nil
		}
	}
	if len(systems) > 0 {
		t.setMeta(system, textArray(systems))
	}
	return true
}

// recallKind returns the text that a format kept as what it was.
func recallKind(kind, v jsontext.Value) jsontext.Value {
	switch {
	case kind == nil && (v == nil || textOf(v) == ""):
		return nil
	case v == nil:
		v = quoted("")
	}
	text := textOf(v)
	if textOf(kind) == asJSON && checkValue([]byte(text)) == nil {
		return jsontext.Value(text)
	}
	return quoted(text)
}

// callOf reads a tool call of a turn.
func callOf(v jsontext.Value) (c turnCall, err error) {
	if v.Kind() != '{' {
		return c, wrongKind("", "an object", v)
	}
	err = members(v, func(name string, value jsontext.Value) error {
		c.order = append(c.order, name)
		switch {
		case name == "id" && value.Kind() == '"' && len(value) > 2:
			c.id = unquote(value)
		case name == "name" && value.Kind() == '"' && len(value) > 2:
			c.name = unquote(value)
		case name == "arguments":
			c.arguments = value
		case name == "result":
			c.result = value
		default:
			c.more = append(c.more, field{name: name, value: value})
		}
		return nil
	})
	return c, err
}
