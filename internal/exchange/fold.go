package exchange

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// stage says what the messages of a turn are so far.
type stage struct {
	begun, said, answered bool
}

func (s *stage) take(role string) {
	s.begun = true
	s.said = s.said || role != system
	s.answered = s.answered || role == assistant || role == tool
}

// ends reports whether a message is of the next turn: one of the user is, unless there are only
// system messages, and a system message after an answer.
func (s stage) ends(role string) bool {
	return role == user && s.said || role == system && s.answered
}

// fold makes a turn of its messages. Its id and time are given later.
func fold(msgs []message) *turn {
	t := &turn{links: make([][]int, len(msgs))}
	var said, questions, systems []string
	asked, answered := false, false
	for i := range msgs {
		m := &msgs[i]
		switch m.role {
		case system:
			systems = append(systems, m.texts...)
		case user:
			asked = true
			questions = append(questions, m.texts...)
		case assistant:
			answered = true
			said = append(said, m.texts...)
			for _, c := range m.calls {
				t.links[i] = append(t.links[i], len(t.calls))
				t.calls = append(t.calls, turnCall{call: c})
			}
		case tool:
			answered = true
			k := t.awaiting(m.result.id)
			if k < 0 { // of a call that is not here
				k = len(t.calls)
				t.calls = append(t.calls, turnCall{call: call{id: m.result.id, name: m.result.name}})
			}
			t.links[i] = []int{k}
			t.calls[k].result = m.result.value
		}
	}
	t.user, t.assistant = joined(questions), joined(said)
	if asked && !answered {
		t.status = string(transcript.Pending)
	}
	t.describe(msgs)
	if len(systems) == 1 {
		t.setMeta("system", quoted(systems[0]))
	} else if len(systems) > 1 {
		t.setMeta("system", textArray(systems))
	}
	return t
}

// silent reports whether messages say nothing at all: no turn is made of them.
func silent(msgs []message) bool {
	return !slices.ContainsFunc(msgs, func(m message) bool {
		return joined(m.texts) != "" || len(m.calls)+len(m.attachments) > 0 || m.result != nil || m.role != system && len(m.others) > 0
	})
}

// opening returns the place of the message that gives a turn its id: the first one of the user, or the first one.
func opening(msgs []message) int {
	return max(0, slices.IndexFunc(msgs, func(m message) bool { return m.role == user }))
}

// awaiting finds the call that a result is of: by its id, or the first one without a result when
// the format gives none. It is -1 when there is none.
func (t *turn) awaiting(id string) int {
	return slices.IndexFunc(t.calls, func(c turnCall) bool {
		return c.result == nil && (id == "" || c.id == id)
	})
}

// cutOff are the reasons, by the words of formats, for which an answer ended before it was whole.
var cutOff = map[string]bool{
	"length": true, "max_tokens": true, "max_output_tokens": true, "model_context_window_exceeded": true, "content_filter": true, "interrupted": true,
}

// describe takes what messages have beside texts and calls: of the last one that has it.
func (t *turn) describe(msgs []message) {
	var attachments []jsontext.Value
	var model, finish string
	var usage jsontext.Value
	for i := range msgs {
		m := &msgs[i]
		attachments = append(attachments, m.attachments...)
		if m.role == assistant {
			model, finish, t.status = orElse(m.model, model), orElse(m.finish, finish), m.status
			if t.status == "" && cutOff[m.finish] {
				t.status = string(transcript.Partial)
			}
			if m.usage != nil {
				usage = m.usage
			}
		}
	}
	if model != "" {
		t.set("model", quoted(model))
	}
	if finish != "" {
		t.set("finish_reason", quoted(finish))
	}
	if usage != nil {
		t.set("usage", usage)
	}
	if len(attachments) > 0 {
		t.set("attachments", array(attachments))
	}
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (t *turn) text(name string) string {
	for _, f := range t.members {
		if f.name == name {
			return textOf(f.value)
		}
	}
	return ""
}

// date says when the turn began and ended, by its messages. Without a time of theirs it began at
// fallback; it began after last in any case.
func (t *turn) date(msgs []message, fallback, last transcript.Instant) {
	t.at = fallback
	var end transcript.Instant
	for i := len(msgs) - 1; i >= 0; i-- {
		if m := &msgs[i]; m.timed {
			t.at, end = m.time, max(end, m.time)
		}
	}
	if t.at <= last {
		t.at = last + 1
	}
	if end > t.at {
		t.set("completed_at", quoted(end.String()))
	}
}

func array(list []jsontext.Value) jsontext.Value {
	b := []byte{'['}
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, v...)
	}
	return append(b, ']')
}

func textArray(texts []string) jsontext.Value {
	list := make([]jsontext.Value, len(texts))
	for i, s := range texts {
		list[i] = quoted(s)
	}
	return array(list)
}
