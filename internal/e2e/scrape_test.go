//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// asked is a question of the dashboard.
type asked struct{ panel, expr string }

// questions are those of the dashboard, its variables filled in: of all jobs, and over so
// long.
func questions(t *testing.T, interval string) (all []asked) {
	t.Helper()
	text, err := os.ReadFile("../../deploy/grafana/afterword.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for _, q := range p.Targets {
			expr := strings.ReplaceAll(q.Expr, "$__rate_interval", interval)
			all = append(all, asked{p.Title, regexp.MustCompile(`\$\w+`).ReplaceAllString(expr, ".*")})
		}
	}
	if len(all) < 60 {
		t.Fatalf("the dashboard has %d queries", len(all))
	}
	return all
}

// A real Prometheus scrapes what runs, with the rules that are delivered: every question
// of the dashboard has an answer, every rule can be evaluated, and none is alarmed.
func TestPrometheusSeesEverything(t *testing.T) {
	traces := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer traces.Close()
	program, dir := afterword(t), t.TempDir()
	nats, redis := servertest.NATS(t), servertest.Redis(t)
	where := []string{"--nats-url", nats.URL(), "--data-dir", filepath.Join(dir, "data")}
	withRedis := append([]string{"--redis-url", redis.URL()}, where...)
	cmd := exec.Command(program, append([]string{"serve", "--listen", "127.0.0.1:0"}, withRedis...)...)
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "OTEL_EXPORTER_OTLP_ENDPOINT=" + traces.URL}
	api := start(t, cmd).says(`afterword serves (http://\S+),`)

	// What ends leaves its figures in a file, which node_exporter shows.
	metrics := []string{filepath.Join(dir, "replay.prom"), filepath.Join(dir, "verify.prom")}
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range metrics {
			b, err := os.ReadFile(name)
			if err != nil {
				http.Error(w, err.Error(), http.StatusNotFound)
				return
			}
			w.Write(b)
		}
	}))
	defer node.Close()

	turn := func() {
		for _, args := range [][]string{
			{"-H", "Prefer: wait=20", "--json", `{"user":"a","assistant":"b"}`, api + "/v1/sessions/a/turns"},
			{api + "/v1/sessions/a/history"},
		} {
			run(t, dir, "curl", append([]string{"-sSf"}, args...)...)
		}
	}
	turn()
	if _, err := servertest.JetStream(t, nats.URL()).Publish(t.Context(), stream.TurnSubject("bad"), []byte("no turn")); err != nil {
		t.Fatal(err)
	}
	run(t, dir, program, append([]string{"replay", "--all", "--metrics-file", metrics[0]}, where...)...)
	run(t, dir, program, append([]string{"verify", "--all", "--metrics-file", metrics[1]}, withRedis...)...)

	rules, err := filepath.Abs(filepath.Join(prometheus, "afterword.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf(`
global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}
rule_files: [%q]
scrape_configs:
  - {job_name: afterword, static_configs: [{targets: [%q]}]}
  - {job_name: node, static_configs: [{targets: [%q]}]}
`, rules, strings.TrimPrefix(api, "http://"), node.Listener.Addr())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := freeAddr(t)
	seer := start(t, exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"), "--web.listen-address="+at, "--log.level=warn"))
	ask := func(path string, into any) error {
		res, err := http.Get("http://" + at + "/api/v1/" + path)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", path, res.Status)
		}
		return json.NewDecoder(res.Body).Decode(&struct{ Data any }{into})
	}

	left := questions(t, "10s")
	for i := range left { // within a few scrapes, and with what is drawn only when it is not 0
		left[i].expr = strings.NewReplacer("[1h]", "[10s]", "> 0", ">= 0").Replace(left[i].expr)
	}
	defer func() { // whether it is late or not
		for _, q := range left {
			t.Errorf("%s: no answer to %s", q.panel, q.expr)
		}
	}()
	servertest.Eventually(t, soon, "every question to have an answer", func() bool {
		turn()
		unanswered := left[:0:0]
		for _, q := range left {
			var got struct{ Result []any }
			if err := ask("query?query="+url.QueryEscape(q.expr), &got); err != nil || len(got.Result) == 0 {
				unanswered = append(unanswered, q)
			}
		}
		left = unanswered
		return len(left) == 0
	})

	var found struct {
		Groups []struct {
			Rules []struct {
				Name, State, Health, LastError, Type string
			}
		}
	}
	if err := ask("rules", &found); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, g := range found.Groups {
		for _, r := range g.Rules {
			seen++
			if r.Health != "ok" {
				t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
			if r.State == "firing" {
				t.Errorf("%s fires, and all is well", r.Name)
			}
		}
	}
	if seen < 30 {
		t.Errorf("Prometheus has %d rules", seen)
	}
	seer.stop()
}
