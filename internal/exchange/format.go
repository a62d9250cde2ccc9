package exchange

import (
	"bytes"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// A format knows its conversations, its messages, or both.
type format struct {
	name string // of an export
	what string // for people

	// isConversation and isMessage recognise an object.
	isConversation func(o *object) bool
	isMessage      func(o *object) bool

	// conversation reads a conversation, message a message that stands alone.
	conversation func(o *object) (*conversation, error)
	message      func(o *object) ([]message, error)

	// head, element and tail write a conversation: up to its first message, a message as
	// elements that are separated by commas, and from the end of the messages up to the last
	// member. element says how many it wrote.
	split    bool // its messages are of one thing each
	branches bool // its messages say which one they follow
	head     func(b []byte, a *about) []byte
	element  func(b []byte, m *message) ([]byte, int)
	tail     func(b []byte, a *about) []byte
}

// about is a conversation that is written.
type about struct {
	session     string
	first, last transcript.Instant
	leaf        string // id of the last message of the active branch
}

// formats are all that are known; the first that recognises an object reads it.
var formats = []*format{&chatGPT, &claude, &shareGPT, &langChain, &responses, &chat}

// known says what could have been there.
const known = "a turn (session_id, user), a transcript (session_id, messages with user and assistant), " +
	"or a conversation or message of chat completions (role, content), ChatGPT (mapping), Claude (chat_messages), " +
	"LangChain (type, data), ShareGPT (conversations with from, value) or OpenAI Responses (type, role or call_id)"

// namesOf are the members by which formats call a conversation.
var namesOf = []string{"session_id", "conversation_id", "id", "uuid", "thread_id"}

// recognise finds the format of an object.
func recognise(o *object) (f *format, single bool) {
	for _, f := range formats {
		switch {
		case f.isConversation(o):
			if f == &shareGPT && listOf(o) != "" { // its member is one of conversations elsewhere
				continue
			}
			return f, false
		case f.isMessage != nil && f.isMessage(o):
			return f, true
		}
	}
	return nil, false
}

// wrappers are the members that have what was sent to an interface and what came back. In a batch
// they are body, and the body of response.
var wrappers = []string{"request", "body", "response"}

// wrapped returns a wrapper, and the object around it if there is one; nil when there is none.
func (o *object) wrapped(name string) (in, outer *object, err error) {
	v := o.peek(name)
	if v == nil || name == "body" && v.Kind() != '{' {
		return nil, nil, nil
	}
	if in, err = o.inner(v, o.path(name)); err != nil {
		return nil, nil, err
	}
	if name == "response" && in.peek("body").Kind() == '{' {
		outer = in
		in, err = outer.object("body")
	}
	return in, outer, err
}

// unwrap calls fn for the wrappers and the object, the answer last, and keeps of wrappers what has no place.
func (o *object) unwrap(fn func(in *object) error) error {
	for _, name := range wrappers {
		if name == "response" {
			if err := fn(o); err != nil {
				return err
			}
		}
		in, outer, err := o.wrapped(name)
		if err == nil && in != nil {
			o.take(name)
			err = fn(in)
		}
		switch {
		case err != nil:
			return err
		case in == nil:
		case outer != nil:
			outer.put("body", in.rest())
			o.put(name, outer.rest())
		default:
			o.put(name, in.rest())
		}
	}
	return nil
}

// read takes the messages of a member that is an array of them.
func (c *conversation) read(o *object, name string, read func(o *object) ([]message, error)) error {
	return o.objects(name, func(in *object) error {
		msgs, err := read(in)
		c.add(msgs...)
		return err
	})
}

// takeNotes takes what afterword noted of the turns.
func (c *conversation) takeNotes(o *object) {
	if c.notes = notesOf(o); c.notes != nil {
		o.take(notesName)
	}
}

func hasNotes(o *object) bool { return notesOf(o) != nil }

// notesOf is what afterword noted of the turns, nil where it noted nothing.
func notesOf(o *object) jsontext.Value {
	if v := o.peek(notesName); v.Kind() == '{' {
		if inner, err := objectOf(v, ""); err == nil && inner.peek("turns").Kind() == '[' {
			return inner.peek("turns")
		}
	}
	return nil
}

// takeUsage takes what a member says of tokens, by names that differ. What else it says has no place.
func (m *message) takeUsage(o *object, name string) {
	usage, err := objectOf(o.peek(name), "")
	if err != nil {
		return
	}
	o.take(name)
	var b []byte
	for _, n := range [...]struct{ from, to string }{
		{"input_tokens", "input_tokens"}, {"prompt_tokens", "input_tokens"}, {"output_tokens", "output_tokens"}, {"completion_tokens", "output_tokens"},
	} {
		if v := usage.peek(n.from); v.Kind() == '0' && isCount(v) && (b == nil || !bytes.Contains(b, []byte(n.to))) {
			usage.take(n.from)
			b = appendField(b, n.to, v)
		}
	}
	m.usage = closeObject(b)
	o.put(name, usage.rest())
}

func isCount(v jsontext.Value) bool {
	for _, c := range v {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(v) > 0 && len(v) < 16
}

func sortedNames(roles map[string]string) string {
	return strings.Join(slices.Sorted(maps.Keys(roles)), ", ")
}

// statuses say how an answer ended, by the words of formats; "" is that it is whole.
var statuses = map[string]transcript.Status{
	"completed": "", "finished_successfully": "", "success": "",
	"incomplete": transcript.Partial, "in_progress": transcript.Partial, "finished_partial_completion": transcript.Partial,
	"cancelled": transcript.Cancelled, "failed": transcript.Failed,
}

// takeStatus takes how a message ended. What is said of others than the assistant has no place, if it says anything.
func (m *message) takeStatus(o *object) {
	status, known := statuses[unquoteOr(o.peek("status"))]
	if known && (status == "" || m.role == assistant) {
		o.take("status")
		m.status = string(status)
	}
}

// keepRest notes members of a message that have no place.
func (m *message) keepRest(o *object) {
	m.extra = o.rest()
}
