package exchange

import (
	"errors"
	"fmt"
	"strconv"

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
// each session that they name; it holds no more of it than the turn that they are of. A conversation that is
// an element is taken whole or not at all. One of messages that stand alone ends before the turn of the first
// message that is refused: a turn never lacks some of its messages.
type Converter struct {
	// Session is the id of a conversation that has none itself: the file's name. Of several
	// conversations in a file each gets the number of its element, too.
	Session string
	// Base dates what has no time: the first message of a file 1 µs after it.
	Base transcript.Instant
	// Take takes turns that belong together, as they are published: of a conversation that is an element, all.
	Take func(payloads [][]byte) error
	// Misspelt is told of members that have no place and resemble those that have one, in an element; if it
	// returns an error, the element is refused.
	Misspelt func([]transcript.Misspelling) error
	// Doubt is told of a conversation that is taken whole, and in whose tree links are not as they should be.
	Doubt func(err error)
	// Refuse tells of a conversation that is refused, of an element that has several.
	Refuse func(err error)

	// LeftOut is how many messages were not taken, because one before them was refused.
	LeftOut int
	// Empty is how many conversations and turns of them say nothing: no turn is made of these.
	Empty int

	messages int // so far
	spelt    spelling
	threads  map[string]*thread
	order    []*thread
}

// Add takes an element: JSON whose syntax is known to be good. number is that of the element where the file
// may have more of them, 0 otherwise. Its error is a [*FormatError], or that of Take.
func (c *Converter) Add(value jsontext.Value, number int) (Kind, error) {
	session := c.Session
	if number > 0 {
		session = numbered(session, number)
	}
	if value.Kind() == '[' { // a conversation as an array, among others
		return Converted, c.array(value, "", session)
	}
	o, err := objectOf(value, "")
	if err != nil {
		c.Cut()
		return Unknown, ErrUnknown
	}
	kind := kindOfObject(o)
	if kind != Converted {
		return kind, nil
	}
	if err := checkEndpoint(o); err != nil {
		return Converted, err
	}
	f, single := recognise(o)
	switch list := listOf(o); {
	case f == nil && list != "":
		return Converted, c.array(o.take(list), o.path(list), session)
	case f == nil:
		c.Cut()
		return Unknown, ErrUnknown
	case single:
		return Converted, c.message(f, o)
	}
	return Converted, c.whole(f, o, session)
}

// numbered is the session of one of several conversations. The number is that of its place, so that it stays
// the same when others before it are corrected.
func numbered(session string, number int) string { return fmt.Sprintf("%s-%d", session, number) }

// listOf returns the member that is a list of conversations, "" when there is none.
func listOf(o *object) string {
	for _, name := range []string{"conversations", "chats", "data"} {
		if v := o.peek(name); v.Kind() == '[' {
			if list, _ := elements(v, ""); conversationOf(list) != nil {
				return name
			}
		}
	}
	return ""
}

// conversationOf returns the format of the first conversation in a list; nil when none is in it. One that is
// not recognised does not make the others something else.
func conversationOf(list []jsontext.Value) *format {
	for _, v := range list {
		if o, err := objectOf(v, ""); err == nil {
			if f, single := recognise(o); f != nil && !single {
				return f
			}
		} else if isMessages(v) {
			f, _ := recognise(firstOf(v))
			return f
		}
	}
	return nil
}

// isMessages reports whether a value is a conversation as an array of messages.
func isMessages(v jsontext.Value) bool {
	first := firstOf(v)
	if first == nil {
		return false
	}
	f, single := recognise(first)
	return f != nil && single
}

// whole takes a conversation that is an object.
func (c *Converter) whole(f *format, o *object, session string) error {
	c.spell(o)
	conv, err := f.conversation(o)
	if err != nil {
		return err
	}
	return c.conversation(conv, session)
}

// Cut says that an element was refused of which nothing is known: it may have been a message of any conversation of
// messages that stand alone.
func (c *Converter) Cut() {
	c.messages++
	c.thread(c.Session) // it may be the first one
	for _, th := range c.order {
		c.LeftOut += th.cut()
	}
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
	if name := listOf(o); name != "" {
		list, _ := elements(o.peek(name), "")
		return conversationOf(list).what
	}
	return ""
}

// kindOfObject tells turns and transcripts from what other programs have.
func kindOfObject(o *object) Kind {
	messages := o.peek("messages")
	switch {
	case messages.Kind() == '[':
		list, _ := elements(messages, "")
		if len(list) == 0 && o.has("session_id") && !hasNotes(o) { // with notes it is of turns that are no messages
			return Document
		}
		if first := firstOf(messages); first != nil && !first.has("role") && (first.has("user") || first.has("assistant")) {
			return Document
		}
	case o.peek("user").Kind() == '"' && (o.has("session_id") || o.has("assistant")) && !o.has("role") && !o.has("mapping"):
		return Turn
	}
	if f, _ := recognise(o); f == nil && o.has("session_id") && listOf(o) == "" {
		return Turn
	}
	return Converted
}

// CheckDocument reports a message of a transcript that is of another format, or in which something
// is not what it is to be, or that is redacted and carries text. Where a transcript is adopted in place, such a
// message is taken as it can be; an import can be corrected and run again.
func CheckDocument(value jsontext.Value) error {
	o, err := objectOf(value, "")
	if err != nil {
		return err
	}
	return o.objects("messages", func(in *object) error {
		if !in.has("user") && !in.has("assistant") {
			return refuse(in.at, "has neither user nor assistant, as the other messages have")
		}
		if err := checkRedacted(in); err != nil {
			return fmt.Errorf("%s: %w", in.at, err)
		}
		return checkOlder(in)
	})
}

// checkRedacted reports what a message that is redacted carries.
func checkRedacted(in *object) error {
	if unquoteOr(in.peek("status")) != string(transcript.Redacted) && string(in.peek("rev")) != strconv.Itoa(transcript.RedactRev) {
		return nil
	}
	for _, f := range in.list {
		if err := transcript.CheckRedacted(f.name, f.value); err != nil {
			return err
		}
	}
	return nil
}

// LeftOut returns the names of a transcript's members that no turn has a place for. What follows from its turns is not among them.
func LeftOut(value jsontext.Value) (names []string) {
	o, err := objectOf(value, "")
	if err != nil {
		return nil
	}
	for _, f := range o.list {
		switch f.name {
		case "session_id", "messages", "created_at", "updated_at", "message_count", notesName:
		default:
			if !empty(f.value) {
				names = append(names, f.name)
			}
		}
	}
	return names
}

// checkOlder reports the first of a message's texts and its time that would not be stored as it is.
// A message without an answer, or without a time, is complete.
func checkOlder(in *object) error {
	if !in.has("user") {
		return refuse(in.path("user"), "is missing: it must be a string")
	}
	if v := in.any("user"); v.Kind() != '"' {
		return wrongKind(in.path("user"), "a string", v)
	}
	if _, err := in.text("assistant"); err != nil {
		return err
	}
	if v := in.take("timestamp"); v != nil {
		if _, ok := transcript.OlderInstant(v); !ok {
			return refuse(in.path("timestamp"), timeRule)
		}
	}
	return nil
}

// array takes the messages of one conversation, or conversations.
func (c *Converter) array(value jsontext.Value, at, session string) error {
	list, err := elements(value, at)
	if err != nil {
		return err
	}
	if conversationOf(list) != nil {
		return c.list(list, at, session)
	}
	conv := &conversation{}
	c.spelt.found = nil
	err = objects(value, at, &c.spelt, func(o *object) error {
		f, single := recognise(o)
		if f == nil || !single {
			return refuse(o.at, "is no message that is known; expected is %s", known)
		}
		o.absent = nil
		msgs, err := f.message(o)
		conv.add(msgs...)
		return err
	})
	if err != nil {
		return err
	}
	return c.conversation(conv, session)
}

// list takes conversations: one that is refused leaves the others as they are.
func (c *Converter) list(list []jsontext.Value, at, session string) error {
	for i, v := range list {
		err := c.listed(v, index(at, i), numbered(session, i+1))
		if refused := new(FormatError); errors.As(err, &refused) {
			c.Refuse(err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// listed takes a conversation of a list.
func (c *Converter) listed(v jsontext.Value, at, session string) error {
	if isMessages(v) {
		return c.array(v, at, session)
	}
	o, err := objectOf(v, at)
	if err == nil {
		err = checkEndpoint(o)
	}
	if err != nil {
		return err
	}
	if f, single := recognise(o); f != nil && !single {
		return c.whole(f, o, session)
	}
	return refuse(at, "is no conversation that is known; expected is %s", known)
}

// conversation takes a conversation whole; session is what it is called when it has no id itself.
func (c *Converter) conversation(conv *conversation, session string) error {
	if err := c.tellMisspelt(); err != nil {
		return err
	}
	if transcript.CheckSessionID(conv.id) == nil {
		session = conv.id
	} else if conv.id != "" {
		conv.extra = closeObject(appendField(openObject(conv.extra), "id", quoted(conv.id)))
	}
	base := c.Base + transcript.Instant(c.messages) + 1
	c.messages += len(conv.units)
	turns, ok := conv.restore()
	if !ok {
		var err error
		if turns, err = conv.turns(session, base); err != nil {
			return err
		}
		if err := conv.doubted(); err != nil && c.Doubt != nil {
			c.Doubt(err)
		}
		c.Empty += conv.empty
		if len(turns) == 0 && conv.empty == 0 {
			c.Empty++
		}
	}
	if len(turns) == 0 {
		return nil
	}
	payloads := make([][]byte, len(turns))
	for i, t := range turns {
		payloads[i] = t.payload(session)
	}
	return c.Take(payloads)
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
	c.keepTime()
	th := thread{session: session, extra: c.extra, time: c.time, timed: c.timed, ids: c.ids}
	if c.tree {
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
	c.empty = th.empty
	return list, nil
}

// message takes a message that stands alone.
func (c *Converter) message(f *format, o *object) error {
	session := c.Session
	if id := o.label("session_id", "conversation_id", "thread_id"); transcript.CheckSessionID(id) == nil {
		session = id
	}
	th, err := c.thread(session)
	if err != nil {
		return err
	}
	c.messages++
	if th.ended {
		c.LeftOut++
		return nil
	}
	c.spell(o)
	msgs, err := f.message(o)
	if err == nil {
		err = c.tellMisspelt()
	}
	if err != nil {
		c.LeftOut += th.cut()
		return err
	}
	for _, m := range msgs {
		if done := th.add(m, c.Base+transcript.Instant(c.messages)); done != nil {
			if err := c.Take([][]byte{done.payload(session)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// thread returns the messages of a session that stand alone.
func (c *Converter) thread(session string) (*thread, error) {
	if th := c.threads[session]; th != nil {
		return th, nil
	}
	if len(c.order) == maxThreads {
		return nil, refuse("", "is of one more session than the %d that a file of messages may have: split it", maxThreads)
	}
	if c.threads == nil {
		c.threads = make(map[string]*thread)
	}
	th := &thread{session: session}
	c.threads[session] = th
	c.order = append(c.order, th)
	return th, nil
}

// End takes the last turn of messages that stand alone.
func (c *Converter) End() error {
	for _, th := range c.order {
		if done := th.end(); done != nil {
			if err := c.Take([][]byte{done.payload(th.session)}); err != nil {
				return err
			}
		}
		c.Empty += th.empty
	}
	c.threads, c.order = nil, nil
	return nil
}
