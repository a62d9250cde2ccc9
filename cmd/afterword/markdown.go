package main

import (
	"fmt"
	"strings"

	"github.com/afterword-io/afterword/internal/terminal"
	"github.com/afterword-io/afterword/transcript"
)

// appendMarkdown writes a transcript for reading. Nothing that was said is active: texts are in
// fences longer than any run of backticks in them, all else that people or models wrote is a code
// span, and characters with which a text could steer a terminal or pass for another one are
// replaced. Without a leaf it has all turns, and says which ones are of another branch than the recent history.
func appendMarkdown(dst []byte, session string, turns []transcript.Snapshot, leaf string) ([]byte, error) {
	dst = fmt.Appendf(dst, "# Session %s\n", span(session))
	lines := transcript.NewLineage(turns)
	end := lines.Newest()
	if leaf != "" {
		if end = lines.Place(leaf); end < 0 {
			return nil, transcript.ErrNoTurn
		}
	}
	branch, err := lines.Branch(end)
	if err != nil {
		return nil, err
	}
	for i := range turns {
		where := ""
		switch parent := lines.Parent(i); {
		case !branch[i] && leaf != "":
			continue
		case !branch[i]:
			where = ", of another branch"
			fallthrough
		case turns[i].HasParent || turns[i].Supersedes != "":
			if parent >= 0 {
				where += ", follows " + span(turns[parent].ID)
			}
		}
		if dst, err = appendTurn(append(dst, '\n'), &turns[i], where); err != nil {
			return nil, err
		}
	}
	return append(dst, '\n'), nil
}

// appendTurn writes a turn, and where it is among the branches.
func appendTurn(dst []byte, s *transcript.Snapshot, where string) ([]byte, error) {
	t, err := s.Turn()
	if err != nil {
		return nil, err
	}
	dst = fmt.Appendf(dst, "## %s\n\nTurn %s", s.Timestamp.Time().Format("2006-01-02 15:04:05 UTC"), span(s.ID))
	if s.Status != transcript.Complete {
		dst = fmt.Appendf(dst, ", %s", s.Status)
	}
	dst = append(dst, where...)
	if s.Supersedes != "" {
		dst = fmt.Appendf(dst, ", supersedes %s", span(s.Supersedes))
	}
	if t.Model != "" {
		dst = fmt.Appendf(dst, ", model %s", span(t.Model))
	}
	if t.Error != "" {
		dst = fmt.Appendf(dst, ", error %s", span(t.Error))
	}
	dst = append(dst, '\n')
	dst = appendSaid(dst, "User", t.User)
	for _, a := range t.Attachments {
		dst = fmt.Appendf(dst, "\n* attachment %s\n", span(a.URI+" "+a.MediaType))
	}
	for _, call := range t.ToolCalls {
		dst = fmt.Appendf(dst, "\n* tool call %s\n", span(call.Name+" "+call.Status))
	}
	if t.Assistant != "" {
		dst = appendSaid(dst, "Assistant", t.Assistant)
	}
	return dst, nil
}

// appendSaid writes a text in a fence.
func appendSaid(dst []byte, who, text string) []byte {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = harmless(strings.ReplaceAll(text, "\r", "\n"))
	fence := strings.Repeat("`", max(3, longestRun(text)+1))
	return fmt.Appendf(dst, "\n**%s**\n\n%stext\n%s\n%s\n", who, fence, strings.TrimRight(text, "\n"), fence)
}

// span is a text on one line, as code.
func span(s string) string {
	s = strings.Join(strings.Fields(harmless(s)), " ")
	if s == "" {
		return "(none)"
	}
	ticks := strings.Repeat("`", longestRun(s)+1)
	if s[0] == '`' || s[len(s)-1] == '`' {
		s = " " + s + " "
	}
	return ticks + s + ticks
}

// longestRun is the length of the longest run of backticks.
func longestRun(s string) (longest int) {
	run := 0
	for i := range len(s) {
		if run++; s[i] != '`' {
			run = 0
		}
		longest = max(longest, run)
	}
	return longest
}

// harmless replaces control characters, with which a text could steer a terminal, and characters
// that are not seen and change how others are: their order, or what ends a line. The joiners that
// scripts and emoji need stay.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\u200c' || r == '\u200d':
			return r
		case terminal.Harmful(r):
			return '\uFFFD'
		}
		return r
	}, s)
}
