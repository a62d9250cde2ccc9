package console

import (
	"context"
	"net/http"
	"testing"

	"github.com/afterword-io/afterword/internal/live"
)

// One browser cannot hold all places of those who listen.
func TestTailsPerClient(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Client = func(*http.Request) string { return "one" } })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range live.DefaultPerClient {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.base+"/console/api/tail", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%v %v", res, err)
		}
		defer res.Body.Close()
	}
	if a := w.get("/console/api/tail").is(http.StatusTooManyRequests, "listens as often"); a.header.Get("Retry-After") == "" {
		t.Errorf("%v", a.header)
	}
}
