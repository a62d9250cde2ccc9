package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// FormatError is a value that is not as its format has it.
type FormatError struct {
	At     string // JSON pointer from the element on; "" is the element itself
	Reason string // to be read after the place, as in "must be a string, not a number"
}

func (e *FormatError) Error() string {
	if e.At == "" {
		return "it " + e.Reason
	}
	return e.At + " " + e.Reason
}

func refuse(at, format string, args ...any) error {
	return &FormatError{at, fmt.Sprintf(format, args...)}
}

func wrongKind(at, want string, v jsontext.Value) error {
	return refuse(at, "must be %s, not %s", want, transcript.KindName(v.Kind()))
}

// syntaxError tells what is wrong with JSON that begins at an offset, without quoting it.
func syntaxError(err error, offset int64) error {
	var lexical *jsontext.SyntacticError
	if !errors.As(err, &lexical) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	var syntax *transcript.SyntaxError
	if err = transcript.JSONError(err); errors.As(err, &syntax) {
		syntax.Offset += offset
	}
	return err
}

// checkValue reports whether data is one JSON value, valid UTF-8 throughout.
func checkValue(data []byte) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(data))
	if _, err := dec.ReadValue(); err != nil {
		return syntaxError(err, 0)
	}
	if _, err := dec.ReadToken(); err != io.EOF {
		if err != nil {
			return syntaxError(err, 0)
		}
		return &transcript.SyntaxError{Offset: dec.InputOffset(), Reason: "there is more after the value"}
	}
	return nil
}

// field is a member of an object.
type field struct {
	name  string
	value jsontext.Value
	used  bool
	known bool // it was looked for
}

// object is a JSON object whose members are taken one by one; what is left has no place.
type object struct {
	at     string
	list   []field
	absent []string  // members that were looked for
	spelt  *spelling // nil where nothing is made of what is left
}

// inner reads an object in this one.
func (o *object) inner(v jsontext.Value, at string) (*object, error) {
	in, err := objectOf(v, at)
	if err == nil {
		in.spelt = o.spelt
	}
	return in, err
}

// objectOf reads an object whose syntax is known to be good.
func objectOf(v jsontext.Value, at string) (*object, error) {
	if v.Kind() != '{' {
		return nil, wrongKind(at, "an object", v)
	}
	o := &object{at: at}
	err := members(v, func(name string, value jsontext.Value) error {
		o.list = append(o.list, field{name: name, value: value})
		return nil
	})
	return o, err
}

// members calls fn for each member of an object.
func members(v jsontext.Value, fn func(name string, value jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(v))
	if _, err := dec.ReadToken(); err != nil {
		return syntaxError(err, 0)
	}
	for dec.PeekKind() != '}' {
		tok, err := dec.ReadToken()
		if err != nil {
			return syntaxError(err, 0)
		}
		name := tok.String()
		value, err := dec.ReadValue()
		if err != nil {
			return syntaxError(err, 0)
		}
		if err := fn(name, bytes.Clone(value)); err != nil {
			return err
		}
	}
	return nil
}

// elements returns the elements of an array.
func elements(v jsontext.Value, at string) (list []jsontext.Value, err error) {
	if v.Kind() != '[' {
		return nil, wrongKind(at, "an array", v)
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(v))
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntaxError(err, 0)
	}
	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			return nil, syntaxError(err, 0)
		}
		list = append(list, bytes.Clone(value))
	}
	return list, nil
}

// objects calls fn for each element of an array of objects.
func objects(v jsontext.Value, at string, spelt *spelling, fn func(in *object) error) error {
	list, err := elements(v, at)
	if err != nil {
		return err
	}
	for i, e := range list {
		in, err := objectOf(e, index(at, i))
		if err == nil {
			in.spelt = spelt
			err = fn(in)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// firstOf returns the first element of an array if it is an object, nil otherwise.
func firstOf(v jsontext.Value) *object {
	if v.Kind() != '[' {
		return nil
	}
	dec := jsontext.NewDecoder(bytes.NewBuffer(v))
	if _, err := dec.ReadToken(); err != nil || dec.PeekKind() != '{' {
		return nil
	}
	first, err := dec.ReadValue()
	if err != nil {
		return nil
	}
	o, _ := objectOf(first, "")
	return o
}

// firstHas reports whether the first element of an array is an object with a member.
func firstHas(v jsontext.Value, name string) bool {
	first := firstOf(v)
	return first != nil && first.has(name)
}

// has reports whether the object has a member, be it null.
func (o *object) has(name string) bool {
	for i := range o.list {
		if o.list[i].name == name {
			o.list[i].known = true
			return true
		}
	}
	o.absent = append(o.absent, name)
	return false
}

// find returns a member that was not taken; nil when there is none.
func (o *object) find(name string) *field {
	there := false
	for i := range o.list {
		if f := &o.list[i]; f.name == name {
			if f.known, there = true, true; !f.used {
				return f
			}
		}
	}
	if !there {
		o.absent = append(o.absent, name)
	}
	return nil
}

// peek returns a member without taking it; nil when it is absent, null or taken.
func (o *object) peek(name string) jsontext.Value {
	if f := o.find(name); f != nil && f.value.Kind() != 'n' {
		return f.value
	}
	return nil
}

// any takes a member as it is, null too; nil when it is absent or taken.
func (o *object) any(name string) jsontext.Value {
	f := o.find(name)
	if f == nil {
		return nil
	}
	f.used = true
	return f.value
}

// take takes a member; nil when it is absent, null or taken.
func (o *object) take(name string) jsontext.Value {
	if v := o.any(name); v.Kind() != 'n' {
		return v
	}
	return nil
}

// takeIf takes a member that says a text that is known.
func (o *object) takeIf(name, text string) {
	if unquoteOr(o.peek(name)) == text {
		o.take(name)
	}
}

// put gives the object a member that has no place; nil is none.
func (o *object) put(name string, v jsontext.Value) {
	if v != nil {
		if o.find(name) != nil {
			name = "its_" + name
		}
		o.list = append(o.list, field{name: name, value: v})
	}
}

func (o *object) path(name string) string { return under(o.at, name) }

// under is the JSON pointer of a member.
func under(at, name string) string {
	const most = 64 // ids that stand in the place of names are no longer
	if len(name) > most {
		name = "…"
	}
	return at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

func index(at string, i int) string { return at + "/" + strconv.Itoa(i) }

// text takes a member that is a text; "" when it is absent or null.
func (o *object) text(name string) (string, error) {
	v := o.take(name)
	if v == nil {
		return "", nil
	}
	if v.Kind() != '"' {
		return "", wrongKind(o.path(name), "a string", v)
	}
	return unquote(v), nil
}

// label takes a member if it is a text, and leaves it where it is otherwise: an id, a name.
func (o *object) label(names ...string) string {
	for _, name := range names {
		if v := o.peek(name); v.Kind() == '"' && len(v) > 2 {
			o.take(name)
			return unquote(v)
		}
	}
	return ""
}

// object takes a member that is an object; nil when it is absent or null.
func (o *object) object(name string) (*object, error) {
	v := o.take(name)
	if v == nil {
		return nil, nil
	}
	return o.inner(v, o.path(name))
}

// objects takes a member that is an array of objects and calls fn for each; for none when it is absent or null.
func (o *object) objects(name string, fn func(in *object) error) error {
	v := o.take(name)
	if v == nil {
		return nil
	}
	return objects(v, o.path(name), o.spelt, fn)
}

// rest is what was not taken, as an object; nil when that is nothing that says anything.
func (o *object) rest() jsontext.Value {
	var b []byte
	for i := range o.list {
		f := &o.list[i]
		if f.used {
			continue
		}
		if !f.known {
			o.spelt.check(f.name, o.absent)
		}
		if !empty(f.value) {
			b = appendField(b, f.name, f.value)
		}
	}
	return closeObject(b)
}

func empty(v jsontext.Value) bool {
	switch string(v) {
	case "null", `""`, "[]", "{}":
		return true
	}
	return len(v) == 0
}

// appendField appends a member to an object that is being written; nil is one without any.
func appendField(b []byte, name string, value jsontext.Value) []byte {
	if b == nil {
		b = append(b, '{')
	} else {
		b = append(b, ',')
	}
	return append(append(appendQuoted(b, name), ':'), value...)
}

func closeObject(b []byte) jsontext.Value {
	if b == nil {
		return nil
	}
	return append(b, '}')
}

// appendQuoted quotes a text that is known to be valid UTF-8.
func appendQuoted(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

func quoted(s string) jsontext.Value { return appendQuoted(nil, s) }

func unquote(v jsontext.Value) string {
	b, _ := jsontext.AppendUnquote(nil, v)
	return string(b)
}

// compact is a value without white space.
func compact(v jsontext.Value) jsontext.Value {
	b, err := jsontext.AppendFormat(nil, v)
	if err != nil {
		return v
	}
	return b
}

// textOf is a value as a text: a string's own, otherwise its JSON.
func textOf(v jsontext.Value) string {
	if v.Kind() == '"' {
		return unquote(v)
	}
	return string(compact(v))
}
