package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/publisher"
)

// The limit is of the canonical encoding, whatever it looked like when it was sent.
func TestLimitIsOfTheCanonicalEncoding(t *testing.T) {
	const limit = 20_000
	w := newWorld(t, func(c *Config, p *publisher.Config) {
		p.MaxPayload = limit
		c.MaxPayload = func() int { return limit }
	})
	for _, c := range []struct {
		name, body string
		status     int
		says       string
	}{
		{"escapes", `{"user":"` + strings.Repeat(`\u0041`, limit-1000) + `"}`, http.StatusAccepted, ""},
		{"white space", `{"user":"a"` + strings.Repeat(" ", 10*limit) + `}`, http.StatusAccepted, ""},
		{"escapes of too much", `{"user":"` + strings.Repeat(`\u0041`, limit) + `"}`, http.StatusRequestEntityTooLarge, fmt.Sprintf("at most %d are allowed", limit)},
		{"it grows", `{"user":"` + strings.Repeat("a", limit-20) + `"}`, http.StatusRequestEntityTooLarge, fmt.Sprintf("at most %d are allowed", limit)},
		{"no text is so long", `{"user":"a"` + strings.Repeat(" ", 6*limit+bodySpace) + `}`, http.StatusRequestEntityTooLarge, "The text of a turn is at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.post("s", c.body)
			if a.status != c.status || !strings.Contains(string(a.body), c.says) {
				t.Errorf("%d: %.300s", a.status, a.body)
			}
		})
	}
	t.Run("batch", func(t *testing.T) {
		lines := `{"session_id":"s","user":"` + strings.Repeat(`\u0041`, limit-1000) + `"}` + "\n" +
			`{"session_id":"s","user":"` + strings.Repeat(`\u0041`, limit) + `"}` + "\n"
		a := w.batch(lines)
		if text := string(a.body); a.status != http.StatusUnprocessableEntity || !strings.Contains(text, `"status":202`) || !strings.Contains(text, fmt.Sprintf("at most %d are allowed", limit)) {
			t.Errorf("%d: %.600s", a.status, text)
		}
		text := string(w.do(http.MethodGet, "/metrics", "").body)
		for _, line := range []string{`afterword_http_batch_lines_total{code="202"} 1`, `afterword_http_batch_lines_total{code="413"} 1`} {
			if !strings.Contains(text, line) {
				t.Errorf("/metrics does not have %s", line)
			}
		}
	})
}
