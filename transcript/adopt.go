package transcript

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// adopt reads a document that is JSON but not in afterword's layout: one of the
// older system, or one of ours that another program wrote anew. Messages that
// have an id keep it, and their timestamp. The others are given
//
//	"old-" + 32 hex digits of SHA-256(["timestamp","user","assistant",occurrence])
//
// where the timestamp is the text in the file and occurrence counts equal
// messages from 1, and a timestamp raised to be later than every one before it
// in the file. Members of a message that break a rule are kept under
// "older_" + name; other top-level members under afterword.kept.
func adopt(session string, data []byte) (*Document, error) {
	var old struct {
		SessionID string           `json:"session_id"`
		CreatedAt jsontext.Value   `json:"created_at"`
		Messages  []jsontext.Value `json:"messages"`
		UpdatedAt jsontext.Value   `json:"updated_at"`
		Count     jsontext.Value   `json:"message_count"`
		Own       own              `json:"afterword"`
		Rest      jsontext.Value   `json:",embed"`
	}
	lenient := adoptOptions()
	if err := json.Unmarshal(data, &old, lenient); err != nil {
		return nil, corrupt("it is not a transcript: %s", jsonReason(err))
	}
	if old.Own.Schema > Schema {
		return nil, &SchemaError{Path: "the document", Schema: old.Own.Schema}
	}
	if old.SessionID != session {
		return nil, corrupt("it belongs to another session")
	}
	if old.Messages == nil {
		return nil, corrupt("it has no messages member")
	}
	a := adopter{session: session, last: minInstant - 1, seen: make(map[string]int), lenient: lenient}
	if at, ok := OlderInstant(old.CreatedAt); ok {
		a.last = at - 1
	}
	snaps := make([]Snapshot, 0, len(old.Messages))
	for i, m := range old.Messages {
		s, err := a.message(m)
		if err != nil {
			return nil, corrupt("message %d: %v", i+1, err)
		}
		snaps = append(snaps, s)
	}
	d, err := MergeAll(session, snaps...)
	if err != nil {
		return nil, err
	}
	if d.kept = old.Own.Kept; d.kept == nil && len(old.Rest) > len(`{}`) {
		if d.kept, err = jsontext.AppendFormat(nil, old.Rest, lenient); err != nil {
			return nil, corrupt("%s", jsonReason(err))
		}
	}
	d.foreign = true
	return d, nil
}

// adoptOptions are how older documents are read. Python's json writes lone
// surrogates; refusing them would refuse the whole conversation.
func adoptOptions() json.Options {
	return json.JoinOptions(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

// CheckRedacted returns the error of a member of a redacted turn, in a transcript of any layout, that carries what
// may have been said. [ParseDocument] leaves such members out, which is right for a file that is in its
// place, and not for one that somebody hands in.
func CheckRedacted(name string, value []byte) error {
	switch v := jsontext.Value(value); {
	case v.Kind() == 'n', slices.Contains([]string{"id", "timestamp", "status", "rev", sessionMember}, name):
		return nil
	case name == "user" || name == "assistant":
		if olderText(v) == "" {
			return nil
		}
	case !mayCarry(name):
		return nil
	}
	return redactionError(name)
}

type adopter struct {
	session string
	last    Instant // latest timestamp so far
	seen    map[string]int
	lenient json.Options
}

func (a *adopter) message(raw jsontext.Value) (Snapshot, error) {
	var m struct {
		Timestamp jsontext.Value `json:"timestamp"`
		User      jsontext.Value `json:"user"`
		Assistant jsontext.Value `json:"assistant"`
		Rest      jsontext.Value `json:",embed"`
	}
	if err := json.Unmarshal(raw, &m, a.lenient); err != nil {
		return Snapshot{}, err
	}
	d := Draft{SessionID: a.session, Rev: 1, Status: Complete, unchecked: true}
	user, assistant := olderText(m.User), olderText(m.Assistant)
	d.user, _ = jsontext.AppendQuote(nil, user)
	d.assistant, _ = jsontext.AppendQuote(nil, assistant)
	if len(m.Rest) > 0 {
		if err := a.others(&d, m.Rest); err != nil {
			return Snapshot{}, err
		}
	}
	at, known := OlderInstant(m.Timestamp)
	if d.ID == "" {
		text := olderText(m.Timestamp)
		key, err := json.Marshal([]string{text, user, assistant})
		if err != nil {
			return Snapshot{}, err
		}
		a.seen[string(key)]++
		n := a.seen[string(key)]
		key = strconv.AppendInt(append(key[:len(key)-1], ','), int64(n), 10)
		sum := sha256.Sum256(append(key, ']'))
		d.ID = "old-" + hex.EncodeToString(sum[:16])
		if !known || at <= a.last {
			at = a.next()
		}
	} else if !known {
		at = a.next()
	}
	a.last = max(a.last, at)
	d.SetTimestamp(at)
	if d.Rev == RedactRev || d.Status == Redacted {
		d.Rev, d.Status = RedactRev, Redacted
	}
	if err := d.check(); err != nil {
		return Snapshot{}, err
	}
	return d.encode(), nil
}

// next is the timestamp of a turn that has none of its own: just after the one before, while there is a later one.
func (a *adopter) next() Instant { return min(a.last+1, maxInstant) }

// others takes the members of an older message that are not its texts.
func (a *adopter) others(d *Draft, rest jsontext.Value) error {
	p := parser{dec: jsontext.NewDecoder(bytes.NewReader(nil))}
	p.reset(rest, a.lenient)
	return p.object(func(name string, value jsontext.Value) error {
		d.unchecked = false
		err := d.set(name, value)
		d.unchecked = true
		if err != nil {
			b, err := jsontext.AppendFormat(nil, value, a.lenient)
			if err != nil {
				return err
			}
			d.add("older_"+name, b)
		}
		return nil
	})
}

// olderText is a text of the older system: null and absent are empty, and what
// is no string is its JSON.
func olderText(v jsontext.Value) string {
	switch v.Kind() {
	case '"':
		b, _ := jsontext.AppendUnquote(nil, v)
		return string(b)
	case 'n', 0:
		return ""
	}
	return string(v)
}

// OlderInstant reads a timestamp of the older system, a JSON value as Python programs write it. One
// without a zone is UTC; a number counts seconds.
func OlderInstant(value []byte) (Instant, bool) {
	v := jsontext.Value(value)
	if v.Kind() == '0' {
		f, err := strconv.ParseFloat(string(v), 64)
		i := Instant(f * 1e6)
		return i, err == nil && i.valid()
	}
	text := olderText(v)
	i, err := ParseInstant(text)
	if errors.Is(err, errLeapSecond) { // its order among the others is kept
		i, err = ParseInstant(strings.Replace(text, ":60", ":59", 1))
	}
	if err == nil {
		return i, true
	}
	for _, layout := range []string{"2006-01-02T15:04:05Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			i := InstantOf(t)
			return i, i.valid()
		}
	}
	return 0, false
}
