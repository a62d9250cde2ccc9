package acceptance

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/faults"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// shown is a history as somebody saw it.
type shown struct {
	session, source, turns string
}

// Redis hangs, restarts, is flushed and is cut off, in turn, under load. No document is
// late, each history was true at some moment, and once all has healed nothing in Redis is stale.
func TestRedisInTrouble(t *testing.T) {
	onTime := choose(30*time.Second, 10*time.Second) // for a turn to be in its document, on a machine that others use
	last := choose(2*time.Second, 15*time.Second)
	lasts := choose(4*last, 5*time.Minute)
	rnd := random(t)
	nats, server := servertest.NATSProcess(t), servertest.Redis(t)
	proxy := faults.NewProxy(t, server.Addr())
	redis := openRedis(t, server.Addr())
	js := connect(t, nats.URL())
	dataDir := filepath.Join(t.TempDir(), "data")
	where := []string{"--nats-url", nats.URL(), "--redis-url", "redis://" + proxy.Addr(), "--data-dir", dataDir}
	consume := startService(t, append([]string{"consume"}, where...)...).ready()
	gateway := startService(t, append([]string{"gateway"}, where...)...).ready()
	names := namesOf("redis-%d", 20)
	l := publish(t, rnd, js, names, 100)

	stop := make(chan struct{})
	var work sync.WaitGroup
	var late durations
	var seen []shown
	var asked durations
	var wrong []error
	work.Go(func() { late = lateness(l, dataDir, stop, rand.New(rand.NewPCG(1, *seed))) })
	work.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			began := time.Now()
			s, err := gateway.shown(names[i%len(names)])
			if asked = append(asked, time.Since(began)); err != nil {
				wrong = append(wrong, err)
				continue
			}
			seen = append(seen, s)
		}
	})
	counts := make(map[string]int)
	for began, i := time.Now(), 0; time.Since(began) < lasts; i++ {
		switch i % 4 {
		case 0:
			counts["hung"]++
			server.Hang()
			spread(t, last)
			server.Resume()
		case 1:
			counts["restarted"]++
			server.Restart()
		case 2:
			counts["flushed"]++
			redis.FlushAll(t.Context())
		case 3:
			counts["cut off"]++
			proxy.Cut()
			spread(t, last)
			proxy.Heal()
		}
		spread(t, last/4)
	}
	close(stop)
	work.Wait()
	healedAt := time.Now()
	l.drain(t, time.Minute)
	took := wantHealed(t, dataDir, l.said, "after trouble with Redis")
	left := make(map[string]string, len(l.said))
	for session, turns := range l.said {
		left[session] = conversation(turns)
	}
	eventually(t, choose(healed, time.Minute), honestCache+": nothing in Redis is stale", func() error {
		again := maps.Clone(left)
		n, err := wrongInRedis(t.Context(), redis, again, l.said, true)
		if err != nil {
			return fmt.Errorf("%d of %d sessions are; %w", n, len(l.said), err)
		}
		return nil
	})
	fresh := time.Since(healedAt)
	for session, turns := range l.said {
		eventually(t, healed, "the history of "+session+" is right", func() error {
			h, _ := gateway.history(t, session)
			return h.is(turns)
		})
	}
	sources := wantTrue(t, seen, inStreamOrder(t, js))
	for _, err := range wrong {
		t.Errorf("%s: %d histories were not given: %v", honestCache, len(wrong), err)
		break
	}
	if late.at(1) > onTime {
		t.Errorf("%s: a turn was in its document after %v, others after %v", inTime, late.at(1), late)
	}
	t.Logf("Redis in trouble for %v %v → %s; from Publish until in the document: %v", lasts, counts, figuresOf(l.said, took), late)
	t.Logf("%d histories by source %v, in %v; all were true at some moment; nothing stale in Redis %v after the last fault", len(seen), sources, asked, fresh.Round(time.Millisecond))
	t.Logf("the consumer: %s messages given back, %s delivered again; the publisher: %+v",
		consume.metric("afterword_consumer_naked_total"), consume.metric("afterword_consumer_redelivered_total"), l.pub.Stats())
	gateway.stop()
	consume.stop()
}

// lateness publishes a turn now and then, and measures until it is in its document.
func lateness(l *load, dataDir string, stop <-chan struct{}, rnd *rand.Rand) (late durations) {
	const session, giveUp = "on-time", time.Minute
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		began := time.Now()
		l.say(session, 9*n+rnd.IntN(9), rnd)
		l.mu.Lock()
		turns := l.said[session]
		l.mu.Unlock()
		if len(turns) == 0 {
			return late
		}
		id, rev := turns[len(turns)-1].ID, fmt.Sprintf(`"rev":%d`, turns[len(turns)-1].Rev)
		for time.Since(began) < giveUp {
			raw, _ := os.ReadFile(documentPath(dataDir, session))
			if _, after, ok := strings.Cut(string(raw), `"id":"`+id+`"`); ok && strings.Contains(after, rev) {
				break
			}
			<-tick.C
		}
		late = append(late, time.Since(began))
		select {
		case <-stop:
			return late
		case <-tick.C:
		}
	}
}

// shown asks for a history.
func (a *api) shown(session string) (s shown, err error) {
	status, body, err := a.get("/v1/sessions/" + session + "/history")
	if err != nil {
		return s, err
	}
	var h history
	if err := json.Unmarshal(body, &h); err != nil || status != http.StatusOK {
		return s, fmt.Errorf("history of %s: %d %s, %w", session, status, body, err)
	}
	var turns []turn
	for _, w := range h.Turns {
		turns = append(turns, turn{ID: w.ID, User: w.User, Assistant: w.Assistant})
	}
	return shown{session, h.Source, texts(turns)}, nil
}

// texts are turns in one text, to be compared.
func texts(turns []turn) string {
	var b strings.Builder
	for _, w := range turns {
		fmt.Fprintf(&b, "%s %q %q\n", w.ID, w.User, w.Assistant)
	}
	return b.String()
}

// inStreamOrder are all snapshots in the order in which the stream has them, and in which
// they come into transcripts when nothing has to be delivered again.
func inStreamOrder(t *testing.T, js jetstream.JetStream) sessions {
	t.Helper()
	s := make(sessions)
	readAll(t, js, stream.Turns, func(m jetstream.Msg, _ uint64) { s.add(parseTurn(t, m.Data())) })
	return s
}

// wantTrue checks that each history is that of a session as it was at some moment. The
// sources are counted.
func wantTrue(t *testing.T, seen []shown, said sessions) map[string]int {
	t.Helper()
	const enough = 60 // snapshots, for the last ten answered turns
	moments := make(map[string]map[string]bool)
	for session, snapshots := range said {
		moments[session] = map[string]bool{"": true}
		for n := range snapshots {
			moments[session][texts(recent(snapshots[max(0, n+1-enough):n+1]))] = true
		}
	}
	sources := make(map[string]int)
	wrong := 0
	for _, s := range seen {
		sources[s.source]++
		if !moments[s.session][s.turns] {
			if wrong++; wrong <= 3 {
				t.Errorf("%s: session %s, from %s: never was\n%s", honestCache, s.session, s.source, s.turns)
			}
		}
	}
	if wrong > 3 {
		t.Errorf("%s: %d of %d histories never were", honestCache, wrong, len(seen))
	}
	if len(seen) == 0 {
		t.Error("no history was seen")
	}
	return sources
}
