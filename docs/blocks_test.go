package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every fenced block of a page is one of three things:
//
//   - `sh`: commands, all of which TestSessions runs, in the order of the page;
//   - `sh not-run: REASON`: commands that no test runs, and why. What they call of
//     afterword, of make and of deploy/ is looked up all the same;
//   - one of dataBlocks, which are no commands.
const notRun = "sh not-run: "

// dataBlocks are the blocks that are no commands, and what holds them.
var dataBlocks = map[string]string{
	"go":             "TestSessions builds and runs it",
	"json sent":      "TestCanonicalEncodingOfThePage",
	"json canonical": "TestCanonicalEncodingOfThePage",
	"conf":           "TestSettingsOfThePages",
	"nginx":          "TestProxies of internal/e2e runs nginx with it",
	"caddyfile":      "TestProxies of internal/e2e runs Caddy with it",
	"help":           "TestCommandsOfThePage compares it; the tests of the commands run its examples, or list why not",
}

// pages are all that this documentation has.
func pages(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("*.md")
	if err != nil || len(names) < 10 {
		t.Fatalf("docs has the pages %v: %v", names, err)
	}
	for i, name := range names {
		names[i] = "docs/" + name
	}
	return append(names, "README.md")
}

// block is a fenced block of a page.
type block struct {
	kind string // its info string
	text string
}

// blocks reads all fenced blocks of a page, and refuses what a reader of the page
// would take for one and no test would see.
func blocks(t *testing.T, name string) (all []block) {
	t.Helper()
	inside := false
	for line := range strings.Lines(page(t, name)) {
		kind, fence := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "```")
		switch {
		case fence && inside && kind == "":
			inside = false
		case fence && !inside:
			inside = true
			all = append(all, block{kind: kind})
		case fence:
			t.Errorf("%s: a block ends with ```%s", name, kind)
		case inside:
			all[len(all)-1].text += line
		case regexp.MustCompile("^\\s+```|^\\s*~~~|^(    |\t)\\S").MatchString(line):
			t.Errorf("%s: %q begins a block that no test sees: fence it with ```, at the beginning of the line", name, line)
		}
	}
	if inside {
		t.Errorf("%s: its last block does not end", name)
	}
	return all
}

// Every block is run, or says why it is not, or is no command.
func TestBlocks(t *testing.T) {
	played, ran, left := sessions(), 0, 0
	for _, name := range pages(t) {
		for _, b := range blocks(t, name) {
			reason, marked := strings.CutPrefix(b.kind, notRun)
			switch {
			case b.kind == "sh":
				ran++
				if played[name] == nil {
					t.Errorf("%s has commands, and TestSessions does not run that page:\n%s", name, b.text)
				}
			case marked && len(strings.Fields(reason)) >= 3:
				left++
			case dataBlocks[b.kind] == "":
				t.Errorf("%s has a block ```%s, which is none of sh, %sREASON, and %v:\n%s", name, b.kind, notRun, dataBlocks, b.text)
			}
		}
	}
	for name := range played {
		if !slices.ContainsFunc(blocks(t, name), func(b block) bool { return b.kind == "sh" }) {
			t.Errorf("%s has no commands that could be run", name)
		}
	}
	if ran < 15 || left < 5 {
		t.Errorf("only %d blocks are run, and %d are marked", ran, left)
	}
}

// codeSpan is a command in running text.
var codeSpan = regexp.MustCompile("`((?:bin/)?afterword [^`]+|make [^`]+|deploy/backup[^`]*|systemctl [^`]+)`")

// Every command, flag, make target, unit and script is there, of the commands that
// are not run and of those in running text, too.
func TestCommandsAreThere(t *testing.T) {
	makefile, n := page(t, "Makefile"), 0
	for _, name := range pages(t) {
		var lines []string
		outside := page(t, name)
		for _, b := range blocks(t, name) {
			outside = strings.ReplaceAll(outside, b.text, "")
			if strings.HasPrefix(b.kind, "sh") {
				lines = append(lines, strings.Split(strings.ReplaceAll(b.text, "\\\n", ""), "\n")...)
			}
		}
		for _, m := range codeSpan.FindAllStringSubmatch(outside, -1) {
			lines = append(lines, m[1])
		}
		for _, line := range lines {
			line = regexp.MustCompile(` [#|>].*`).ReplaceAllString(line, "") // of a pipe, its beginning
			words := strings.Fields(line)
			for len(words) > 0 && (words[0] == "sudo" || regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0])) {
				words = words[1:]
			}
			if len(words) == 0 {
				continue
			}
			n++
			switch words[0] {
			case "afterword", "bin/afterword":
				calls(t, name+": "+line, words[1:])
			case "make":
				if !strings.Contains(makefile, "\n"+words[1]+":") {
					t.Errorf("%s: %s: there is no such target", name, line)
				}
			case "systemctl":
				unit := regexp.MustCompile(`@.*`).ReplaceAllString(words[len(words)-1], "@")
				if _, err := os.Stat(filepath.Join(root, "deploy/systemd", unit+".service")); err != nil && strings.HasPrefix(unit, "afterword-") {
					t.Errorf("%s: %s: %v", name, line, err)
				}
			case "deploy/backup":
				if _, err := os.Stat(filepath.Join(root, words[0])); err != nil {
					t.Errorf("%s: %s: %v", name, line, err)
				}
			}
		}
	}
	if n < 80 {
		t.Errorf("only %d commands were found", n)
	}
}

// helpTexts are what commands say of themselves, asked once.
var helpTexts = make(map[string]string)

// calls looks up a command of afterword and its flags.
func calls(t *testing.T, line string, words []string) {
	t.Helper()
	var command, used []string
	for _, w := range words {
		switch name, _, _ := strings.Cut(w, "="); {
		case strings.HasPrefix(w, "--"):
			used = append(used, name)
		case len(used) == 0 && regexp.MustCompile(`^[a-z]+$`).MatchString(w):
			command = append(command, w)
		}
	}
	path := strings.Join(command, " ")
	help, known := helpTexts[path]
	if !known {
		out, err := exec.Command(binary(t), append(command, "--help")...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
		help = string(out)
		helpTexts[path] = help
	}
	if !strings.Contains(help, "afterword "+path) {
		t.Errorf("%s: there is no `afterword %s`", line, path)
	}
	for _, name := range used {
		if !regexp.MustCompile(`(?m)^ +(?:-\w, )?` + regexp.QuoteMeta(name) + `\b`).MatchString(help) {
			t.Errorf("%s: `afterword %s` has no %s", line, path, name)
		}
	}
}

// The files of settings that the pages show are accepted.
func TestSettingsOfThePages(t *testing.T) {
	n := 0
	for _, name := range pages(t) {
		for _, b := range blocks(t, name) {
			if b.kind != "conf" {
				continue
			}
			n++
			file := filepath.Join(t.TempDir(), "afterword.conf")
			if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(binary(t), "config", "check", "--config", file).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s\n%s", name, err, out, b.text)
			}
		}
	}
	if n == 0 {
		t.Error("no file of settings was found")
	}
}
