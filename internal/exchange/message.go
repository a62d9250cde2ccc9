package exchange

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// Roles of messages.
const (
	system    = "system"
	user      = "user"
	assistant = "assistant"
	tool      = "tool"
)

// message is what one participant said, in no format's terms.
type message struct {
	role        string // one of the four
	named       string // as the format calls it, where that is another word ("developer"); "" otherwise
	texts       []string
	calls       []call // of the assistant
	result      *result
	attachments []jsontext.Value // as a turn has them
	id, parent  string           // in formats that have them; unique in the conversation
	children    []string         // ids of the messages that follow, when it is written
	time        transcript.Instant
	timed       bool
	model       string
	finish      string
	status      string           // of a turn; "" is complete
	usage       jsontext.Value   // as a turn has it
	others      []jsontext.Value // parts that have no place
	extra       jsontext.Value   // members that have no place; nil or an object
}

// split are messages of one thing each: texts, or a call.
func (m message) split() []message {
	if len(m.calls) == 0 || len(m.calls) == 1 && len(m.texts)+len(m.attachments) == 0 {
		return []message{m}
	}
	var list []message
	if len(m.texts)+len(m.attachments) > 0 {
		said := m
		said.calls = nil
		list = append(list, said)
	}
	for _, c := range m.calls {
		one := m
		one.texts, one.attachments, one.calls = nil, nil, []call{c}
		if len(list) > 0 {
			one.id += "+" + strconv.Itoa(len(list))
		}
		list = append(list, one)
	}
	return list
}

// call is a call of a tool.
type call struct {
	id, name  string
	arguments jsontext.Value // nil when absent
	more      []field        // members of its format that have no place
}

// result is what a tool answered.
type result struct {
	id    string // of the call; "" when the format does not say
	name  string // of the tool; "" when the format does not say
	value jsontext.Value
}

// between stands between the texts of one role in a turn.
const between = "\n\n"

// joined are texts as one.
func joined(texts []string) string {
	var b strings.Builder
	for _, t := range texts {
		if t == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(between)
		}
		b.WriteString(t)
	}
	return b.String()
}

// conversation is one conversation of an export, read whole.
type conversation struct {
	id    string // "" when the export does not say
	time  transcript.Instant
	timed bool
	since field          // the member that says the time
	units [][]message    // messages of each element
	ids   bool           // messages have ids, which are those of turns
	tree  bool           // they have parents, too
	leaf  string         // id of the message at which the active branch ends
	extra jsontext.Value // what has no place; nil or an object
	notes jsontext.Value // the member that afterword wrote; nil when there is none
	empty int            // turns that would say nothing, and are none

	doubts []*FormatError // about its tree
}

func (c *conversation) add(msgs ...message) { c.units = append(c.units, msgs) }

// asks reports whether the conversation ends with a message that wants an answer.
func (c *conversation) asks() bool {
	if len(c.units) == 0 {
		return false
	}
	last := c.units[len(c.units)-1]
	return len(last) > 0 && (last[len(last)-1].role == user || last[len(last)-1].role == tool)
}

// takeTime takes when the conversation began.
func (c *conversation) takeTime(o *object, names ...string) (err error) {
	for _, name := range names {
		if v := o.peek(name); v != nil {
			c.since = field{name: name, value: v}
			break
		}
	}
	c.time, c.timed, err = o.time(names...)
	return err
}

// keepTime keeps when the conversation began, where no message says that it began then.
func (c *conversation) keepTime() {
	other := false
	for _, unit := range c.units {
		for i := range unit {
			if m := &unit[i]; m.timed && m.time == c.time {
				return
			} else if m.timed {
				other = true
			}
		}
	}
	if c.timed && other {
		c.extra = closeObject(appendField(openObject(c.extra), c.since.name, c.since.value))
	}
}

// takeModel takes the model of all answers that do not say their own.
func (c *conversation) takeModel(o *object) {
	model := unquoteOr(o.peek("model"))
	if model == "" {
		return
	}
	for _, unit := range c.units {
		for i := range unit {
			if m := &unit[i]; m.role == assistant {
				m.model = orElse(m.model, model)
				o.take("model")
			}
		}
	}
}
