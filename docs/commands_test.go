package docs_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const commands = "docs/commands.md"

// helpOf is what a command says of itself.
type helpOf struct {
	path        []string
	short       string // as the command above lists it
	text, usage string // before and from "Usage:" on
}

// name is the command as it is called.
func (h *helpOf) name() string { return strings.Join(append([]string{"afterword"}, h.path...), " ") }

var listedCommand = regexp.MustCompile(`(?m)^  ([a-z]+) {2,}(.*)$`)

// helps asks a command and all below it.
func helps(t *testing.T, short string, path ...string) (all []helpOf) {
	t.Helper()
	out, err := exec.Command(binary(t), append(path, "--help")...).Output()
	if err != nil {
		t.Fatalf("%q: %v", path, err)
	}
	text, usage, ok := strings.Cut(string(out), "\nUsage:\n")
	if !ok {
		t.Fatalf("%q has no usage:\n%s", path, out)
	}
	all = append(all, helpOf{path, short, strings.TrimSpace(text), "Usage:\n" + strings.TrimRight(usage, "\n")})
	_, list, _ := strings.Cut(usage, "\nAvailable Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for _, m := range listedCommand.FindAllStringSubmatch(list, -1) {
		if m[1] != "help" {
			all = append(all, helps(t, m[2], append(append([]string{}, path...), m[1])...)...)
		}
	}
	return all
}

// escape keeps text from being taken for Markdown.
var escape = strings.NewReplacer("*", `\*`, "<", "&lt;", "|", "&#124;")

// fenced is the text of a command as a page has it. Indented lines are commands.
func fenced(text string) string {
	var b strings.Builder
	inside := false
	for line := range strings.Lines(text + "\n") {
		command, ok := strings.CutPrefix(line, "\t")
		switch {
		case ok && !inside:
			b.WriteString("```" + notRun + "it is about your own shell\n")
		case !ok && inside:
			b.WriteString("```\n")
		}
		if inside = ok; inside {
			b.WriteString(command)
		} else {
			b.WriteString(escape.Replace(line))
		}
	}
	if inside {
		b.WriteString("```\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// TestCommandsOfThePage holds the page against --help of every command.
func TestCommandsOfThePage(t *testing.T) {
	all := helps(t, "Keep chat transcripts out of the response path")
	if len(all) < 30 {
		t.Errorf("only %d commands were found", len(all))
	}
	var want strings.Builder
	want.WriteString("\n| command | |\n|---|---|\n")
	for _, h := range all {
		anchor := strings.ReplaceAll(h.name(), " ", "-")
		fmt.Fprintf(&want, "| [`%s`](#%s) | %s |\n", h.name(), anchor, escape.Replace(h.short))
	}
	for _, h := range all {
		fmt.Fprintf(&want, "\n## %s\n\n%s\n\n```help\n%s\n```\n", h.name(), fenced(h.text), h.usage)
	}
	want.WriteString("\n")
	if got := between(t, commands, "commands", want.String()); got != want.String() {
		t.Errorf("%s is not what the commands say; run: go test ./docs -update", commands)
	}
}
