package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// deployed are the files that set variables of services.
func deployed(t *testing.T) []string {
	t.Helper()
	units, err := filepath.Glob(filepath.Join(root, "deploy/systemd/*"))
	if err != nil || len(units) < 4 {
		t.Fatalf("deploy/systemd has %v: %v", units, err)
	}
	return append(units, filepath.Join(root, "deploy/compose.yaml"), filepath.Join(root, "deploy/Dockerfile"))
}

// TestDeployedVariables checks that every variable that deploy/ sets, the ones in
// comments included, is one that the commands know.
func TestDeployedVariables(t *testing.T) {
	var known []string
	for _, f := range flagsOf(t) {
		known = append(known, f.env)
	}
	found := 0
	for _, name := range deployed(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range regexp.MustCompile(`\b(AFTERWORD_[A-Z_]+|NATS_(?:URL|CREDS)|REDIS_URL)\b`).FindAllString(string(text), -1) {
			found++
			if !slices.Contains(known, v) {
				t.Errorf("%s sets %s, which no command knows", name, v)
			}
		}
	}
	if found < 15 {
		t.Errorf("only %d variables were found in deploy/", found)
	}
}

// TestStopTimeouts checks that supervisors give services more time than they take
// to drain.
func TestStopTimeouts(t *testing.T) {
	drain, err := time.ParseDuration(strings.Trim(flagsOf(t)["drain-timeout"].defaults.said[0], "`"))
	if err != nil {
		t.Fatal(err)
	}
	timeouts := regexp.MustCompile(`(?m)^\s*(?:TimeoutStopSec=|stop_grace_period: )(\S+)$`)
	found := 0
	for _, name := range deployed(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range timeouts.FindAllStringSubmatch(string(text), -1) {
			found++
			if d, err := time.ParseDuration(m[1]); err != nil || d < drain+5*time.Second {
				t.Errorf("%s stops after %s (%v); draining may take %s", name, m[1], err, drain)
			}
		}
	}
	if found != 4 {
		t.Errorf("%d stop timeouts were found in deploy/, not one for each of 2 units and 2 containers", found)
	}
}

func TestSystemdUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("needs systemd-analyze")
	}
	dir := t.TempDir()
	for _, name := range []string{"afterword-consumer.service", "afterword-gateway.service"} {
		text := strings.ReplaceAll(page(t, "deploy/systemd/"+name), "/usr/local/bin/afterword", binary(t)) // it looks for the program
		unit := filepath.Join(dir, name)
		if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v:\n%s", name, err, out)
		}
	}
}
