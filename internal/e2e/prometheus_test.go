//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const prometheus = "../../deploy/prometheus"

// promtool runs Prometheus's own tool in the folder of what is delivered.
func promtool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Dir = prometheus
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Prometheus itself accepts the rules and the scrape configuration, and every alert
// fires when it should and not before. That each of them has such a test is held in docs.
func TestAlerts(t *testing.T) {
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", "afterword.rules.yml")
	promtool(t, "check", "config", "--lint=all", "--lint-fatal", "prometheus.yml")
	if out := promtool(t, "test", "rules", "afterword.rules.test.yml"); !strings.Contains(out, "SUCCESS") {
		t.Errorf("no success:\n%s", out)
	}
}

// Prometheus understands every question of the dashboard, its variables filled in.
func TestDashboardQueries(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for n, q := range questions(t, "5m") {
		fmt.Fprintf(&rules, "      - record: dashboard:query%d\n        expr: %q\n", n, q.expr)
	}
	path := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(path, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}
