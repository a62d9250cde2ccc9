package exchange

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// chatGPT is an export of ChatGPT: {"conversation_id":…,"mapping":{id:{"message":…,"parent":…}},
// "current_node":id}. A call is a message to a recipient; its result is one of the role tool.
var chatGPT = format{
	name: "chatgpt", what: "ChatGPT",
	isConversation: func(o *object) bool { return o.peek("mapping").Kind() == '{' },
	isMessage:      func(o *object) bool { return o.peek("author").Kind() == '{' && o.peek("content").Kind() == '{' },
	conversation:   chatGPTConversation,
	message:        chatGPTMessage,
	head: func(b []byte, a *about) []byte {
		b = appendField(b, "id", quoted(a.session))
		b = appendField(b, "conversation_id", quoted(a.session))
		b = appendField(b, "title", quoted(a.session))
		b = appendField(b, "create_time", seconds(a.first))
		b = appendField(b, "update_time", seconds(a.last))
		b = appendField(b, "current_node", quoted(a.leaf))
		return append(b, `,"mapping":{`...)
	},
	element: appendChatGPT, split: true, branches: true,
	tail: func(b []byte, _ *about) []byte { return append(b, '}') },
}

// seconds is a time as ChatGPT has it.
func seconds(t transcript.Instant) jsontext.Value {
	s := strconv.FormatInt(int64(t)/1e6, 10)
	frac := strconv.FormatInt(int64(t)%1e6+1e6, 10)[1:]
	return jsontext.Value(s + "." + frac)
}

var chatGPTRoles = map[string]string{"system": system, "developer": system, "user": user, "assistant": assistant, "tool": tool, "function": tool}

func chatGPTConversation(o *object) (c *conversation, err error) {
	c = &conversation{tree: true, ids: true, id: o.label("conversation_id", "id", "session_id")}
	if o.label("id") == "" {
		o.take("id")
	}
	c.takeNotes(o)
	at := o.path("mapping")
	mapping, err := o.object("mapping")
	if err != nil {
		return nil, err
	}
	parents := make(map[string]string) // of nodes without a message, too
	var links []bond
	var children []child
	for _, f := range mapping.list {
		n, err := mapping.inner(f.value, under(at, f.name))
		if err != nil {
			return nil, err
		}
		parent, err := n.text("parent")
		if err != nil {
			return nil, err
		}
		links = append(links, bond{f.name, parent, n.path("parent")})
		children = append(children, child{f.name, n.path("children"), n.take("children")})
		n.takeIf("id", f.name)
		inner, err := n.object("message")
		if err != nil {
			return nil, err
		}
		parents[f.name] = parent
		if inner == nil {
			continue
		}
		inner.takeIf("id", f.name)
		inner.put("node", n.rest())
		msgs, err := chatGPTMessage(inner)
		if err != nil {
			return nil, err
		}
		if c.notes == nil && msgs[0].silent() {
			continue
		}
		msgs[0].id, msgs[0].parent = f.name, parent
		c.add(msgs...)
	}
	c.checkLinks(links, o.path("current_node"), o.peek("current_node"))
	c.checkChildren(children, parents)
	c.leaf = o.label("current_node")
	c.skip(parents)
	if err := c.takeTime(o, "create_time"); err != nil {
		return nil, err
	}
	c.extra = o.rest()
	return c, nil
}

// skip links messages to the ones before them over nodes that have none.
func (c *conversation) skip(parents map[string]string) {
	has := make(map[string]bool)
	for _, unit := range c.units {
		has[unit[0].id] = true
	}
	for _, unit := range c.units {
		m := &unit[0]
		for range len(parents) {
			if m.parent == "" || has[m.parent] {
				break
			}
			m.parent = parents[m.parent]
		}
	}
	for range len(parents) {
		if c.leaf == "" || has[c.leaf] {
			break
		}
		c.leaf = parents[c.leaf]
	}
}

func chatGPTMessage(o *object) ([]message, error) {
	m := message{}
	author, err := o.object("author")
	if err != nil {
		return nil, err
	}
	if author == nil {
		return nil, refuse(o.path("author"), "is missing: it has the role")
	}
	if err := m.setRole(author, "role", chatGPTRoles); err != nil {
		return nil, err
	}
	if m.time, m.timed, err = o.time("create_time"); err != nil {
		return nil, err
	}
	content, err := o.object("content")
	if err != nil {
		return nil, err
	}
	if content == nil {
		return nil, refuse(o.path("content"), "is missing: what was said")
	}
	if err := m.chatGPTContent(content); err != nil {
		return nil, err
	}
	meta, err := o.object("metadata")
	if err != nil {
		return nil, err
	}
	callID := ""
	if meta != nil {
		m.model, callID = meta.label("model_slug"), meta.label("tool_call_id")
		if finish, _ := objectOf(meta.peek("finish_details"), ""); finish != nil {
			m.finish = finish.label("type")
		}
		if err := m.chatGPTFiles(meta); err != nil {
			return nil, err
		}
		o.put("metadata", meta.rest())
	}
	name := author.label("name")
	recipient := o.label("recipient")
	switch {
	case m.role == tool:
		m.result = &result{id: callID, name: name, value: m.said()}
		m.texts = nil
		if name != "" {
			o.put("name", quoted(name))
		}
	case m.role == assistant && recipient != "" && recipient != "all":
		c := call{id: callID, name: recipient}
		if len(m.texts) > 0 {
			c.arguments = m.said()
		}
		m.calls, m.texts = []call{c}, nil
	case recipient != "" && recipient != "all":
		o.put("recipient", quoted(recipient))
	}
	m.takeStatus(o)
	o.put("author", author.rest())
	for name, usual := range map[string][]string{"weight": {"1", "1.0"}, "end_turn": {"true"}} {
		if slices.Contains(usual, string(o.peek(name))) {
			o.take(name)
		}
	}
	m.keepRest(o)
	return []message{m}, nil
}

// silent reports whether the message is one at the root that says nothing.
func (m *message) silent() bool {
	return m.role == system && joined(m.texts) == "" && len(m.others)+len(m.attachments) == 0
}

// said are the texts of a message as one value.
func (m *message) said() jsontext.Value {
	switch len(m.texts) {
	case 0:
		return quoted("")
	case 1:
		return quoted(m.texts[0])
	}
	return textArray(m.texts)
}

// chatGPTFiles takes the files that were sent along, but for those that a part of the message is.
func (m *message) chatGPTFiles(meta *object) error {
	list, err := meta.take("attachments"), error(nil)
	if list.Kind() != '[' {
		meta.put("attachments", list)
		return nil
	}
	var parts []jsontext.Value
	err = objects(list, meta.path("attachments"), nil, func(in *object) error {
		id := in.peek("id")
		is := func(v jsontext.Value) bool { return strings.HasSuffix("/"+uriOf(v), "/"+unquoteOr(id)) }
		if id.Kind() != '"' || slices.ContainsFunc(m.attachments, is) {
			parts = append(parts, in.rest())
			return nil
		}
		m.attach(in, in.label("id"), in.label("mime_type", "mimeType"), "size")
		return nil
	})
	if len(parts) > 0 {
		meta.put("attachments", array(parts))
	}
	return err
}

// attach takes an attachment, with its size. What else is said of it has no place.
func (m *message) attach(o *object, uri, media, size string) {
	b := appendField(nil, "uri", quoted(uri))
	if media != "" {
		b = appendField(b, "media_type", quoted(media))
	}
	if n := o.peek(size); n.Kind() == '0' && isCount(n) {
		o.take(size)
		b = appendField(b, "size", n)
	}
	m.attachments = append(m.attachments, closeObject(b))
	m.keep(o)
}

// chatGPTContent takes what a message says. What is not a text has no place.
func (m *message) chatGPTContent(o *object) error {
	kind, err := o.text("content_type")
	if err != nil {
		return err
	}
	switch {
	case slices.Contains([]string{"text", "multimodal_text", ""}, kind) && o.peek("parts") != nil:
		parts, err := elements(o.take("parts"), o.path("parts"))
		if err != nil {
			return err
		}
		for i, v := range parts {
			if err := m.chatGPTPart(v, index(o.path("parts"), i)); err != nil {
				return err
			}
		}
	case slices.Contains([]string{"text", "code", "execution_output", "multimodal_text"}, kind) && o.peek("text").Kind() == '"':
		s, _ := o.text("text")
		m.texts = append(m.texts, s)
		if l := o.peek("language"); string(l) == `"unknown"` || string(l) == `"json"` {
			o.take("language")
		}
	case kind == "":
		return refuse(o.path("content_type"), "is missing: it says what the content is")
	default:
		if m.role == user { // a context that the program gives, not what the user said
			m.role = system
		}
		if said := o.label("text", "result"); m.role == tool && said != "" {
			m.texts = append(m.texts, said)
		}
		o.put("content_type", quoted(kind))
	}
	m.keep(o)
	return nil
}

func (m *message) chatGPTPart(v jsontext.Value, at string) error {
	switch v.Kind() {
	case 'n':
		return nil
	case '"':
		m.texts = append(m.texts, unquote(v))
		return nil
	case '{':
	default:
		return wrongKind(at, "a string or an object", v)
	}
	o, err := objectOf(v, at)
	if err != nil {
		return err
	}
	kind := unquoteOr(o.peek("content_type"))
	switch {
	case o.peek("asset_pointer").Kind() == '"':
		o.take("content_type")
		m.attach(o, o.label("asset_pointer"), "", "size_bytes")
		return nil
	case strings.HasSuffix(kind, "transcription") && o.peek("text").Kind() == '"', kind == "" && o.peek("text").Kind() == '"':
		s, _ := o.text("text")
		m.texts = append(m.texts, s)
		o.take("content_type")
	}
	for _, name := range []string{"audio_asset_pointer", "video_container_asset_pointer"} { // of what was said aloud
		if v := o.peek(name); v.Kind() == '{' {
			if err := m.chatGPTPart(o.take(name), o.path(name)); err != nil {
				return err
			}
		}
	}
	m.keep(o)
	return nil
}

// appendChatGPT writes the node of a message that is split.
func appendChatGPT(b []byte, m *message) ([]byte, int) {
	author := appendField(nil, "role", quoted(orElse(m.named, m.role)))
	meta := []byte{'{'}
	if m.model != "" {
		meta = appendField(nil, "model_slug", quoted(m.model))
	}
	recipient, content, id := "all", chatGPTText(m.texts, m.attachments), ""
	switch {
	case m.role == tool:
		author = appendField(author, "name", quoted(tool))
		id, content = m.result.id, chatGPTText([]string{textOf(m.result.value)}, nil)
	case len(m.calls) > 0:
		c := m.calls[0]
		id, recipient = c.id, orElse(c.name, tool)
		code := appendField(appendField(nil, "content_type", quoted("code")), "language", quoted("json"))
		content = closeObject(appendField(code, "text", quoted(argumentText(c))))
	}
	if id != "" {
		if len(meta) == 1 {
			meta = nil
		}
		meta = appendField(meta, "tool_call_id", quoted(id))
	}
	e := appendField(nil, "id", quoted(m.id))
	e = appendField(e, "author", closeObject(author))
	e = appendField(e, "create_time", seconds(m.time))
	e = appendField(e, "content", content)
	e = appendField(e, "status", quoted("finished_successfully"))
	e = appendField(e, "weight", jsontext.Value("1.0"))
	e = appendField(e, "metadata", closeObject(meta))
	e = appendField(e, "recipient", quoted(recipient))
	node := appendField(nil, "id", quoted(m.id))
	node = appendField(node, "message", closeObject(e))
	if m.parent == "" {
		node = appendField(node, "parent", jsontext.Value("null"))
	} else {
		node = appendField(node, "parent", quoted(m.parent))
	}
	node = appendField(node, "children", textArray(m.children))
	return append(append(append(appendQuoted(b, m.id), ':'), node...), '}'), 1
}

func chatGPTText(texts []string, attachments []jsontext.Value) jsontext.Value {
	var parts []jsontext.Value
	for _, s := range texts {
		parts = append(parts, quoted(s))
	}
	kind := "text"
	for _, a := range attachments {
		kind = "multimodal_text"
		parts = append(parts, closeObject(appendField(appendField(nil, "content_type", quoted("image_asset_pointer")), "asset_pointer", quoted(uriOf(a)))))
	}
	return closeObject(appendField(appendField(nil, "content_type", quoted(kind)), "parts", array(parts)))
}
