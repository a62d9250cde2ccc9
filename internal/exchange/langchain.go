package exchange

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// langChain is a list of messages as LangChain's message histories keep them,
// {"type":"human","data":{"content":…}}, as its own serializer does, {"lc":1,"type":"constructor",
// "id":[…,"HumanMessage"],"kwargs":{…}}, or as {"type":"human","content":…}.
var langChain = format{
	name: "langchain", what: "LangChain",
	isConversation: func(o *object) bool {
		first := firstOf(o.peek("messages"))
		return first != nil && isLangChain(first)
	},
	isMessage:    isLangChain,
	conversation: langChainConversation,
	message:      langChainMessage,
	head: func(b []byte, a *about) []byte {
		return append(appendField(b, "session_id", quoted(a.session)), `,"messages":[`...)
	},
	element: appendLangChain,
	tail:    func(b []byte, _ *about) []byte { return append(b, ']') },
}

var langChainRoles = map[string]string{
	"human": user, "ai": assistant, "system": system, "tool": tool, "function": tool, "developer": system,
	"HumanMessage": user, "AIMessage": assistant, "SystemMessage": system, "ToolMessage": tool, "FunctionMessage": tool,
	"chat": chatty, "ChatMessage": chatty, "ChatMessageChunk": chatty,
	"HumanMessageChunk": user, "AIMessageChunk": assistant, "SystemMessageChunk": system, "ToolMessageChunk": tool, "FunctionMessageChunk": tool,
}

// chatty stands for the role that a message of the class ChatMessage names itself.
const chatty = "chat"

func isLangChain(o *object) bool {
	if o.peek("lc") != nil && o.peek("kwargs").Kind() == '{' {
		return true
	}
	_, known := langChainRoles[unquoteOr(o.peek("type"))]
	return known && !o.has("role") && (o.peek("data").Kind() == '{' || o.has("content"))
}

func langChainConversation(o *object) (c *conversation, err error) {
	c = &conversation{id: o.label(namesOf...)}
	c.takeNotes(o)
	if err := c.read(o, "messages", langChainMessage); err != nil {
		return nil, err
	}
	if err := c.takeTime(o, "created_at", "timestamp"); err != nil {
		return nil, err
	}
	c.extra = o.rest()
	return c, nil
}

func langChainMessage(o *object) ([]message, error) {
	m := message{}
	in, err := m.langChainRole(o)
	if err != nil {
		return nil, err
	}
	in.take("type")
	m.id = in.label("id")
	meta, err := in.object("response_metadata")
	if err != nil {
		return nil, err
	}
	if m.role == tool {
		if !in.has("content") {
			return nil, refuse(in.path("content"), "is missing: the result of the tool")
		}
		m.result = &result{id: in.label("tool_call_id"), name: unquoteOr(in.peek("name")), value: resultOf(in.any("content"))}
	} else {
		if !in.has("content") {
			return nil, refuse(in.path("content"), "is missing: what was said")
		}
		content := in.take("content")
		if m.role == assistant {
			if content, err = withoutCalls(content, in); err != nil {
				return nil, err
			}
		}
		if _, err := m.content(content, in.path("content")); err != nil {
			return nil, err
		}
		if err := m.langChainCalls(in); err != nil {
			return nil, err
		}
	}
	if meta != nil {
		m.model, m.finish = meta.label("model_name", "model"), meta.label("finish_reason", "stop_reason")
		in.put("response_metadata", meta.rest())
	}
	m.takeUsage(in, "usage_metadata")
	if in != o {
		in.put("wrapper", o.rest())
	}
	m.keepRest(in)
	return []message{m}, nil
}

// langChainRole takes the role and returns the object in which everything else is.
func (m *message) langChainRole(o *object) (*object, error) {
	inner := "data"
	if o.peek("lc") != nil {
		inner = "kwargs"
		o.take("lc")
		o.take("type")
		list, err := elements(o.take("id"), o.path("id"))
		if err != nil {
			return nil, err
		}
		name := ""
		if len(list) > 0 {
			name = unquoteOr(list[len(list)-1])
		}
		role, ok := langChainRoles[name]
		if !ok {
			return nil, refuse(o.path("id"), "is no message that is known: it ends with one of %s", sortedNames(langChainRoles))
		}
		m.role = role
	} else if err := m.setRole(o, "type", langChainRoles); err != nil {
		return nil, err
	}
	in, err := o.object(inner)
	if err != nil {
		return nil, err
	}
	if in == nil {
		in = o
	}
	if m.role == chatty {
		return in, m.setRole(in, "role", chatRoles)
	}
	return in, nil
}

// withoutCalls leaves calls out of a content where the message has them beside it, too.
func withoutCalls(v jsontext.Value, in *object) (jsontext.Value, error) {
	calls := in.peek("tool_calls")
	if v.Kind() != '[' || calls == nil || string(compact(calls)) == "[]" {
		return v, nil
	}
	ids := map[string]bool{"": true}
	if list, err := elements(calls, in.path("tool_calls")); err == nil {
		for _, e := range list {
			if o, err := objectOf(e, ""); err == nil {
				ids[unquoteOr(o.peek("id"))] = true
			}
		}
	}
	list, err := elements(v, in.path("content"))
	if err != nil {
		return nil, err
	}
	kept := list[:0]
	for _, e := range list {
		o, err := objectOf(e, "")
		if err == nil && slices.Contains([]string{"tool_use", "tool_call", "function_call"}, unquoteOr(o.peek("type"))) && ids[o.label("call_id", "id")] {
			continue
		}
		kept = append(kept, e)
	}
	return array(kept), nil
}

// langChainCalls takes calls, whose arguments may be there as the text that the model gave, as an object, or both: the text counts.
func (m *message) langChainCalls(o *object) error {
	more, err := o.object("additional_kwargs")
	if err != nil {
		return err
	}
	if more != nil {
		if err := m.takeCalls(more); err != nil {
			return err
		}
		o.put("additional_kwargs", more.rest())
	}
	given := len(m.calls)
	for _, name := range []string{"tool_calls", "invalid_tool_calls"} {
		err := o.objects(name, func(in *object) error {
			c := call{id: in.label("id"), name: in.label("name"), arguments: in.any("args")}
			in.take("type")
			if !m.has(c, given) {
				c.more = in.left()
				m.calls = append(m.calls, c)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// has reports whether a call is among the first ones.
func (m *message) has(c call, first int) bool {
	for _, known := range m.calls[:first] {
		if known.id == c.id && (c.id != "" || known.name == c.name) {
			return true
		}
	}
	return false
}

func appendLangChain(b []byte, m *message) ([]byte, int) {
	kind := map[string]string{user: "human", assistant: "ai", system: "system", tool: "tool"}[m.role]
	var d []byte
	switch {
	case m.role == tool:
		d = appendField(d, "content", quoted(textOf(m.result.value)))
		d = appendField(d, "tool_call_id", quoted(m.result.id))
	case len(m.attachments) > 0 || len(m.texts) > 1:
		d = appendField(d, "content", m.parts("text", chatImage))
	case len(m.texts) == 1:
		d = appendField(d, "content", quoted(m.texts[0]))
	case m.role == assistant && len(m.calls) > 0:
		d = appendField(d, "content", quoted(""))
	default:
		d = appendField(d, "content", jsontext.Value("[]"))
	}
	d = appendField(d, "type", quoted(kind))
	d = appendField(d, "id", quoted(m.id))
	if len(m.calls) > 0 {
		d = appendLangChainCalls(d, m.calls)
	}
	if m.model != "" {
		d = appendField(d, "response_metadata", closeObject(appendField(nil, "model_name", quoted(m.model))))
	}
	e := appendField(nil, "type", quoted(kind))
	e = appendField(e, "data", closeObject(d))
	return append(append(b, e...), '}'), 1
}

// appendLangChainCalls writes calls as objects, and where arguments are a text, as they were, too.
func appendLangChainCalls(d []byte, calls []call) []byte {
	var parsed, invalid []jsontext.Value
	texts := false
	for _, c := range calls {
		args, valid := c.arguments, c.arguments.Kind() == '{'
		if !valid {
			texts = true
			text := argumentText(c)
			if valid = strings.HasPrefix(text, "{") && checkValue([]byte(text)) == nil; valid {
				args = jsontext.Value(text)
			} else {
				args = quoted(text)
			}
		}
		e := appendField(nil, "name", quoted(c.name))
		e = appendField(e, "args", args)
		e = appendField(e, "id", quoted(c.id))
		if valid {
			parsed = append(parsed, closeObject(appendField(e, "type", quoted("tool_call"))))
		} else {
			invalid = append(invalid, closeObject(appendField(e, "type", quoted("invalid_tool_call"))))
		}
	}
	if texts {
		d = appendField(d, "additional_kwargs", closeObject(appendField(nil, "tool_calls", chatCalls(calls))))
	}
	d = appendField(d, "tool_calls", array(parsed))
	return appendField(d, "invalid_tool_calls", array(invalid))
}
