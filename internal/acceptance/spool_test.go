package acceptance

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/servertest"
)

// level asks how far a turn has come; "" is an answer that does not say.
func (a *api) level(w turn) string {
	status, body, err := a.get("/v1/sessions/" + url.PathEscape(w.Session) + "/turns/" + w.ID)
	var v struct{ Level string }
	if err != nil || status != http.StatusOK || json.Unmarshal(body, &v) != nil {
		return ""
	}
	return v.Level
}

// owed are turns that somebody was told to be safe.
type owed struct {
	mu     sync.Mutex
	turns  sessions
	levels map[string]int
}

func (o *owed) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, count := range o.levels {
		n += count
	}
	return n
}

// postUntilDead posts turns until the gateway is gone, and notes those that it calls safe.
func (o *owed) postUntilDead(a *api, session string, round int) {
	for n := 0; ; n++ {
		w, _, err := a.post(context.Background(), session, fmt.Sprintf("question %d of round %d", n, round), "answer")
		if err != nil {
			return
		}
		for level := "buffered"; level == "buffered"; {
			if level = a.level(w); level == "" {
				return
			}
			if level != "buffered" {
				o.mu.Lock()
				o.turns.add(w)
				o.levels[level]++
				o.mu.Unlock()
			}
		}
	}
}

// Kill -9 of the gateway while NATS is there and while it is not: every turn that
// was said to be spooled or stored is in its document, once.
func TestKill9OfTheGateway(t *testing.T) {
	rounds := choose(9, 60)
	rnd := random(t)
	nats := servertest.NATSProcess(t)
	dataDir, gatewayDir := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "gateway")
	command := []string{"gateway", "--nats-url", nats.URL(), "--redis-url", "none", "--data-dir", gatewayDir}
	consume := startService(t, "consume", "--nats-url", nats.URL(), "--redis-url", "none", "--data-dir", dataDir).ready()

	o := &owed{turns: make(sessions), levels: make(map[string]int)}
	var lived durations
	for i := range rounds {
		switch i % 3 {
		case 1:
			nats.Kill9()
		case 0:
			nats.Restart()
		}
		g := startService(t, command...)
		began := time.Now()
		before := o.count()
		var clients sync.WaitGroup
		for c := range 8 {
			clients.Go(func() { o.postUntilDead(&g.api, fmt.Sprintf("spooled-%d", c%5), i) })
		}
		eventually(t, startSoon, "turns are safe", func() error {
			if n := o.count() - before; n < 20 {
				return fmt.Errorf("%d are", n)
			}
			return nil
		})
		spread(t, time.Duration(rnd.IntN(500))*time.Millisecond)
		g.kill9()
		lived = append(lived, time.Since(began))
		clients.Wait()
	}
	nats.Restart()
	g := startService(t, command...).ready()
	took := eventually(t, healed, "every turn that was called safe is in its document", func() error { return wantIn(dataDir, o.turns) })
	eventually(t, healed, "the spool is empty", func() error {
		if n := g.metric("afterword_spool_turns"); n != "0" {
			return fmt.Errorf("%s turns are in it", n)
		}
		return nil
	})
	t.Logf("%d × afterword gateway, kill -9 → after %v; %v turns by the level that it gave them", rounds, lived, o.levels)
	t.Logf("the last start → all %d of them are in documents, each once, after %v", o.turns.count(), took.Round(time.Millisecond))
	if o.levels["spooled"] == 0 {
		t.Error("no turn was spooled")
	}
	g.stop()
	consume.stop()
}
