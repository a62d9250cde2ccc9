package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/afterword-io/afterword/internal/exchange"
	"github.com/afterword-io/afterword/transcript"
)

// Formats of an export.
const (
	formatMarkdown = "markdown"
	formatLines    = "jsonl"
	formatOlder    = "json"
)

// format writes transcripts in one way.
type format struct {
	suffix              string
	begin, between, end string // around and between the sessions of a file
	// render writes the turns of a session, which are all of them. leaf is the turn in which the branch
	// ends that is chosen, "" when none is.
	render func(dst []byte, session string, turns []transcript.Snapshot, leaf string) ([]byte, error)
}

func exportFormat(name string) (format, error) {
	switch name {
	case formatMarkdown:
		return format{suffix: ".md", render: appendMarkdown}, nil
	case formatLines:
		return format{suffix: ".jsonl", render: ofBranch(appendLines)}, nil
	case formatOlder:
		return format{suffix: ".json", render: ofBranch(appendOlder)}, nil
	case "chatgpt", "claude": // exports of these are an array of conversations
		return format{suffix: ".json", begin: "[\n", between: ",\n", end: "\n]\n", render: inFormat(name)}, nil
	}
	if slices.Contains(exchange.Names(), name) {
		return format{suffix: ".json", between: "\n", end: "\n", render: inFormat(name)}, nil
	}
	return format{}, fmt.Errorf("--format %q: use %s", name, strings.Join(exportFormats(), ", "))
}

// exportFormats are the names of all formats.
func exportFormats() []string {
	return append([]string{formatMarkdown, formatLines, formatOlder}, exchange.Names()...)
}

func inFormat(name string) func([]byte, string, []transcript.Snapshot, string) ([]byte, error) {
	return func(dst []byte, session string, turns []transcript.Snapshot, leaf string) ([]byte, error) {
		return exchange.Append(dst, name, session, turns, leaf)
	}
}

// ofBranch renders the turns of the branch that is chosen, else all.
func ofBranch(render func([]byte, string, []transcript.Snapshot) ([]byte, error)) func([]byte, string, []transcript.Snapshot, string) ([]byte, error) {
	return func(dst []byte, session string, turns []transcript.Snapshot, leaf string) ([]byte, error) {
		if leaf == "" {
			return render(dst, session, turns)
		}
		lines := transcript.NewLineage(turns)
		end := lines.Place(leaf)
		if end < 0 {
			return nil, transcript.ErrNoTurn
		}
		branch, err := lines.Branch(end)
		if err != nil {
			return nil, err
		}
		var chosen []transcript.Snapshot
		for i, in := range branch {
			if in {
				chosen = append(chosen, turns[i])
			}
		}
		return render(dst, session, chosen)
	}
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
