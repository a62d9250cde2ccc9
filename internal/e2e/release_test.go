//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// checkout copies what is in the repository, changes included, into a folder.
func checkout(t *testing.T, dir string) string {
	t.Helper()
	for name := range strings.SplitSeq(strings.TrimRight(run(t, repository, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00"), "\x00") {
		from, to := filepath.Join(repository, name), filepath.Join(dir, name)
		info, err := os.Stat(from)
		if os.IsNotExist(err) {
			continue // removed, and not committed
		}
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o755)
		}
		if err == nil {
			err = os.WriteFile(to, b, info.Mode().Perm())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// release makes a release of a checkout, on this machine's architecture only.
func release(t *testing.T, tree, umask string, env ...string) (out string) {
	t.Helper()
	out = filepath.Join(tree, "dist")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "umask "+umask+" && exec deploy/release/build dist")
	cmd.Dir = tree
	cmd.Env = append(append(os.Environ(), "VERSION=v1.2.3", "COMMIT="+strings.Repeat("a", 40), "SOURCE_DATE_EPOCH=1790000000",
		"ARCHES="+runtime.GOARCH, "DEB_COMPRESSION=gzip"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// link is one of a page to a file beside it.
var link = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

// linksLead checks that what the pages in a folder link to is there.
func linksLead(t *testing.T, dir string) {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(dir, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range append(pages, filepath.Join(dir, "README.md"), filepath.Join(dir, "CHANGELOG.md")) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			found++
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there: %v", name, m[1], err)
			}
		}
	}
	if found < 80 {
		t.Errorf("only %d links were found in %s", found, dir)
	}
}

// A release is the same bytes from two folders, by two people with other settings;
// its sums are right; and its SBOM has what is linked.
func TestRelease(t *testing.T) {
	one := release(t, checkout(t, filepath.Join(t.TempDir(), "a")), "022", "TZ=Asia/Tokyo", "LC_ALL=C")
	two := release(t, checkout(t, filepath.Join(t.TempDir(), "another", "folder")), "077", "TZ=America/New_York", "GOAMD64=v3", "HOME="+os.Getenv("HOME"))
	name := "afterword_1.2.3_linux_" + runtime.GOARCH
	for _, file := range []string{name + ".tar.gz", name + ".deb", name + ".cdx.json", "SHA256SUMS"} {
		a, err := os.ReadFile(filepath.Join(one, file))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(two, file))
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("%s is not the same twice: %d and %d bytes", file, len(a), len(b))
		}
	}
	run(t, one, "sha256sum", "--check", "--strict", "SHA256SUMS")

	run(t, one, "tar", "-xzf", name+".tar.gz")
	linksLead(t, filepath.Join(one, name))
	if info, err := os.Stat(filepath.Join(one, name, "deploy/backup")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("deploy/backup of the archive: %v, %v", info, err)
	}
	program := filepath.Join(one, name, "afterword")
	if got := run(t, one, program, "version"); !strings.HasPrefix(got, "afterword v1.2.3 (commit aaaa") {
		t.Errorf("it says that it is %s", got)
	}

	var sbom struct {
		Format     string `json:"bomFormat"`
		Components []struct {
			Name, Version, Purl string
		}
		Metadata struct {
			Component struct{ Name, Version string }
		}
	}
	b, err := os.ReadFile(filepath.Join(one, name+".cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &sbom); err != nil {
		t.Fatal(err)
	}
	if c := sbom.Metadata.Component; sbom.Format != "CycloneDX" || c.Name != "github.com/afterword-io/afterword" || c.Version != "v1.2.3" {
		t.Errorf("the SBOM is a %s of %+v", sbom.Format, c)
	}
	listed := make(map[string]string)
	for _, c := range sbom.Components {
		listed[c.Name] = c.Version
	}
	linked := 0
	for lines := bufio.NewScanner(strings.NewReader(run(t, one, "go", "version", "-m", program))); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 3 || f[0] != "dep" {
			continue
		}
		linked++
		if listed[f[1]] != f[2] {
			t.Errorf("%s %s is linked, the SBOM has %q", f[1], f[2], listed[f[1]])
		}
	}
	if linked < 20 {
		t.Errorf("only %d modules are linked", linked)
	}
	if listed["std"] == "" {
		t.Error("the SBOM does not list Go's own library")
	}
}
