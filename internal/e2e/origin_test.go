//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
)

// A page of another origin, in Chromium, neither writes nor listens, whatever it sends; one of an allowed
// origin does both.
func TestPageOfAnotherOrigin(t *testing.T) {
	page := func() (origin string) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, `<!doctype html><title>a page</title><body><iframe name="frame"></iframe></body>`)
		}))
		t.Cleanup(srv.Close)
		return strings.Replace(srv.URL, "127.0.0.1", "localhost", 1)
	}
	allowed := page()
	s := start(t, exec.Command(afterword(t), "serve", "--data-dir", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0",
		"--embedded-nats", freeAddr(t), "--redis-url", "none", "--cors-origins", allowed))
	api := s.says(`afterword serves (http://\S+),`)
	servertest.Eventually(t, soon, "serve to be ready", func() bool {
		status, _ := get(t, api+"/readyz")
		return status == http.StatusOK
	})

	b := openBrowser(t, page()+"/")
	b.evaluate(fmt.Sprintf(`
		const api = %q, turn = '{"user":"written by a page of another site"}'
		const url = api + "/v1/sessions/victim/turns"
		window.outcome = {}
		const note = (name, promise) => promise.then(() => outcome[name] = "sent", () => outcome[name] = "failed")
		note("blob", fetch(url, { method: "POST", mode: "no-cors", body: new Blob([turn]) }))
		note("text", fetch(url, { method: "POST", mode: "no-cors", body: turn }))
		note("batch", fetch(api + "/v1/turns", { method: "POST", mode: "no-cors", body: new Blob(['{"session_id":"victim","user":"x"}\n']) }))
		note("json", fetch(url, { method: "POST", body: turn, headers: { "Content-Type": "application/json" } }))
		note("read", fetch(api + "/v1/sessions/victim/history"))
		note("blind", fetch(api + "/v1/sessions/victim/history", { mode: "no-cors" }))
		outcome.beacon = navigator.sendBeacon(url, new Blob([turn]))
		const events = new EventSource(api + "/v1/events")
		events.onopen = () => { outcome.events = "open" }
		events.onerror = () => { outcome.events ??= "failed"; events.close() }
		const form = document.createElement("form")
		form.method = "POST"; form.enctype = "text/plain"; form.action = url; form.target = "frame"
		const field = document.createElement("input")
		field.name = '{"user":"form'; field.value = '"}'
		form.append(field); document.body.append(form); form.submit()
	`, api))
	b.sees(`["blob", "text", "batch", "json", "read", "blind", "events"].every(name => name in outcome)`)
	if got := b.value(`outcome.json + " " + outcome.read + " " + outcome.events`); got != "failed failed failed" {
		t.Errorf("what the page was told of JSON, a history and events: %s", got)
	}
	refused := regexp.MustCompile(`(?m)^afterword_http_requests_total\{code="403",method="POST",route="unknown"\} (\d+)`)
	servertest.Eventually(t, consolePatience, "all five to have come, and to be refused", func() bool {
		_, text := get(t, api+"/metrics")
		m := refused.FindStringSubmatch(text)
		if m == nil {
			return false
		}
		n, _ := strconv.Atoi(m[1])
		return n >= 5 // blob, text, batch, beacon and form
	})
	if status, text := get(t, api+"/v1/sessions/victim/history"); status != http.StatusOK || !strings.Contains(text, `"turns":[]`) {
		t.Errorf("%d %s", status, text)
	}
	if _, text := get(t, api+"/metrics"); !strings.Contains(text, "\nafterword_publish_accepted_total 0\n") {
		t.Error("a turn of the page was accepted")
	}

	friend := openBrowser(t, allowed+"/")
	friend.evaluate(fmt.Sprintf(`
		const api = %q
		window.outcome = {}
		window.events = new EventSource(api + "/v1/events?session=own")
		events.addEventListener("turn", e => { outcome.event = JSON.parse(e.data).user })
		events.onopen = async () => {
			const answer = await fetch(api + "/v1/sessions/own/turns", { method: "POST", headers: { "Content-Type": "application/json", Prefer: "wait=20" },
				body: '{"user":"by a page that may","assistant":"yes"}' })
			outcome.status = answer.status
			outcome.location = answer.headers.get("Location")
			outcome.history = (await (await fetch(api + "/v1/sessions/own/history")).json()).turns.length
		}
	`, api))
	friend.sees(`outcome.status === 201 && outcome.location.startsWith("/v1/sessions/own/turns/") && outcome.history === 1 && outcome.event === "by a page that may"`)
	friend.evaluate(`events.close()`)
	s.stop()
}

func get(t *testing.T, url string) (status int, text string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}
