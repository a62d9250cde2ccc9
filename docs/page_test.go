// Package docs_test holds the pages of the documentation against the code: what
// they print is run, what they list is compared with what there is.
package docs_test

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the lists that are made from the code")

const root = ".."

// page reads a file of the repository.
func page(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fences returns the fenced blocks of a page whose info string is kind.
func fences(t *testing.T, name, kind string) (texts []string) {
	t.Helper()
	for _, b := range blocks(t, name) {
		if b.kind == kind {
			texts = append(texts, b.text)
		}
	}
	return texts
}

// rows returns the cells of the lines of a page that are rows of a table with n
// columns, its headings included. Code marks are taken off a cell that is one piece of code.
func rows(text string, n int) (table [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if len(cells) != n {
			continue
		}
		for i, c := range cells {
			c = strings.TrimSpace(c)
			if k := len(c); k > 2 && c[0] == '`' && strings.Count(c, "`") == 2 && c[k-1] == '`' {
				c = c[1 : k-1]
			}
			cells[i] = c
		}
		table = append(table, cells)
	}
	return table
}

// binary is afterword, built once.
func binary(t *testing.T) string {
	t.Helper()
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildDir string

var built = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "bin", "afterword")
	return path, goBuild(path, "./cmd/afterword")
})

func goBuild(out, what string) error {
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, what) // not with -race: pages are about what is printed
	cmd.Dir = root
	if text, err := cmd.CombinedOutput(); err != nil {
		return &buildError{what, string(text), err}
	}
	return nil
}

type buildError struct {
	what, output string
	err          error
}

func (e *buildError) Error() string {
	return "go build " + e.what + ": " + e.err.Error() + "\n" + e.output
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "afterword-docs-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		buildDir = dir
		return m.Run()
	}())
}

// between returns what a page has between two comments, and with -update writes
// want there first.
func between(t *testing.T, name, section, want string) string {
	t.Helper()
	text := page(t, name)
	begin, end := "<!-- "+section+": made by `go test ./docs -update` -->\n", "<!-- /"+section+" -->\n"
	before, rest, ok := strings.Cut(text, begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no section %s", name, section)
	}
	if *update && got != want {
		if err := os.WriteFile(filepath.Join(root, name), []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return want
	}
	return got
}

// TestLinks checks that what the pages point to is there.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, name := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(page(t, name), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s points to %s: %v", name, m[1], err)
			}
		}
	}
}
