package docs_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const metricsPage = "docs/metrics.md"

// seenWithin is when the streams and groups have been looked at; see --watch-every.
const seenWithin = 30 * time.Second

// metricDoc is what processes show of a metric.
type metricDoc struct {
	name, kind, help string
	labels, shownBy  map[string]bool
}

var (
	helpLine   = regexp.MustCompile(`(?m)^# HELP (afterword_\S+) (.*)$`)
	typeLine   = regexp.MustCompile(`(?m)^# TYPE (afterword_\S+) (\S+)$`)
	sampleLine = regexp.MustCompile(`(?m)^(afterword_[a-z_]+)\{([^}]*)\} `)
	labelName  = regexp.MustCompile(`([a-z_]+)="`)
	partOfOne  = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// metricDocs are metrics by their names.
type metricDocs map[string]*metricDoc

// add takes in what a process shows.
func (all metricDocs) add(who, text string) {
	for _, m := range helpLine.FindAllStringSubmatch(text, -1) {
		if all[m[1]] == nil {
			all[m[1]] = &metricDoc{name: m[1], labels: make(map[string]bool), shownBy: make(map[string]bool)}
		}
		all[m[1]].help, all[m[1]].shownBy[who] = m[2], true
	}
	for _, m := range typeLine.FindAllStringSubmatch(text, -1) {
		all[m[1]].kind = m[2]
	}
	for _, m := range sampleLine.FindAllStringSubmatch(text, -1) {
		doc := all[m[1]]
		if doc == nil {
			doc = all[partOfOne.ReplaceAllString(m[1], "")]
		}
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				doc.labels[l[1]] = true
			}
		}
	}
}

// unit is what a metric counts, as its name and text say.
func (d *metricDoc) unit() string {
	words := strings.Split(strings.TrimSuffix(d.name, "_total"), "_")
	switch last := words[len(words)-1]; {
	case last == "seconds" && words[len(words)-2] == "timestamp":
		return "seconds since 1970"
	case slices.Contains([]string{"seconds", "bytes", "turns", "messages", "sessions", "lines", "segments", "inodes", "connections"}, last):
		return last
	case strings.HasPrefix(d.help, "1 "):
		return "0 or 1"
	}
	return "count"
}

// table lists them as the page has them.
func (all metricDocs) table() string {
	code := func(set map[string]bool) string {
		if len(set) == 0 {
			return ""
		}
		return "`" + strings.Join(slices.Sorted(maps.Keys(set)), "`, `") + "`"
	}
	var b strings.Builder
	b.WriteString("\n| name | type | labels | unit | shown by | meaning |\n|---|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		d := all[name]
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", d.name, d.kind, code(d.labels), d.unit(), code(d.shownBy), strings.ReplaceAll(d.help, "|", "&#124;"))
	}
	b.WriteString("\n")
	return b.String()
}

// TestMetricsOfThePage holds the page against a gateway, a consumer, a console, a replay and a
// verification that run: it lists what they show and nothing else.
func TestMetricsOfThePage(t *testing.T) {
	s := newScene(t)
	defer s.serve()()
	const servers = " --nats-url=nats://127.0.0.1:4222 --redis-url=redis://127.0.0.1:6379"
	defer s.start("127.0.0.1:8081", "afterword gateway --data-dir gateway"+servers)()
	defer s.start("127.0.0.1:8082", "afterword consume --data-dir copy --group copy"+servers)()
	defer s.start("127.0.0.1:8083", "afterword console --data-dir copy"+servers)()
	if text, err := s.shell(`curl -sf -H 'Prefer: wait=20' --json '{"user":"a","assistant":"b"}' http://127.0.0.1:8081/v1/sessions/a/turns &&
		bin/afterword replay --all --data-dir copy --metrics-file replay.prom && bin/afterword verify --all --data-dir copy --metrics-file verify.prom`); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	all := make(metricDocs)
	for who, port := range map[string]string{"gateway": "8081", "consume": "8082", "console": "8083"} {
		text, err := "", error(nil)
		for end := time.Now().Add(seenWithin); ; time.Sleep(tryAgain) {
			text, err = s.shell("curl -sf http://127.0.0.1:" + port + "/metrics")
			if err == nil && strings.Contains(text, `afterword_group_lag_seconds{group="copy"}`) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s shows no group after %s: %v: %s", who, seenWithin, err, text)
			}
		}
		all.add(who, text)
	}
	for _, who := range []string{"replay", "verify"} {
		text, err := os.ReadFile(filepath.Join(s.dir, who+".prom"))
		if err != nil {
			t.Fatal(err)
		}
		all.add(who, string(text))
	}
	want := all.table()
	if got := between(t, metricsPage, "metrics", want); got != want {
		t.Errorf("the metrics of %s are not those that are shown; run: go test ./docs -update", metricsPage)
	}
}
