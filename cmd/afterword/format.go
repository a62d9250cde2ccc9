package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/transcript"
)

// Formats of an export.
const (
	formatMarkdown = "markdown"
	formatLines    = "jsonl"
	formatOlder    = "json"
)

// format writes a transcript in one way.
type format struct {
	suffix string
	render func(dst []byte, session string, turns []transcript.Snapshot) ([]byte, error)
}

func exportFormat(name string) (format, error) {
	switch name {
	case formatMarkdown:
		return format{".md", appendMarkdown}, nil
	case formatLines:
		return format{".jsonl", appendLines}, nil
	case formatOlder:
		return format{".json", appendOlder}, nil
	}
	return format{}, fmt.Errorf("--format %q: use %s, %s or %s", name, formatMarkdown, formatLines, formatOlder)
}

// appendLines writes a turn a line, as it is published.
func appendLines(dst []byte, _ string, turns []transcript.Snapshot) ([]byte, error) {
	for i := range turns {
		dst = append(turns[i].AppendPayload(dst), '\n')
	}
	return dst, nil
}

// appendOlder writes the document of the system that kept one JSON object a session.
func appendOlder(dst []byte, session string, turns []transcript.Snapshot) ([]byte, error) {
	text := func(s string) { dst, _ = jsontext.AppendQuote(dst, s) } // checked when the turn was accepted
	updated := transcript.Instant(0)
	dst = append(dst, `{"session_id":`...)
	text(session)
	dst = append(dst, `,"created_at":`...)
	if len(turns) > 0 {
		text(turns[0].Timestamp.String())
	} else {
		dst = append(dst, "null"...)
	}
	dst = append(dst, `,"messages":[`...)
	for i := range turns {
		t := &turns[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		user, assistant := t.Exchange()
		dst = append(dst, `{"timestamp":`...)
		text(t.Timestamp.String())
		dst = append(dst, `,"user":`...)
		text(user)
		dst = append(dst, `,"assistant":`...)
		text(assistant)
		dst = append(dst, '}')
		updated = max(updated, t.At())
	}
	dst = append(dst, `],"updated_at":`...)
	text(updated.String())
	dst = append(dst, `,"message_count":`...)
	dst = strconv.AppendInt(dst, int64(len(turns)), 10)
	return append(dst, "}\n"...), nil
}

// appendMarkdown writes a transcript for reading. What was said is quoted, so that a
// heading in it is not one of the page.
func appendMarkdown(dst []byte, session string, turns []transcript.Snapshot) ([]byte, error) {
	dst = fmt.Appendf(dst, "# Session %s\n", harmless(session))
	for i := range turns {
		var err error
		if dst, err = appendTurn(append(dst, '\n'), &turns[i]); err != nil {
			return nil, err
		}
	}
	return append(dst, '\n'), nil
}

func appendTurn(dst []byte, s *transcript.Snapshot) ([]byte, error) {
	t, err := s.Turn()
	if err != nil {
		return nil, err
	}
	dst = fmt.Appendf(dst, "## %s\n\nTurn `%s`", s.Timestamp.Time().Format("2006-01-02 15:04:05 UTC"), s.ID)
	if s.Status != transcript.Complete {
		dst = fmt.Appendf(dst, ", %s", s.Status)
	}
	if t.Model != "" {
		dst = fmt.Appendf(dst, ", model %s", line1(t.Model))
	}
	if t.Error != "" {
		dst = fmt.Appendf(dst, ", error: %s", line1(t.Error))
	}
	dst = append(dst, '\n')
	dst = appendQuoted(dst, "User", t.User)
	for _, a := range t.Attachments {
		dst = fmt.Appendf(dst, "\n* attachment %s\n", line1(strings.TrimSpace(a.URI+" "+a.MediaType)))
	}
	for _, call := range t.ToolCalls {
		dst = fmt.Appendf(dst, "\n* tool call %s\n", line1(strings.TrimSpace(call.Name+" "+call.Status)))
	}
	if t.Assistant != "" {
		dst = appendQuoted(dst, "Assistant", t.Assistant)
	}
	return dst, nil
}

func appendQuoted(dst []byte, who, text string) []byte {
	dst = fmt.Appendf(dst, "\n**%s**\n\n", who)
	for l := range strings.SplitSeq(strings.TrimRight(harmless(text), "\n"), "\n") {
		dst = append(append(append(dst, "> "...), l...), '\n')
	}
	return dst
}

// line1 is a text on one line.
func line1(s string) string { return strings.Join(strings.Fields(harmless(s)), " ") }

// harmless replaces control characters, with which a text could steer a terminal.
func harmless(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
			return '\uFFFD'
		}
		return r
	}, s)
}
