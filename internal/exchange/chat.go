package exchange

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// chat is the format of chat completions: {"messages":[{"role":…,"content":…},…]}, or the array
// alone, or the messages one a line. A request with its response is a conversation, too. The
// messages of Anthropic's API, whose parts are calls and results, are read as well.
var chat = format{
	name: "messages", what: "chat completions",
	isConversation: func(o *object) bool {
		if o.peek("messages").Kind() == '[' || o.peek("choices").Kind() == '[' {
			return true
		}
		for _, name := range wrappers {
			if in, _, err := o.wrapped(name); err == nil && in != nil && (in.peek("messages").Kind() == '[' || in.peek("choices").Kind() == '[') {
				return true
			}
		}
		return false
	},
	isMessage:    func(o *object) bool { return o.peek("role").Kind() == '"' },
	conversation: chatConversation,
	message:      chatMessage,
	head: func(b []byte, a *about) []byte {
		return append(appendField(b, "id", quoted(a.session)), `,"messages":[`...)
	},
	element: appendChat,
	tail:    func(b []byte, _ *about) []byte { return append(b, ']') },
}

func chatConversation(o *object) (*conversation, error) {
	c := &conversation{id: o.label(namesOf[:2]...)}
	c.takeNotes(o)
	err := o.unwrap(func(in *object) error {
		in.peek("model") // of a request it has no place, and yet may be misspelt
		if v := in.take("system"); v != nil {
			m := message{role: system}
			if _, err := m.content(v, in.path("system")); err != nil {
				return err
			}
			c.add(m)
		}
		if err := c.read(in, "messages", chatMessage); err != nil {
			return err
		}
		if fieldOf(in, "error").Kind() == '{' && fieldOf(in, "choices") == nil && c.asks() { // there is no answer, and why
			c.add(message{role: assistant, status: string(transcript.Failed)})
		}
		if err := c.choices(in); err != nil || c.timed {
			return err
		}
		return c.takeTime(in, "created_at", "create_time", "created", "timestamp")
	})
	if err != nil {
		return nil, err
	}
	if c.id == "" {
		c.id = o.label(namesOf[2:]...)
	}
	c.takeModel(o)
	c.extra = o.rest()
	return c, nil
}

// choices takes the answers of a response. The one with the lowest index is the one that was given, others have no place.
func (c *conversation) choices(o *object) error {
	if o.peek("choices") == nil {
		return nil
	}
	var list []*object
	err := o.objects("choices", func(choice *object) error {
		list = append(list, choice)
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(list, func(a, b *object) int { return integer(a.peek("index")) - integer(b.peek("index")) })
	var given []message
	take := func(choice *object) error {
		if given != nil {
			given[0].others = append(given[0].others, closeObject(appendField(nil, "choice", choice.rest())))
			return nil
		}
		inner, err := choice.object("message")
		if err != nil {
			return err
		}
		if inner == nil {
			return refuse(choice.path("message"), "is missing")
		}
		if given, err = chatMessage(inner); err != nil {
			return err
		}
		m := &given[0]
		m.model, m.finish = o.label("model"), choice.label("finish_reason")
		m.takeUsage(o, "usage")
		choice.take("index")
		m.keep(choice)
		return nil
	}
	for _, choice := range list {
		if err := take(choice); err != nil {
			return err
		}
	}
	c.add(given...)
	return nil
}

// chatRoles are the roles of messages.
var chatRoles = map[string]string{
	"system": system, "developer": system, "user": user, "human": user, "assistant": assistant, "ai": assistant, "model": assistant,
	"tool": tool, "function": tool, "ipython": tool,
}

// setRole takes the role of a message.
func (m *message) setRole(o *object, name string, roles map[string]string) error {
	v := o.take(name)
	if v.Kind() != '"' {
		return refuse(o.path(name), "must be a string that names a role")
	}
	given := unquote(v)
	role, ok := roles[given]
	if !ok {
		return refuse(o.path(name), "is no role that is known: use one of %s", sortedNames(roles))
	}
	if m.role = role; given != role && named[given] {
		m.named = given
	}
	return nil
}

// named are roles that say more than the one for which they stand.
var named = map[string]bool{"developer": true, "function": true, "ipython": true}

func chatMessage(o *object) ([]message, error) {
	m := message{}
	var err error
	if err := m.setRole(o, "role", chatRoles); err != nil {
		return nil, err
	}
	o.take("type") // of an item that is a message
	if m.time, m.timed, err = o.time("timestamp", "created_at", "create_time", "created", "time"); err != nil {
		return nil, err
	}
	m.id = o.label("id", "uuid")
	if m.role == tool {
		if o.peek("content").Kind() == 0 && !o.has("content") {
			return nil, refuse(o.path("content"), "is missing: the result of the tool")
		}
		m.result = &result{id: o.label("tool_call_id", "call_id"), name: unquoteOr(o.peek("name")), value: resultOf(o.any("content"))}
		m.keepRest(o)
		return []message{m}, nil
	}
	content := o.take("content")
	if content == nil && m.role != assistant {
		return nil, refuse(o.path("content"), "is missing: what was said")
	}
	results, err := m.content(content, o.path("content"))
	if err != nil {
		return nil, err
	}
	m.model, m.finish = o.label("model"), o.label("finish_reason", "stop_reason")
	m.takeStatus(o)
	m.takeUsage(o, "usage")
	if audio, _ := objectOf(o.peek("audio"), ""); audio != nil && content == nil && audio.peek("transcript").Kind() == '"' { // the answer was spoken
		o.take("audio")
		m.texts = append(m.texts, audio.label("transcript"))
		o.put("audio", audio.rest())
	}
	if refusal := o.peek("refusal"); refusal.Kind() == '"' && content == nil {
		o.take("refusal")
		m.texts = append(m.texts, unquote(refusal))
	}
	if err := m.takeCalls(o); err != nil {
		return nil, err
	}
	if m.role == assistant && content == nil && len(m.calls) == 0 && len(m.texts) == 0 && !o.has("content") && o.rest() == nil {
		return nil, refuse(o.path("content"), "is missing: what was said, or tool_calls")
	}
	m.keepRest(o)
	if len(results) > 0 && len(m.texts)+len(m.attachments)+len(m.others) == 0 && m.role == user && m.extra == nil {
		return results, nil // Anthropic has results said by the user
	}
	if m.role == user {
		return append(results, m), nil
	}
	return append([]message{m}, results...), nil
}

// takeCalls takes calls as chat completions have them.
func (m *message) takeCalls(o *object) error {
	if err := o.objects("tool_calls", m.takeCall); err != nil {
		return err
	}
	f, err := o.object("function_call")
	if err != nil || f == nil {
		return err
	}
	m.calls = append(m.calls, call{name: f.label("name"), arguments: f.any("arguments"), more: f.left()})
	return nil
}

func (m *message) takeCall(o *object) error {
	c := call{id: o.label("id")}
	o.take("type")
	f, err := o.object("function")
	if err != nil {
		return err
	}
	if f == nil {
		if f, err = o.object("custom"); err != nil {
			return err
		}
	}
	if f == nil {
		f = o
	}
	c.name = f.label("name")
	for _, name := range []string{"arguments", "input", "args"} {
		if c.arguments == nil {
			c.arguments = f.any(name)
		}
	}
	if f != o {
		c.more = f.left()
	}
	c.more = append(c.more, o.left()...)
	if c.name == "" && c.arguments == nil {
		return refuse(o.at, "must have the name and the arguments of a function")
	}
	m.calls = append(m.calls, c)
	return nil
}

// callMembers are the members of a turn's tool call; what a format calls so and means otherwise is not kept under it.
var callMembers = map[string]bool{"id": true, "name": true, "arguments": true, "result": true, "status": true}

// left are the members that were not taken, which a tool call keeps.
func (o *object) left() (list []field) {
	for _, f := range o.list {
		if f.used {
			continue
		}
		if !f.known {
			o.spelt.check(f.name, o.absent)
		}
		if empty(f.value) {
			continue
		}
		if callMembers[f.name] {
			f.name = "its_" + f.name
		}
		list = append(list, f)
	}
	return list
}

func appendChat(b []byte, m *message) ([]byte, int) {
	e := appendField(nil, "role", quoted(orElse(m.named, m.role)))
	if m.role == tool {
		e = appendField(e, "tool_call_id", quoted(m.result.id))
		e = appendField(e, "content", quoted(textOf(m.result.value)))
		return append(append(b, e...), '}'), 1
	}
	switch {
	case len(m.attachments) > 0 || len(m.texts) > 1:
		e = appendField(e, "content", m.parts("text", chatImage))
	case len(m.texts) == 1:
		e = appendField(e, "content", quoted(m.texts[0]))
	case m.role == assistant:
		e = appendField(e, "content", jsontext.Value("null"))
	default:
		e = appendField(e, "content", jsontext.Value("[]"))
	}
	if len(m.calls) > 0 {
		e = appendField(e, "tool_calls", chatCalls(m.calls))
	}
	return append(append(b, e...), '}'), 1
}

// chatCalls are calls as chat completions have them: arguments are a text.
func chatCalls(calls []call) jsontext.Value {
	var list []jsontext.Value
	for _, c := range calls {
		f := appendField(nil, "name", quoted(c.name))
		f = appendField(f, "arguments", quoted(argumentText(c)))
		e := appendField(nil, "id", quoted(c.id))
		e = appendField(e, "type", quoted("function"))
		list = append(list, closeObject(appendField(e, "function", closeObject(f))))
	}
	return array(list)
}

func argumentText(c call) string {
	if c.arguments == nil {
		return ""
	}
	return textOf(c.arguments)
}

// parts are the texts and attachments of a message as a list.
func (m *message) parts(kind string, image func(uri string) jsontext.Value) jsontext.Value {
	var list []jsontext.Value
	for _, s := range m.texts {
		list = append(list, closeObject(appendField(appendField(nil, "type", quoted(kind)), "text", quoted(s))))
	}
	for _, a := range m.attachments {
		list = append(list, image(uriOf(a)))
	}
	return array(list)
}

func chatImage(uri string) jsontext.Value {
	return closeObject(appendField(appendField(nil, "type", quoted("image_url")), "image_url", closeObject(appendField(nil, "url", quoted(uri)))))
}

// uriOf is where an attachment of a turn is.
func uriOf(v jsontext.Value) string {
	o, err := objectOf(v, "")
	if err != nil {
		return ""
	}
	return o.label("uri")
}
