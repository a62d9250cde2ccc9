package docs_test

import (
	"cmp"
	"fmt"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const operations = "docs/operations.md"

// helped are the commands whose flags the page lists.
func helped() []string { return []string{"serve", "gateway", "consume", "console", "publish"} }

// flagLine is a flag as --help shows it: name, type, text, environment variable, default.
var flagLine = regexp.MustCompile(`(?m)^ +--([a-z-]+)(?: (\S+))?  +(.*?) \[\$([A-Z_]+)\](?: \(default "?([^"]*?)"?\))?$`)

type flagDoc struct {
	name, env       string
	commands        []string
	texts, defaults variants
}

// variants are what commands say of a flag: mostly the same.
type variants struct {
	said     []string
	commands map[string][]string
}

func (v *variants) add(text, command string) {
	if v.commands == nil {
		v.commands = make(map[string][]string)
	}
	if v.commands[text] == nil {
		v.said = append(v.said, text)
	}
	v.commands[text] = append(v.commands[text], command)
}

// String lists them, with their commands when they differ.
func (v *variants) String() string {
	if len(v.said) == 1 {
		return v.said[0]
	}
	var all []string
	for _, text := range v.said {
		all = append(all, cmp.Or(text, "none")+" ("+strings.Join(v.commands[text], ", ")+")")
	}
	return strings.Join(all, "; ")
}

// flagsOf asks the commands for their flags.
func flagsOf(t *testing.T) map[string]*flagDoc {
	t.Helper()
	path, all := binary(t), make(map[string]*flagDoc)
	for _, command := range helped() {
		help, err := exec.Command(path, command, "--help").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range flagLine.FindAllStringSubmatch(string(help), -1) {
			f := all[m[1]]
			if f == nil {
				f = &flagDoc{name: m[1], env: m[4]}
				all[m[1]] = f
			}
			f.commands = append(f.commands, command)
			f.texts.add(strings.NewReplacer("<", "&lt;", "|", "&#124;").Replace(m[3]), command)
			def := m[5]
			if def != "" {
				def = "`" + def + "`"
			}
			f.defaults.add(def, command)
		}
	}
	return all
}

func TestFlagsOfThePage(t *testing.T) {
	var want strings.Builder
	want.WriteString("\n| flag | environment | default | commands | |\n|---|---|---|---|---|\n")
	all := flagsOf(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		who := strings.Join(f.commands, ", ")
		if len(f.commands) == len(helped()) {
			who = "all"
		}
		fmt.Fprintf(&want, "| `--%s` | `%s` | %s | %s | %s |\n", f.name, f.env, f.defaults.String(), who, f.texts.String())
	}
	want.WriteString("\n")
	if got := between(t, operations, "flags", want.String()); got != want.String() {
		t.Errorf("the flags of %s are not those of the commands; run: go test ./docs -update", operations)
	}
}
