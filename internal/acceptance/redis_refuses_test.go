package acceptance

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
)

// A Redis that answers reads and takes no writes: what it holds of a session that has changed is
// read by no gateway, whether it has the files or not, whether it ran before or starts meanwhile. What
// Redis said is in /readyz and in `status`. Without new turns all is as before once it takes writes.
func TestRedisRefusesWrites(t *testing.T) {
	nats, server := servertest.NATSProcess(t), servertest.Redis(t)
	redis := openRedis(t, server.Addr())
	ctx, cancel := contextOf(t)
	defer cancel()
	dataDir := filepath.Join(t.TempDir(), "data")
	at := []string{"--nats-url", nats.URL(), "--redis-url", server.URL()}
	with := func(command, dir string) []string { return append([]string{command, "--data-dir", dir}, at...) }
	consume := startService(t, append(with("consume", dataDir), "--listen", "127.0.0.1:0")...).ready()
	gateways := []*service{
		startService(t, with("gateway", dataDir)...).ready(),
		startService(t, with("gateway", filepath.Join(t.TempDir(), "none"))...).ready(),
	}
	said := make(sessions)
	post := func(session, text string) {
		w, _ := gateways[0].mustPost(t, session, text, "answer to "+text)
		said.add(w)
	}
	wantHistories := func(what string, source func(string) bool) {
		t.Helper()
		for i, g := range gateways {
			eventually(t, healed, what, func() error {
				h, _ := g.history(t, "old")
				if err := h.is(said["old"]); err != nil || h.Degraded || !source(h.Source) {
					return fmt.Errorf("gateway %d: source %s, degraded %v, %v", i, h.Source, h.Degraded, err)
				}
				return nil
			})
		}
	}
	post("old", "one")
	wantDocuments(t, startSoon, dataDir, said)
	wantRedis(t, startSoon, redis, said)
	fromRedis := func(source string) bool { return source == "redis" }
	wantHistories("histories from Redis", fromRedis)

	if err := redis.Do(ctx, "replicaof", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	post("old", "two")
	wantDocuments(t, startSoon, dataDir, said)
	elsewhere := func(source string) bool { return source == "file" || source == "stream" }
	wantHistories("histories from elsewhere", elsewhere)
	gateways = append(gateways, startService(t, with("gateway", filepath.Join(t.TempDir(), "none"))...))
	wantHistories("histories of a gateway that starts meanwhile", elsewhere)
	for _, s := range append([]*service{consume}, gateways...) {
		eventually(t, healed, "/readyz names the cause", func() error {
			if _, body, err := s.get("/readyz"); err != nil || !strings.Contains(string(body), "Redis refuses writes: READONLY") {
				return fmt.Errorf("it says %s, %v", body, err)
			}
			return nil
		})
	}
	p := start(t, with("status", dataDir)...)
	p.wait(startSoon)
	if out := p.output(); !strings.Contains(out, "refuses writes, so histories are read from files: READONLY") {
		t.Errorf("status says\n%s", out)
	}

	// The consumer that knew is killed; Redis works again, and the next consumer refreshes it.
	consume.kill9()
	if err := redis.Do(ctx, "replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	wantHistories("histories from elsewhere, as long as nobody has refreshed Redis", elsewhere)
	startService(t, append(with("consume", dataDir), "--listen", "127.0.0.1:0")...)
	wantRedis(t, healed, redis, said)
	wantHistories("histories from Redis again", fromRedis)
	for _, line := range []string{"Redis refuses writes", "Redis takes writes again"} {
		if n := strings.Count(gateways[0].errors(), `msg="`+line); n != 1 {
			t.Errorf("%d lines say that %s", n, line)
		}
	}
}
