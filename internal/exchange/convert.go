package exchange

import (
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// Kind is what an element of a file is.
type Kind int

// The kinds. Only [Converted] is what this package makes turns of.
const (
	Converted Kind = iota
	Turn           // a turn as it is published
	Document       // a transcript, of afterword or of the older system
	Unknown        // nothing that is recognised
)

// ErrUnknown says what could have been there where nothing was recognised.
var ErrUnknown = &FormatError{Reason: "is not recognised; expected is " + known}

// maxThreads bounds how many sessions one file of messages may have.
const maxThreads = 100_000

// Converter makes turns of the elements of one file. Messages that stand alone are one conversation, or one for
// each session that they name; it holds no more of it than the turn that they are of.
type Converter struct {
	// Session is the id of a conversation that has none itself: the file's name. Of several
	// conversations in a file each gets its number, too.
	Session string
	// Base dates what has no time: the first message of a file 1 µs after it.
	Base transcript.Instant
	// Take takes a turn, as it is published.
	Take func(payload []byte) error

	messages      int // so far
	conversations int
	threads       map[string]*thread
	order         []*thread
}

// Add takes an element: JSON whose syntax is known to be good. several says that the file may have
// more conversations than this one. Its error is a [*FormatError], or that of Take.
func (c *Converter) Add(value jsontext.Value, several bool) (Kind, error) {
	if value.Kind() == '[' { // a conversation as an array, among others
		return Converted, c.array(value, several)
	}
	o, err := objectOf(value, "")
	if err != nil {
		return Unknown, ErrUnknown
	}
	kind := kindOfObject(o)
	if kind != Converted {
		return kind, nil
	}
	f, single := recognise(o)
	switch {
	case f == nil:
		return Unknown, ErrUnknown
	case single:
		return Converted, c.message(f, o)
	}
	conv, err := f.conversation(o)
	if err != nil {
		return Converted, err
	}
	return Converted, c.conversation(conv, several)
}

// What names the program or interface of whose export an element is, "" when it is not recognised.
func What(element []byte) string {
	if checkValue(element) != nil {
		return ""
	}
	o, err := objectOf(jsontext.Value(element), "")
	if err != nil || kindOfObject(o) != Converted {
		return ""
	}
	if f, _ := recognise(o); f != nil {
		return f.what
	}
	return ""
}

// kindOfObject tells turns and transcripts from what other programs have.
func kindOfObject(o *object) Kind {
	messages := o.peek("messages")
	switch {
	case messages.Kind() == '[':
		list, err := elements(messages, "")
		switch {
		case err == nil && len(list) == 0 && hasNotes(o): // of turns that are no messages
			return Converted
		case err != nil || len(list) == 0:
			return Document
		}
		first, err := objectOf(list[0], "")
		if err == nil && !first.has("role") && (first.has("user") || first.has("assistant")) {
			return Document
		}
	case o.peek("user").Kind() == '"' && (o.has("session_id") || o.has("assistant")) && !o.has("role") && !o.has("mapping"):
		return Turn
	}
	if f, _ := recognise(o); f == nil && o.has("session_id") {
		return Turn
	}
	return Converted
}

// array takes the messages of one conversation.
func (c *Converter) array(value jsontext.Value, several bool) error {
	list, err := elements(value, "")
	if err != nil {
		return err
	}
	conv := &conversation{}
	for i, e := range list {
		o, err := objectOf(e, index("", i))
		if err != nil {
			return err
		}
		f, single := recognise(o)
		if f == nil || !single {
			return refuse(index("", i), "is no message that is known; expected is %s", known)
		}
		msgs, err := f.message(o)
		if err != nil {
			return err
		}
		conv.add(msgs...)
	}
	return c.conversation(conv, several)
}

// conversation takes a conversation whole.
func (c *Converter) conversation(conv *conversation, several bool) error {
	c.conversations++
	session := conv.id
	if session == "" || transcript.CheckSessionID(session) != nil {
		session = c.Session
		if several {
			session = fmt.Sprintf("%s-%d", c.Session, c.conversations)
		}
		if conv.id != "" {
			conv.extra = closeObject(appendField(openObject(conv.extra), "id", quoted(conv.id)))
		}
	}
	base := c.Base + transcript.Instant(c.messages) + 1
	c.messages += len(conv.units)
	turns, ok := conv.restore()
	if !ok {
		var err error
		if turns, err = conv.turns(session, base); err != nil {
			return err
		}
	}
	for _, t := range turns {
		if err := c.Take(t.payload(session)); err != nil {
			return err
		}
	}
	return nil
}

// openObject is an object to which members can be added; nil is one without any.
func openObject(v jsontext.Value) []byte {
	if len(v) <= len("{}") {
		return nil
	}
	return append([]byte(nil), v[:len(v)-1]...)
}

// turns makes turns of a conversation, whose first message is dated base if nothing says when it was.
func (c *conversation) turns(session string, base transcript.Instant) ([]*turn, error) {
	th := thread{session: session, extra: c.extra, time: c.time, timed: c.timed}
	if c.tree {
		th.ids = true
		return c.treeTurns(th, base)
	}
	var list []*turn
	for i, unit := range c.units {
		for _, m := range unit {
			if t := th.add(m, base+transcript.Instant(i)); t != nil {
				list = append(list, t)
			}
		}
	}
	if t := th.end(); t != nil {
		list = append(list, t)
	}
	return list, nil
}

// message takes a message that stands alone.
func (c *Converter) message(f *format, o *object) error {
	session := c.Session
	if id := o.label("session_id", "conversation_id", "thread_id"); transcript.CheckSessionID(id) == nil {
		session = id
	}
	msgs, err := f.message(o)
	if err != nil {
		return err
	}
	th := c.threads[session]
	if th == nil {
		if len(c.order) == maxThreads {
			return refuse("", "is of one more session than the %d that a file of messages may have: split it", maxThreads)
		}
		if c.threads == nil {
			c.threads = make(map[string]*thread)
		}
		th = &thread{session: session}
		c.threads[session] = th
		c.order = append(c.order, th)
	}
	c.messages++
	for _, m := range msgs {
		if done := th.add(m, c.Base+transcript.Instant(c.messages)); done != nil {
			if err := c.Take(done.payload(session)); err != nil {
				return err
			}
		}
	}
	return nil
}

// End takes the last turn of messages that stand alone.
func (c *Converter) End() error {
	for _, th := range c.order {
		if done := th.end(); done != nil {
			if err := c.Take(done.payload(th.session)); err != nil {
				return err
			}
		}
	}
	c.threads, c.order = nil, nil
	return nil
}
