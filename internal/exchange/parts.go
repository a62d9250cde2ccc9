package exchange

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// content takes what a message says: a text, or a list of texts and parts. What of it is a tool's
// result is a message of its own, which is returned.
func (m *message) content(v jsontext.Value, at string) (results []message, err error) {
	switch v.Kind() {
	case 0, 'n':
		return nil, nil
	case '"':
		m.texts = append(m.texts, unquote(v))
		return nil, nil
	case '{':
		return m.part(v, at)
	case '[':
	default:
		return nil, wrongKind(at, "a string or an array of parts", v)
	}
	list, err := elements(v, at)
	if err != nil {
		return nil, err
	}
	for i, e := range list {
		if e.Kind() == '"' {
			m.texts = append(m.texts, unquote(e))
			continue
		}
		r, err := m.part(e, index(at, i))
		if err != nil {
			return nil, err
		}
		results = append(results, r...)
	}
	return results, nil
}

// part takes one part of a content.
func (m *message) part(v jsontext.Value, at string) (results []message, err error) {
	o, err := objectOf(v, at)
	if err != nil {
		return nil, wrongKind(at, "a string or an object", v)
	}
	kind, err := o.text("type")
	if err != nil {
		return nil, err
	}
	switch {
	case kind == "text" || kind == "input_text" || kind == "output_text" || kind == "" && o.has("text"):
		return nil, m.textPart(o, "text", kind)
	case kind == "refusal":
		return nil, m.textPart(o, "refusal", kind)
	case kind == "tool_use" || kind == "tool_call" || kind == "server_tool_use" || kind == "mcp_tool_use":
		c := call{id: o.label("id"), name: o.label("name"), arguments: o.any("input")}
		if c.arguments == nil {
			c.arguments = o.any("args")
		}
		m.calls = append(m.calls, c)
		if kind != "tool_use" && kind != "tool_call" {
			o.put("type", quoted(kind))
		}
		m.keep(o)
		return nil, nil
	case strings.HasSuffix(kind, "tool_result") && o.has("tool_use_id") || kind == "tool_result":
		r := message{role: tool, result: &result{id: o.label("tool_use_id", "tool_call_id"), value: resultOf(o.any("content"))}}
		if kind != "tool_result" {
			o.put("type", quoted(kind))
		}
		r.extra = o.rest()
		return []message{r}, nil
	case kind == "":
		return nil, refuse(under(at, "type"), "is missing: a part says what it is")
	}
	if uri, media := imageOf(o, kind); uri != "" {
		b := appendField(nil, "uri", quoted(uri))
		if media != "" {
			b = appendField(b, "media_type", quoted(media))
		}
		m.attachments = append(m.attachments, closeObject(b))
		m.keep(o)
		return nil, nil
	}
	m.others = append(m.others, compact(v))
	return nil, nil
}

// textPart takes a part that is a text. Citations and their like have no place.
func (m *message) textPart(o *object, name, kind string) error {
	if v := o.peek(name); v.Kind() == '{' { // {"value":…,"annotations":…}
		inner, err := o.object(name)
		if err != nil {
			return err
		}
		s, err := inner.text("value")
		if err != nil {
			return err
		}
		m.texts = append(m.texts, s)
		if rest := inner.rest(); rest != nil {
			m.others = append(m.others, rest)
		}
		return nil
	}
	if o.peek(name) == nil {
		return refuse(o.path(name), "is missing: a part of type %s has it", kind)
	}
	s, err := o.text(name)
	if err != nil {
		return err
	}
	m.texts = append(m.texts, s)
	m.keep(o)
	return nil
}

// keep notes what of a part has no place.
func (m *message) keep(o *object) {
	if rest := o.rest(); rest != nil {
		m.others = append(m.others, rest)
	}
}

// imageOf takes where an image, a sound or a file is.
func imageOf(o *object, kind string) (uri, media string) {
	switch kind {
	case "file", "input_audio":
		inner, err := objectOf(o.peek(kind), "")
		if err != nil {
			return "", ""
		}
		o.take(kind)
		defer func() { o.put(kind, inner.rest()) }()
		if kind == "file" {
			return inner.label("file_id", "file_data"), ""
		}
		return inner.data("data", "audio/"+orElse(inner.label("format"), "wav"))
	case "image_url", "input_image", "video_url":
		name := "image_url"
		if kind == "video_url" {
			name = kind
		}
		if inner, err := objectOf(o.peek(name), ""); err == nil {
			o.take(name)
			uri = inner.label("url")
			o.put(name, inner.rest())
			return uri, ""
		}
		if uri = o.label(name); uri == "" {
			uri = o.label("file_id")
		}
		return uri, ""
	case "image", "document", "audio", "video":
		source, err := objectOf(o.peek("source"), "")
		switch {
		case err != nil && (o.peek("base64") != nil || o.peek("data") != nil):
			return o.data("base64", o.label("mime_type"))
		case err != nil:
			return o.label("url", "file_id", "id"), o.label("mime_type")
		}
		media = source.label("media_type")
		switch source.label("type") {
		case "url":
			uri = source.label("url")
		case "base64":
			uri, media = source.data("data", media)
		case "file":
			uri = source.label("file_id")
		}
		if uri != "" {
			o.take("source")
			o.put("source", source.rest())
		}
		return uri, media
	case "input_file":
		return o.label("file_url", "file_id", "file_data"), ""
	case "image_asset_pointer":
		return o.label("asset_pointer"), ""
	case "media":
		return o.label("file_uri"), o.label("mime_type")
	}
	return "", ""
}

// data takes what is there in base64 as the URI that has it in itself.
func (o *object) data(name, media string) (uri, mediaType string) {
	text := o.label(name, "data")
	if text == "" {
		return "", media
	}
	return "data:" + media + ";base64," + text, media
}

// resultOf is what a tool answered: the one text of a list, or the value as it is.
func resultOf(v jsontext.Value) jsontext.Value {
	switch v.Kind() {
	case 0:
		return quoted("")
	case '[':
		list, err := elements(v, "")
		if err != nil || len(list) != 1 {
			return compact(v)
		}
		o, err := objectOf(list[0], "")
		if err != nil || o.label("type") != "text" || o.peek("text").Kind() != '"' {
			return compact(v)
		}
		s := o.take("text")
		if o.rest() != nil {
			return compact(v)
		}
		return compact(s)
	}
	return compact(v)
}
