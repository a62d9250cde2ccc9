package exchange

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// layoutName is the member of meta that says of which messages a turn was made:
//
//	role         as the format has it
//	texts        length of each of its texts in bytes: the next ones of user, assistant or meta.system
//	calls, call  which of tool_calls it makes, or is the result of
//	attachments  how many of the next attachments it has
//	id, timestamp, model, finish_reason, status, usage  where they are not those of the turn
//	parts, more  parts and members that have no place
const layoutName = "messages"

// place is what the layout says of one message.
type place struct {
	role        string // one of the four
	named       string
	texts       []int
	calls       []int
	attachments int
	rest        []field // what only tells
}

// setLayout notes of which messages the turn was made, unless [turn.plan] says so without it.
func (t *turn) setLayout(msgs []message) {
	places := t.places(msgs)
	if plain := t.plan(); slices.EqualFunc(places, plain, place.equal) {
		return
	}
	var list []jsontext.Value
	for _, p := range places {
		list = append(list, p.object())
	}
	t.setMeta(layoutName, array(list))
}

// places describes the messages of which the turn was folded.
func (t *turn) places(msgs []message) []place {
	var list []place
	for i := range msgs {
		m := &msgs[i]
		p := place{role: m.role, named: m.named, calls: t.links[i], attachments: len(m.attachments)}
		for _, s := range m.texts {
			p.texts = append(p.texts, len(s))
		}
		p.tell(t, m)
		list = append(list, p)
	}
	return list
}

// tell notes what a message has that the turn does not say of it.
func (p *place) tell(t *turn, m *message) {
	note := func(name string, v jsontext.Value) { p.rest = append(p.rest, field{name: name, value: v}) }
	if m.id != "" && m.id != t.id {
		note("id", quoted(m.id))
	}
	if m.timed && m.time != t.at && m.time.String() != t.text("completed_at") {
		note("timestamp", quoted(m.time.String()))
	}
	if m.model != "" && m.model != t.text("model") {
		note("model", quoted(m.model))
	}
	if m.finish != "" && m.finish != t.text("finish_reason") {
		note("finish_reason", quoted(m.finish))
	}
	if m.status != "" && m.status != t.status {
		note("status", quoted(m.status))
	}
	if m.usage != nil && string(m.usage) != t.text("usage") {
		note("usage", m.usage)
	}
	if len(m.others) > 0 {
		note("parts", array(m.others))
	}
	if m.extra != nil {
		note("more", m.extra)
	}
}

func (p place) equal(q place) bool {
	return p.role == q.role && p.named == q.named && slices.Equal(p.texts, q.texts) && slices.Equal(p.calls, q.calls) &&
		p.attachments == q.attachments && len(p.rest) == 0 && len(q.rest) == 0
}

func (p place) object() jsontext.Value {
	b := appendField(nil, "role", quoted(orElse(p.named, p.role)))
	if p.named != "" {
		b = appendField(b, "as", quoted(p.role))
	}
	if p.role != tool {
		b = appendField(b, "texts", numbers(p.texts))
	}
	switch {
	case p.role == tool:
		b = appendField(b, "call", number(p.calls[0]))
	case len(p.calls) > 0:
		b = appendField(b, "calls", numbers(p.calls))
	}
	if p.attachments > 0 {
		b = appendField(b, "attachments", number(p.attachments))
	}
	for _, f := range p.rest {
		b = appendField(b, f.name, f.value)
	}
	return closeObject(b)
}

func numbers(list []int) jsontext.Value {
	values := make([]jsontext.Value, len(list))
	for i, n := range list {
		values[i] = number(n)
	}
	return array(values)
}

// plan is how a turn without a layout is told as messages: system messages, the user's with the
// attachments, the calls, their results, the answer.
func (t *turn) plan() (list []place) {
	for _, s := range t.systems() {
		list = append(list, place{role: system, texts: []int{len(s)}})
	}
	list = append(list, place{role: user, texts: []int{len(t.user)}, attachments: len(t.attachments())})
	var calls []int
	for i := range t.calls {
		calls = append(calls, i)
	}
	if len(calls) > 0 {
		list = append(list, place{role: assistant, calls: calls})
	}
	for i := range t.calls {
		if t.calls[i].result != nil {
			list = append(list, place{role: tool, calls: []int{i}})
		}
	}
	if t.assistant != "" || len(t.calls) == 0 && t.status != "pending" && t.status != "failed" {
		list = append(list, place{role: assistant, texts: []int{len(t.assistant)}})
	}
	return list
}

func (t *turn) metaValue(name string) jsontext.Value {
	for _, f := range t.meta {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// systems are the texts of meta.system. What other programs put there is not ours to tell.
func (t *turn) systems() []string {
	v := t.metaValue(system)
	if v.Kind() == '"' {
		return []string{unquote(v)}
	}
	if v.Kind() != '[' {
		return nil
	}
	list, _ := elements(v, "")
	var texts []string
	for _, e := range list {
		if e.Kind() != '"' {
			return nil
		}
		texts = append(texts, unquote(e))
	}
	return texts
}

func (t *turn) attachments() []jsontext.Value {
	for _, f := range t.members {
		if f.name == "attachments" && f.value.Kind() == '[' {
			list, _ := elements(f.value, "")
			return list
		}
	}
	return nil
}

// layout reads meta.messages. It is nil when there is none that fits the turn.
func (t *turn) layout() (list []place) {
	v := t.metaValue(layoutName)
	if v.Kind() != '[' {
		return nil
	}
	entries, _ := elements(v, "")
	for _, e := range entries {
		o, err := objectOf(e, "")
		if err != nil {
			return nil
		}
		p := place{role: o.label("role"), attachments: integer(o.take("attachments"))}
		if as := o.label("as"); as != "" {
			p.named, p.role = p.role, as
		}
		p.texts, p.calls = integers(o.take("texts")), integers(o.take("calls"))
		if c := o.take("call"); c != nil {
			p.calls = []int{integer(c)}
		}
		list = append(list, p)
	}
	if !t.fits(list) {
		return nil
	}
	return list
}

func integer(v jsontext.Value) int {
	n, err := strconv.Atoi(string(v))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func integers(v jsontext.Value) (list []int) {
	if v.Kind() != '[' {
		return nil
	}
	values, _ := elements(v, "")
	for _, e := range values {
		list = append(list, integer(e))
	}
	return list
}

// fits reports whether a layout takes the texts, calls and attachments of the turn, each once.
func (t *turn) fits(list []place) bool {
	systems, attachments := 0, 0
	called, answered := make([]int, len(t.calls)), make([]int, len(t.calls))
	texts := map[string]*cutter{user: {text: t.user}, assistant: {text: t.assistant}}
	for _, p := range list {
		attachments += p.attachments
		switch p.role {
		case system:
			systems += len(p.texts)
		case user, assistant:
			for _, n := range p.texts {
				if _, ok := texts[p.role].next(n); !ok {
					return false
				}
			}
		case tool:
			if len(p.calls) != 1 {
				return false
			}
		default:
			return false
		}
		for _, k := range p.calls {
			if k >= len(t.calls) {
				return false
			}
			if p.role == tool {
				answered[k]++
			} else {
				called[k]++
			}
		}
	}
	for k := range t.calls {
		if called[k] > 1 || answered[k] > 1 || called[k]+answered[k] == 0 || (answered[k] == 1) != (t.calls[k].result != nil) {
			return false
		}
	}
	return texts[user].done() && texts[assistant].done() && systems == len(t.systems()) && attachments == len(t.attachments())
}

// cutter cuts a joined text where the texts of which it was joined end.
type cutter struct {
	text string
	at   int
}

func (c *cutter) next(n int) (string, bool) {
	if n == 0 {
		return "", true
	}
	from := c.at
	if from > 0 {
		if len(c.text)-from < len(between) || c.text[from:from+len(between)] != between {
			return "", false
		}
		from += len(between)
	}
	if n > len(c.text)-from || !utf8.ValidString(c.text[from:from+n]) {
		return "", false
	}
	c.at = from + n
	return c.text[from:c.at], true
}

func (c *cutter) done() bool { return c.at == len(c.text) }
