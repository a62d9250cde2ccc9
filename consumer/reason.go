package consumer

import (
	"slices"
	"strings"

	"github.com/afterword-io/afterword/internal/stream"
)

// ReasonKind sorts the reasons of dead letters into few kinds, to be counted and
// asked for.
type ReasonKind string

// Kinds of reasons. [KindRule] is that of every reason that is none of the others.
const (
	KindJSON       ReasonKind = "json"               // not acceptable JSON
	KindRule       ReasonKind = "rule"               // a member breaks its rule
	KindSize       ReasonKind = "size"               // the encoding is too long
	KindType       ReasonKind = "type"               // an unknown type of event
	KindSubject    ReasonKind = "subject"            // the subject of another session
	KindFuture     ReasonKind = "future"             // dated more than [transcript.MaxAhead] ahead of the time at which the stream stored it
	KindRedacted   ReasonKind = "redacted"           // a redacted turn that carries text
	KindFull       ReasonKind = "session-too-large"  // the session has no room for it
	KindUnwritable ReasonKind = "session-unwritable" // the file of the session is at fault
)

// ReasonKinds are all of them.
var ReasonKinds = [...]ReasonKind{KindJSON, KindRule, KindSize, KindType, KindSubject, KindFuture, KindRedacted, KindFull, KindUnwritable}

// unwritable begins the reason of a turn that breaks no rule.
const unwritable = string(KindUnwritable) + ": "

// future begins the reason of a turn that is dated too far ahead.
const future = string(KindFuture) + ": "

// redacted begins the reason of a redacted turn that carries text.
const redacted = "redacted turn carries text: "

// full begins the reason of a turn that its session has no room for.
const full = string(KindFull) + ": "

// KindOf sorts a reason by how it begins, which is part of the wire contract: a
// dead letter carries nothing else.
func KindOf(reason string) ReasonKind {
	for _, k := range [...]struct {
		begins string
		kind   ReasonKind
	}{
		{"not acceptable JSON", KindJSON},
		{"the turn is ", KindSize},
		{"unknown " + stream.HeaderType, KindType},
		{"subject of another session", KindSubject},
		{future, KindFuture},
		{redacted, KindRedacted},
		{full, KindFull},
		{unwritable, KindUnwritable},
	} {
		if strings.HasPrefix(reason, k.begins) {
			return k.kind
		}
	}
	return KindRule
}

func (k ReasonKind) index() int { return slices.Index(ReasonKinds[:], k) }
