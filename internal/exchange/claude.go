package exchange

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// claude is an export of Claude: {"uuid":…,"name":…,"chat_messages":[{"sender":"human",…},…]}.
// What blocks say counts; the member text repeats it, and counts where there are no blocks.
var claude = format{
	name: "claude", what: "Claude",
	isConversation: func(o *object) bool { return o.peek("chat_messages").Kind() == '[' },
	isMessage: func(o *object) bool {
		return o.peek("sender").Kind() == '"' && (o.has("text") || o.has("content"))
	},
	conversation: claudeConversation,
	message:      claudeMessage,
	head: func(b []byte, a *about) []byte {
		b = appendField(b, "uuid", quoted(a.session))
		b = appendField(b, "name", quoted(a.session))
		b = appendField(b, "created_at", quoted(a.first.String()))
		b = appendField(b, "updated_at", quoted(a.last.String()))
		if a.leaf != "" {
			b = appendField(b, "current_leaf_message_uuid", quoted(a.leaf))
		}
		return append(b, `,"chat_messages":[`...)
	},
	element: appendClaude, branches: true,
	tail: func(b []byte, _ *about) []byte { return append(b, ']') },
}

// noParent begins what a first message names as its parent.
const noParent = "00000000-0000-"

var claudeRoles = map[string]string{"human": user, "user": user, "assistant": assistant, "system": system}

func claudeConversation(o *object) (c *conversation, err error) {
	c = &conversation{id: o.label("uuid", "session_id", "conversation_id", "id")}
	c.takeNotes(o)
	if err := c.read(o, "chat_messages", claudeMessage); err != nil {
		return nil, err
	}
	if err := c.takeTime(o, "created_at"); err != nil {
		return nil, err
	}
	c.takeModel(o)
	var last string
	for _, unit := range c.units {
		c.tree = c.tree || unit[0].parent != ""
		last = unit[0].id
	}
	leaf := o.peek("current_leaf_message_uuid")
	if c.leaf = o.label("current_leaf_message_uuid"); c.leaf == "" {
		c.leaf = last
	}
	c.ids = true
	for _, unit := range c.units {
		c.ids = c.ids && unit[0].id != ""
	}
	c.tree = c.tree && c.ids // without ids nothing can be linked
	if c.tree {
		links := make([]bond, len(c.units))
		for i, unit := range c.units {
			links[i] = bond{unit[0].id, unit[0].parent, under(index(o.path("chat_messages"), i), "parent_message_uuid")}
			if strings.HasPrefix(unit[0].parent, noParent) {
				links[i].parent = ""
			}
		}
		c.checkLinks(links, o.path("current_leaf_message_uuid"), leaf)
	}
	c.extra = o.rest()
	return c, nil
}

func claudeMessage(o *object) ([]message, error) {
	m := message{}
	if err := m.setRole(o, "sender", claudeRoles); err != nil {
		return nil, err
	}
	m.id, m.parent = o.label("uuid"), o.label("parent_message_uuid")
	var err error
	if m.time, m.timed, err = o.time("created_at"); err != nil {
		return nil, err
	}
	if t := o.peek("updated_at"); t != nil && string(t) == string(fieldOf(o, "created_at")) {
		o.take("updated_at")
	}
	text, err := o.text("text")
	if err != nil {
		return nil, err
	}
	var results []message
	if content := o.take("content"); content != nil {
		if results, err = m.content(content, o.path("content")); err != nil {
			return nil, err
		}
	} else if !o.has("text") {
		return nil, refuse(o.path("text"), "is missing: what was said, or content")
	} else {
		m.texts = []string{text}
	}
	if len(m.texts) == 0 && len(m.calls) == 0 && len(results) == 0 && text != "" {
		m.texts = []string{text}
	} else if text != "" && !slices.Contains([]string{joined(m.texts), join(m.texts, "\n"), join(m.texts, "")}, text) {
		o.put("text", quoted(text))
	}
	for _, name := range []string{"attachments", "files"} {
		if err := m.claudeFiles(o, name); err != nil {
			return nil, err
		}
	}
	o.take("index")
	m.model, m.finish = o.label("model"), o.label("stop_reason")
	m.keepRest(o)
	return append([]message{m}, results...), nil
}

func join(texts []string, with string) string {
	s := ""
	for i, t := range texts {
		if i > 0 {
			s += with
		}
		s += t
	}
	return s
}

func fieldOf(o *object, name string) jsontext.Value {
	for _, f := range o.list {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// claudeFiles takes what was sent along. What was read out of it has no place.
func (m *message) claudeFiles(o *object, name string) error {
	return o.objects(name, func(in *object) error {
		m.attach(in, in.label("file_name", "file_uuid", "uuid", "id"), in.label("file_type", "file_kind"), "file_size")
		return nil
	})
}

func appendClaude(b []byte, m *message) ([]byte, int) {
	sender := map[string]string{user: "human", assistant: "assistant", system: "system", tool: "assistant"}[m.role]
	var blocks []jsontext.Value
	for _, s := range m.texts {
		blocks = append(blocks, closeObject(appendField(appendField(nil, "type", quoted("text")), "text", quoted(s))))
	}
	for _, c := range m.calls {
		e := appendField(nil, "type", quoted("tool_use"))
		e = appendField(e, "id", quoted(c.id))
		e = appendField(e, "name", quoted(c.name))
		if c.arguments != nil {
			e = appendField(e, "input", claudeInput(c.arguments))
		}
		blocks = append(blocks, closeObject(e))
	}
	if m.role == tool {
		e := appendField(nil, "type", quoted("tool_result"))
		e = appendField(e, "tool_use_id", quoted(m.result.id))
		text := closeObject(appendField(appendField(nil, "type", quoted("text")), "text", quoted(textOf(m.result.value))))
		blocks = append(blocks, closeObject(appendField(e, "content", array([]jsontext.Value{text}))))
	}
	e := appendField(nil, "uuid", quoted(m.id))
	e = appendField(e, "text", quoted(joined(m.texts)))
	e = appendField(e, "content", array(blocks))
	e = appendField(e, "sender", quoted(sender))
	e = appendField(e, "created_at", quoted(m.time.String()))
	e = appendField(e, "updated_at", quoted(m.time.String()))
	if m.parent != "" {
		e = appendField(e, "parent_message_uuid", quoted(m.parent))
	}
	var files []jsontext.Value
	for _, a := range m.attachments {
		files = append(files, closeObject(appendField(nil, "file_name", quoted(uriOf(a)))))
	}
	e = appendField(e, "attachments", jsontext.Value("[]"))
	e = appendField(e, "files", array(files))
	return append(append(b, e...), '}'), 1
}

// claudeInput is what is given to a tool: an object, if its text says one in the one way in which it is written.
func claudeInput(v jsontext.Value) jsontext.Value {
	if v.Kind() == '"' {
		text := unquote(v)
		if len(text) > 0 && text[0] == '{' && checkValue([]byte(text)) == nil && string(compact(jsontext.Value(text))) == text {
			return jsontext.Value(text)
		}
	}
	return v
}
