package docs_test

import (
	"encoding/json"
	"regexp"
	"slices"
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
