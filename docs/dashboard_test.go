package docs_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// panel is what the test reads of a panel of Grafana.
type panel struct {
	ID          int
	Type, Title string
	Description string
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct{ Expr, LegendFormat string }
	Datasource  struct{ UID string }
}

// undrawn are the metrics that the dashboard does not have, and why.
var undrawn = map[string]string{
	"afterword_console_replays_running":          "how far they are is drawn",
	"afterword_consumer_pending_turns":           "afterword_group_pending_turns, which all processes show, says the same",
	"afterword_consumer_walks_total":             "what walks find is drawn, as repairs and losses",
	"afterword_http_batch_lines_total":           "requests by their code are drawn; 422 is that of a batch with lines that were refused",
	"afterword_http_connections":                 "rates and times of requests say more",
	"afterword_http_connections_ended_total":     "rates and times of requests say more; the log tells of it",
	"afterword_http_requests_in_flight":          "rates and times of requests say more",
	"afterword_publish_set_aside_turns":          "their rate is drawn; the alert leads here",
	"afterword_read_memory_held_bytes":           "what it leads to is drawn: requests that are answered 503",
	"afterword_read_memory_limit_bytes":          "a setting",
	"afterword_read_memory_refused_total":        "requests that are answered 503 are drawn",
	"afterword_replay_skipped_messages":          "of one run, which prints it",
	"afterword_replay_started_timestamp_seconds": "the end is what counts; how far it is is drawn",
	"afterword_replay_turns":                     "of one run, which prints it",
	"afterword_spool_segments":                   "afterword_spool_bytes has the limit that counts",
	"afterword_store_appended_total":             "afterword_consumer_acked_total, the same less what was there already",
	"afterword_store_failed":                     "the process ends at once: an alert looks for it",
	"afterword_store_syncs_total":                "the count of the histogram of their times",
	"afterword_stream_max_messages":              "no limit by default; bytes and age are what streams are limited by",
	"afterword_verify_file_only_turns":           "no difference; of one run, which prints it",
	"afterword_verify_sessions":                  "of one run, which prints it",
	"afterword_verify_started_timestamp_seconds": "the end is what counts; how far it is is drawn",
}

// Every metric that is documented is drawn, or somebody has said why not.
func TestDashboardHasEveryMetric(t *testing.T) {
	drawn := make(map[string]bool)
	for _, name := range regexp.MustCompile(`\bafterword_[a-z_]+`).FindAllString(page(t, dashboard), -1) {
		drawn[name], drawn[partOfOne.ReplaceAllString(name, "")] = true, true
	}
	documented := make(map[string]bool)
	for _, row := range rows(page(t, metricsPage), 6) {
		if !strings.HasPrefix(row[0], "afterword_") { // the head of the table
			continue
		}
		documented[row[0]] = true
		if why := undrawn[row[0]]; drawn[row[0]] == (why != "") {
			t.Errorf("%s: on the dashboard %v, and left out because %q", row[0], drawn[row[0]], why)
		}
	}
	for name := range undrawn {
		if !documented[name] {
			t.Errorf("%s is left out, and not there", name)
		}
	}
}

// Every panel says what it shows and in which unit, has its own place, and asks the
// source that the reader has chosen.
func TestDashboard(t *testing.T) {
	var board struct {
		UID, Title string
		Templating struct{ List []struct{ Name string } }
		Panels     []panel
	}
	if err := json.Unmarshal([]byte(page(t, dashboard)), &board); err != nil {
		t.Fatal(err)
	}
	variables := []string{"__rate_interval"}
	for _, v := range board.Templating.List {
		variables = append(variables, v.Name)
	}
	ids, taken, rowsSeen := make(map[int]bool), make(map[[2]int]string), 0
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q is there twice, or has no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q lies on %q at %d, %d", p.Title, other, x, y)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rowsSeen++
			continue
		}
		if p.Description == "" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%q has no description, unit, query or source", p.Title)
		}
		for _, q := range p.Targets {
			for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(q.Expr, -1) {
				if !slices.Contains(variables, m[1]) {
					t.Errorf("%q asks for the variable %s, which is not there", p.Title, m[1])
				}
			}
		}
	}
	if board.UID != "afterword" || rowsSeen < 7 || len(board.Panels) < 40 {
		t.Errorf("%q has %d panels in %d rows", board.UID, len(board.Panels), rowsSeen)
	}
}
