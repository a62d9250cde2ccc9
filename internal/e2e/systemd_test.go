//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	systemUnits = "/usr/lib/systemd/system"
	// mostExposed is the worst exposure that a unit may have, in tenths, as
	// `systemd-analyze security` counts. What is left in ours is the network.
	mostExposed = "15"
)

// units are the instances and services that are delivered, by the name of their file.
func units(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(repository + "/deploy/systemd/*.service")
	if err != nil || len(files) == 0 {
		t.Fatalf("no units: %v", err)
	}
	all := make(map[string]string)
	for _, file := range files {
		all[file] = strings.Replace(filepath.Base(file), "@.", "@transcripts.", 1)
	}
	return all
}

// systemd itself accepts the units, on a machine where the program is installed,
// and finds little that they leave open.
func TestSystemdUnits(t *testing.T) {
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, systemUnits), os.DirFS(systemUnits)); err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(root, "usr/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(afterword(t), filepath.Join(bin, "afterword")); err != nil {
		t.Fatal(err)
	}
	args := []string{"--root=" + root, "verify", "--man=no"}
	for file, name := range units(t) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, systemUnits, filepath.Base(file)), b, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
		if out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--offline=yes", "--threshold="+mostExposed, file).CombinedOutput(); err != nil {
			t.Errorf("%s is exposed: %v\n%s", name, err, out)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
