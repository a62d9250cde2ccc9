package exchange

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// thread makes turns of the messages of one session, as they come, and holds those of one turn.
type thread struct {
	session string
	extra   jsontext.Value // what the conversation has beside messages, until the first turn has it
	time    transcript.Instant
	timed   bool // time is when the conversation began
	ids     bool // ids of messages are those of turns

	open   []message
	stage  stage              // of those
	number int                // of the first open message, counted from 1
	count  int                // messages so far
	base   transcript.Instant // of the first open message, if nothing says when it was
	dated  bool               // a time was known so far
	empty  int                // turns that would say nothing, and are none
	ended  bool               // a message was refused: nothing that follows is taken
	last   transcript.Instant // of the last turn
	seen   map[string]bool
}

// add takes a message, which began at base if nothing else is known, and returns the turn that is
// complete now, if one is.
func (t *thread) add(m message, base transcript.Instant) (done *turn) {
	if t.stage.ends(m.role) {
		done = t.end()
	}
	t.stage.take(m.role)
	t.count++
	if len(t.open) == 0 {
		t.number, t.base = t.count, base
	}
	t.open = append(t.open, m)
	return done
}

// end returns the turn of the open messages, nil when there are none.
func (t *thread) end() *turn {
	if len(t.open) == 0 {
		return nil
	}
	msgs := t.open
	t.open, t.stage = nil, stage{}
	if silent(msgs) {
		t.empty++
		return nil
	}
	done := fold(msgs)
	switch {
	case t.dated:
		t.base = t.last + 1
	case t.timed:
		t.base, t.dated = t.time, true
	}
	for i := range msgs {
		t.dated = t.dated || msgs[i].timed
	}
	done.date(msgs, t.base, t.last)
	t.last = done.at
	if t.ids {
		done.id = t.ownID(idOf(&msgs[opening(msgs)]))
	}
	t.finish(done, msgs)
	return done
}

// cut ends the thread at a message that was refused. A turn that may lack it is none: its
// messages, of which it returns the number, are left out.
func (t *thread) cut() int {
	n := len(t.open)
	t.open, t.stage, t.ended = nil, stage{}, true
	return n
}

// ownID returns an id that no turn has yet, "" otherwise.
func (t *thread) ownID(id string) string {
	if id == "" || t.seen[id] {
		return ""
	}
	if t.seen == nil {
		t.seen = make(map[string]bool)
	}
	t.seen[id] = true
	return id
}

// finish adds to a turn what is not of its messages alone, and its id.
func (t *thread) finish(done *turn, msgs []message) {
	if t.extra != nil {
		done.setMeta("conversation", t.extra)
		t.extra = nil
	}
	done.setLayout(msgs)
	if done.id == "" {
		done.id = done.hashID(t.session, t.number)
	}
}
