package transcript

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

var parsers = sync.Pool{New: func() any { return &parser{dec: jsontext.NewDecoder(bytes.NewReader(nil))} }}

// parser reads one object member by member.
type parser struct {
	src  bytes.Buffer
	dec  *jsontext.Decoder
	data []byte
}

func (p *parser) reset(data []byte, opts ...jsontext.Options) {
	p.data = data
	p.src = *bytes.NewBuffer(data) // a Buffer is decoded in place, without a copy
	p.dec.Reset(&p.src, opts...)
}

func (p *parser) release() {
	p.data = nil
	p.src = bytes.Buffer{}
	p.dec.Reset(&p.src)
	parsers.Put(p)
}

// object calls fn for every member of the one object in the input. Its first
// rule error is returned once all of the input has been read.
func (p *parser) object(fn func(name string, value jsontext.Value) error) error {
	kind := p.dec.PeekKind()
	if kind != '{' {
		if err := p.checkDepth(MaxDepth); err != nil {
			return err
		}
		if _, err := p.dec.ReadValue(); err != nil {
			return syntaxError(err)
		}
		if err := p.end(); err != nil {
			return err
		}
		return &RuleError{Rule: "the turn must be a JSON object, not " + KindName(kind)}
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	var rule error
	for p.dec.PeekKind() != '}' {
		raw, err := p.dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		name := memberName(raw)
		if k := p.dec.PeekKind(); k == '{' || k == '[' {
			if err := p.checkDepth(MaxDepth - 1); err != nil {
				return err
			}
		}
		value, err := p.dec.ReadValue()
		if err != nil {
			return syntaxError(err)
		}
		if rule == nil {
			rule = fn(name, value)
		}
	}
	if _, err := p.dec.ReadToken(); err != nil {
		return syntaxError(err)
	}
	if err := p.end(); err != nil {
		return err
	}
	return rule
}

// end expects nothing after the value.
func (p *parser) end() error {
	_, err := p.dec.ReadToken()
	switch {
	case err == io.EOF:
		return nil
	case err != nil:
		return syntaxError(err)
	}
	return &SyntaxError{Offset: p.dec.InputOffset(), Reason: "there is more after the turn"}
}

// memberName returns the name that raw quotes, without an allocation for those
// that every turn has.
func memberName(raw jsontext.Value) string {
	switch string(raw) {
	case `"id"`:
		return "id"
	case `"session_id"`:
		return sessionMember
	case `"timestamp"`:
		return "timestamp"
	case `"user"`:
		return "user"
	case `"assistant"`:
		return "assistant"
	case `"status"`:
		return "status"
	case `"rev"`:
		return "rev"
	}
	name, _ := jsontext.AppendUnquote(nil, raw) // checked by the decoder
	return string(name)
}

// checkDepth bounds the nesting of the value that comes next, before anything
// recurses into it.
func (p *parser) checkDepth(limit int) error {
	depth, inString := 0, false
	for i := int(p.dec.InputOffset()); i < len(p.data); i++ {
		switch c := p.data[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return &SyntaxError{Offset: int64(i), Reason: fmt.Sprintf("nested deeper than %d", MaxDepth)}
			}
		case c == '}' || c == ']':
			if depth--; depth <= 0 {
				return nil
			}
		}
	}
	return nil
}
