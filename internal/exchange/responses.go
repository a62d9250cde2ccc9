package exchange

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// responses is a list of items of OpenAI's Responses and Conversations: {"type":"message",…},
// {"type":"function_call",…}, {"type":"function_call_output",…}, {"type":"reasoning",…}; alone, as
// the input or output of a response, or as the items of a conversation.
var responses = format{
	name: "responses", what: "OpenAI Responses",
	isConversation: func(o *object) bool { return !isItem(o) && hasItems(o) },
	isMessage:      isItem,
	conversation:   responsesConversation,
	message:        responsesMessage,
	head: func(b []byte, a *about) []byte {
		return append(appendField(b, "id", quoted(a.session)), `,"items":[`...)
	},
	element: appendResponses,
	tail:    func(b []byte, _ *about) []byte { return append(b, ']') },
}

// itemLists are the members that are lists of items.
var itemLists = []string{"input", "output", "items", "data"}

func hasItems(o *object) bool {
	for _, name := range itemLists {
		if v := o.peek(name); v.Kind() == '[' && (firstHas(v, "type") || firstHas(v, "role") || hasNotes(o)) {
			return true
		}
	}
	for _, name := range wrappers {
		if in, _, err := o.wrapped(name); err == nil && in != nil && (in.has("input") || in.peek("output").Kind() == '[') {
			return true
		}
	}
	return o.peek("input").Kind() == '"' && (o.peek("output").Kind() == '[' || o.has("model") && !o.has("output"))
}

func isItem(o *object) bool {
	kind := unquoteOr(o.peek("type"))
	return kind == "message" && o.peek("role").Kind() == '"' || isCall(kind) || isResult(kind) || otherItems[kind]
}

// Calls and results have names that end so.
func isCall(kind string) bool   { return strings.HasSuffix(kind, "_call") }
func isResult(kind string) bool { return strings.HasSuffix(kind, "_call_output") }

// callItems are items that call a tool, with the member that says what they give it.
var callItems = map[string]string{
	"function_call": "arguments", "custom_tool_call": "input", "mcp_call": "arguments", "local_shell_call": "action", "shell_call": "action",
	"apply_patch_call": "operation", "computer_call": "action", "web_search_call": "action", "file_search_call": "queries", "code_interpreter_call": "code", "image_generation_call": "prompt",
}

// resultItems are items that have their result in themselves, with the member that says it.
var resultItems = map[string]string{"mcp_call": "output", "file_search_call": "results", "code_interpreter_call": "outputs"}

// otherItems are items that have no place.
var otherItems = map[string]bool{
	"reasoning": true, "compaction": true, "mcp_list_tools": true, "mcp_approval_request": true, "mcp_approval_response": true, "item_reference": true,
}

func responsesConversation(o *object) (c *conversation, err error) {
	c = &conversation{id: o.label("session_id", "conversation_id")}
	c.takeNotes(o)
	err = o.unwrap(func(in *object) error {
		for _, text := range []struct{ name, role string }{{"instructions", system}, {"input", user}} {
			if in.peek(text.name).Kind() == '"' {
				c.add(message{role: text.role, texts: []string{unquote(in.take(text.name))}})
			}
		}
		for _, name := range append([]string{"instructions"}, itemLists...) {
			if err := c.read(in, name, responsesMessage); err != nil {
				return err
			}
		}
		return c.describe(in)
	})
	if err != nil {
		return nil, err
	}
	if c.id == "" {
		if in, _ := objectOf(o.peek("conversation"), ""); in != nil {
			c.id = in.label("id")
		}
	}
	if c.id == "" {
		c.id = o.label("id")
	}
	c.extra = o.rest()
	return c, nil
}

// describe takes what a response says of its answer.
func (c *conversation) describe(o *object) error {
	at, timed, err := o.time("created_at")
	if err != nil {
		return err
	}
	if timed && !c.timed {
		c.time, c.timed = at, true
	}
	o.peek("model") // of a request it has no place, and yet may be misspelt
	var last *message
	for _, unit := range c.units {
		for i := range unit {
			if unit[i].role == assistant {
				last = &unit[i]
			}
		}
	}
	if last == nil {
		if status := unquoteOr(fieldOf(o, "status")); status == "in_progress" || statuses[status] == "" || !c.asks() {
			return nil
		}
		c.add(message{role: assistant}) // it ended before it said anything
		last = &c.units[len(c.units)-1][0]
	}
	if model := o.label("model"); model != "" {
		last.model = model
	}
	if o.peek("status") != nil {
		last.takeStatus(o)
	}
	why, err := o.object("incomplete_details")
	if err != nil {
		return err
	}
	if why != nil {
		last.finish = why.label("reason")
		o.put("incomplete_details", why.rest())
	}
	last.takeUsage(o, "usage")
	return nil
}

func responsesMessage(o *object) ([]message, error) {
	kind, err := o.text("type")
	if err != nil {
		return nil, err
	}
	if kind == "message" || kind == "" {
		msgs, err := chatMessage(o)
		return msgs, err
	}
	m := message{role: assistant}
	if m.time, m.timed, err = o.time("created_at"); err != nil {
		return nil, err
	}
	switch {
	case isCall(kind):
		own := o.label("id")
		c := call{id: o.label("call_id"), name: o.label("name"), arguments: o.any(orElse(callItems[kind], "arguments"))}
		if c.id == "" {
			c.id = own
		} else {
			m.id = own
		}
		if c.name == "" {
			c.name = kind
		}
		m.takeStatus(o)
		if kind == "image_generation_call" && o.peek("result").Kind() == '"' {
			uri, media := o.data("result", "image/"+orElse(unquoteOr(o.peek("output_format")), "png"))
			m.attachments = []jsontext.Value{closeObject(appendField(appendField(nil, "uri", quoted(uri)), "media_type", quoted(media)))}
		}
		out := o.take(resultItems[kind])
		c.more = o.left()
		m.calls = []call{c}
		if out != nil {
			return []message{m, {role: tool, result: &result{id: c.id, value: out}}}, nil
		}
	case isResult(kind):
		m.role = tool
		if !o.has("output") {
			return nil, refuse(o.path("output"), "is missing: the result of the tool")
		}
		m.id = o.label("id")
		m.result = &result{id: o.label("call_id"), value: compact(o.any("output"))}
		m.takeStatus(o)
		m.keepRest(o)
	case otherItems[kind]:
		m.id = o.label("id")
		o.put("type", quoted(kind))
		m.others = []jsontext.Value{o.rest()}
	default:
		return nil, refuse(o.path("type"), "is no item that is known")
	}
	return []message{m}, nil
}

func appendResponses(b []byte, m *message) ([]byte, int) {
	n := 0
	item := func(e []byte) {
		if n > 0 {
			b = append(b, ',')
		}
		b = append(append(b, e...), '}')
		n++
	}
	if m.role == tool {
		e := appendField(nil, "type", quoted("function_call_output"))
		e = appendField(e, "call_id", quoted(m.result.id))
		item(appendField(e, "output", quoted(textOf(m.result.value))))
		return b, n
	}
	if len(m.texts)+len(m.attachments) > 0 || len(m.calls) == 0 {
		kind := "input_text"
		if m.role == assistant {
			kind = "output_text"
		}
		e := appendField(nil, "type", quoted("message"))
		e = appendField(e, "role", quoted(orElse(m.named, m.role)))
		item(appendField(e, "content", m.parts(kind, func(uri string) jsontext.Value {
			return closeObject(appendField(appendField(nil, "type", quoted("input_image")), "image_url", quoted(uri)))
		})))
	}
	for _, c := range m.calls {
		e := appendField(nil, "type", quoted("function_call"))
		e = appendField(e, "call_id", quoted(c.id))
		e = appendField(e, "name", quoted(c.name))
		item(appendField(e, "arguments", quoted(argumentText(c))))
	}
	return b, n
}
