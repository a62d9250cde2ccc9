package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that docs/guarantees.md names is there.
func TestGuaranteesNameTests(t *testing.T) {
	var sources []string
	for _, dir := range []string{"../internal/acceptance", "../transcript"} {
		files, err := filepath.Glob(dir + "/*_test.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("the tests of %s are not found: %v", dir, err)
		}
		sources = append(sources, files...)
	}
	var all strings.Builder
	for _, path := range sources {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	page, err := os.ReadFile("guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(string(page), -1)
	if len(names) < 20 {
		t.Errorf("the page names %d tests", len(names))
	}
	for _, name := range names {
		if !strings.Contains(all.String(), "func "+name) { // the beginning of a name stands for all that go on so
			t.Errorf("there is no %s", name)
		}
	}
}
