package docs_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	alertRules  = "deploy/prometheus/afterword.rules.yml"
	alertTests  = "deploy/prometheus/afterword.rules.test.yml"
	dashboard   = "deploy/grafana/afterword.json"
	runbookPage = "https://github.com/afterword-io/afterword/blob/main/docs/operations.md"
)

// alert is one rule, as text.
type alert struct{ name, text string }

func alertsOf(t *testing.T) (all []alert) {
	t.Helper()
	for _, block := range strings.Split(page(t, alertRules), "      - alert: ")[1:] {
		name, text, _ := strings.Cut(block, "\n")
		all = append(all, alert{name, text})
	}
	if len(all) < 20 {
		t.Fatalf("%s has %d alerts", alertRules, len(all))
	}
	return all
}

// Every alert says how urgent it is, what it means and what to do, and has a section
// of the page; and every section has an alert.
func TestAlertsOfThePage(t *testing.T) {
	sections := make(map[string]string)
	for _, section := range strings.Split(page(t, operations), "\n### Afterword")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		text, _, _ = strings.Cut(text, "\n#")
		sections["Afterword"+name] = strings.TrimSpace(text)
	}
	says := regexp.MustCompile(`(?s)labels: \{severity: (page|ticket)\}\n +annotations:\n +summary: "([^\n]+)"\n +description: "([^\n]+)"\n +runbook_url: (\S+)\n`)
	for _, a := range alertsOf(t) {
		m := says.FindStringSubmatch(a.text)
		if m == nil {
			t.Errorf("%s has no severity, summary, description and runbook_url", a.name)
			continue
		}
		if len(m[3]) < 60 || !strings.HasSuffix(m[3], ".") {
			t.Errorf("%s: %q does not say what to do", a.name, m[3])
		}
		if m[4] != runbookPage+"#"+strings.ToLower(a.name) {
			t.Errorf("%s: the runbook is %s", a.name, m[4])
		}
		if len(sections[a.name]) < 80 {
			t.Errorf("%s has no section %s that says what to do", operations, a.name)
		}
		delete(sections, a.name)
	}
	for name := range sections {
		t.Errorf("%s has a section %s, which is no alert", operations, name)
	}
}

// Every alert has a test in which it fires and before that does not. promtool runs
// them; see internal/e2e.
func TestAlertsAreTested(t *testing.T) {
	tests := strings.Split(page(t, alertTests), "\n  - name: ")[1:]
	expect := regexp.MustCompile(`(?s)^(Afterword\w+).*exp_samples: \[\].*\n +- \{labels: '\{alertname="(\w+)"\}', value: 1\}`)
	var tested []string
	for _, text := range tests {
		m := expect.FindStringSubmatch(text)
		if m == nil || m[1] != m[2] {
			name, _, _ := strings.Cut(text, "\n")
			t.Errorf("the test %q does not show that its alert fires and does not", name)
			continue
		}
		tested = append(tested, m[1])
	}
	for _, a := range alertsOf(t) {
		if !slices.Contains(tested, a.name) {
			t.Errorf("%s has no test of %s", alertTests, a.name)
		}
	}
}

// TestMetricsAreThere checks that rules, their tests and the dashboard ask for
// metrics and labels that there are. The list of the page is what processes serve.
func TestMetricsAreThere(t *testing.T) {
	kinds, labels := make(map[string]string), make(map[string][]string)
	for _, row := range rows(page(t, metricsPage), 6) {
		kinds[row[0]] = row[1]
		labels[row[0]] = append(regexp.MustCompile(`[a-z_]+`).FindAllString(row[2], -1), "instance", "job")
		if row[1] == "histogram" {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				kinds[row[0]+part], labels[row[0]+part] = "part", append(labels[row[0]], "le")
			}
			delete(kinds, row[0])
		}
	}
	asked := regexp.MustCompile(`\b(afterword_[a-z_]+)\b(?:\{([^}\n]*(?:\{id\}[^}\n]*)*)\})?`)
	label := regexp.MustCompile(`\b([a-z_]+)\\?(?:=~|!~|!=|=)\\?"`)
	for name, least := range map[string]int{alertRules: 40, alertTests: 50, dashboard: 60} {
		found := asked.FindAllStringSubmatch(page(t, name), -1)
		for _, m := range found {
			if kinds[m[1]] == "" {
				t.Errorf("%s asks for %s, which nobody serves", name, m[1])
			}
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(labels[m[1]], l[1]) {
					t.Errorf("%s asks for %s by %s, which it does not have", name, m[1], l[1])
				}
			}
		}
		if len(found) < least {
			t.Errorf("%s asks for %d metrics only", name, len(found))
		}
	}
}
