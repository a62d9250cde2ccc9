package exchange

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// shareGPT is {"conversations":[{"from":"human","value":…},…]}. A call is an entry of function_call
// whose value is the JSON of its name and arguments; its result is an entry of observation.
var shareGPT = format{
	name: "sharegpt", what: "ShareGPT",
	isConversation: func(o *object) bool {
		for _, name := range shareGPTLists {
			if list := o.peek(name); firstHas(list, "from") || name != "items" && (firstHas(list, "role") || list.Kind() == '[' && firstOf(list) == nil) {
				return true
			}
		}
		return false
	},
	isMessage:    func(o *object) bool { return o.peek("from").Kind() == '"' && o.has("value") },
	conversation: shareGPTConversation,
	message:      shareGPTMessage,
	head: func(b []byte, a *about) []byte {
		return append(appendField(b, "id", quoted(a.session)), `,"conversations":[`...)
	},
	element: appendShareGPT,
	tail:    func(b []byte, _ *about) []byte { return append(b, ']') },
}

var shareGPTRoles = map[string]string{
	"human": user, "user": user, "gpt": assistant, "assistant": assistant, "chatgpt": assistant, "bing": assistant, "bard": assistant, "model": assistant,
	"system": system, "tool": tool, "function": tool, "observation": tool, "function_response": tool, "tool_response": tool,
	"function_call": assistant, "tool_call": assistant, "function-call": assistant,
}

// shareGPTLists are the members that have the messages.
var shareGPTLists = []string{"conversations", "conversation", "items"}

func shareGPTConversation(o *object) (c *conversation, err error) {
	c = &conversation{id: o.label(namesOf...)}
	c.takeNotes(o)
	if s := o.peek("system"); s.Kind() == '"' && len(s) > 2 {
		o.take("system")
		c.add(message{role: system, texts: []string{unquote(s)}})
	}
	for _, name := range shareGPTLists {
		if err := c.read(o, name, shareGPTMessage); err != nil {
			return nil, err
		}
	}
	if err := c.takeTime(o, "created_at", "create_time", "timestamp"); err != nil {
		return nil, err
	}
	c.takeModel(o)
	c.extra = o.rest()
	return c, nil
}

func shareGPTMessage(o *object) ([]message, error) {
	if o.has("role") && !o.has("from") {
		return chatMessage(o)
	}
	m := message{}
	from := unquoteOr(o.peek("from"))
	if err := m.setRole(o, "from", shareGPTRoles); err != nil {
		return nil, err
	}
	m.named = ""
	v := o.take("value")
	if v == nil {
		return nil, refuse(o.path("value"), "is missing: what was said")
	}
	var err error
	if m.time, m.timed, err = o.time("timestamp", "created_at"); err != nil {
		return nil, err
	}
	m.id = o.label("id")
	switch {
	case m.role == tool:
		m.result = &result{id: o.label("tool_call_id"), value: compact(v)}
	case v.Kind() != '"':
		return nil, wrongKind(o.path("value"), "a string", v)
	case slices.Contains([]string{"function_call", "tool_call", "function-call"}, from):
		m.calls = shareGPTCalls(unquote(v))
		if c := &m.calls[0]; c.id == "" {
			c.id = o.label("tool_call_id")
		}
	default:
		m.texts = []string{unquote(v)}
	}
	m.keepRest(o)
	return []message{m}, nil
}

func unquoteOr(v jsontext.Value) string {
	if v.Kind() != '"' {
		return ""
	}
	return unquote(v)
}

// verbatim is the member of a tool call in which the text is kept that says it, where that is
// not as it would be written.
const verbatim = "verbatim"

// shareGPTCalls reads what a function_call says.
func shareGPTCalls(text string) []call {
	c, ok := shareGPTCall(text)
	if !ok {
		return []call{{more: []field{{name: verbatim, value: quoted(text)}}}}
	}
	if string(shareGPTValue(c)) != text {
		c.more = append(c.more, field{name: verbatim, value: quoted(text)})
	}
	return []call{c}
}

func shareGPTCall(text string) (c call, ok bool) {
	if checkValue([]byte(text)) != nil {
		return c, false
	}
	o, err := objectOf(jsontext.Value(text), "")
	if err != nil || o.peek("name").Kind() != '"' {
		return c, false
	}
	c = call{id: o.label("id"), name: o.label("name"), arguments: o.any("arguments")}
	c.more = o.left()
	return c, true
}

// shareGPTValue is what a function_call says.
func shareGPTValue(c call) jsontext.Value {
	b := appendField(nil, "name", quoted(c.name))
	if c.arguments != nil {
		b = appendField(b, "arguments", compact(c.arguments))
	}
	if c.id != "" {
		b = appendField(b, "id", quoted(c.id))
	}
	return closeObject(b)
}

func appendShareGPT(b []byte, m *message) ([]byte, int) {
	n := 0
	entry := func(from, value string, more ...field) {
		if n > 0 {
			b = append(b, ',')
		}
		e := appendField(appendField(nil, "from", quoted(from)), "value", quoted(value))
		for _, f := range more {
			e = appendField(e, f.name, f.value)
		}
		b = append(append(b, e...), '}')
		n++
	}
	switch m.role {
	case tool:
		entry("observation", textOf(m.result.value), field{name: "tool_call_id", value: quoted(m.result.id)})
		return b, n
	case user:
		entry("human", joined(m.texts))
	case system:
		for _, s := range m.texts {
			entry("system", s)
		}
	case assistant:
		if len(m.texts) > 0 || len(m.calls) == 0 {
			entry("gpt", joined(m.texts))
		}
	}
	for _, c := range m.calls {
		text := string(shareGPTValue(c))
		var more []field
		for _, f := range c.more {
			if f.name == verbatim && f.value.Kind() == '"' && says(unquote(f.value), c) {
				text, more = unquote(f.value), []field{{name: "tool_call_id", value: quoted(c.id)}}
			}
		}
		entry("function_call", text, more...)
	}
	return b, n
}

// says reports whether a text says a call, perhaps without its id.
func says(text string, c call) bool {
	read, ok := shareGPTCall(text)
	if !ok {
		return c.name == "" && c.arguments == nil
	}
	return read.name == c.name && textOf(read.arguments) == textOf(c.arguments) && (read.id == "" || read.id == c.id)
}
