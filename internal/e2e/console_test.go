//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
)

const (
	consolePatience = 60 * time.Second
	// secret is in what people said, and in nothing else.
	secret = "lavender-in-october"
	// hostile is a session id that is markup.
	hostile = `<img src=x onerror=alert(1)>`
)

// served is a running `afterword serve` with something in it.
type served struct {
	*service
	t    *testing.T
	args []string
	base string // of its HTTP
	nc   *nats.Conn
}

// serveSomething runs the program on ports of its own, and fills it with sessions and
// dead letters.
func serveSomething(t *testing.T, args ...string) *served {
	t.Helper()
	listen, natsAddr := freeAddr(t), freeAddr(t)
	s := &served{t: t, base: "http://" + listen}
	dataDir := filepath.Join(t.TempDir(), "data")
	s.args = append([]string{"serve", "--data-dir", dataDir,
		"--listen", listen, "--embedded-nats", natsAddr, "--embedded-redis", freeAddr(t)}, args...)
	s.begin()
	var err error
	if s.nc, err = nats.Connect("nats://"+natsAddr, publisher.Embedded(dataDir), nats.MaxReconnects(-1)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.nc.Close)
	s.fill()
	return s
}

// begin starts the program, again perhaps.
func (s *served) begin() {
	s.t.Helper()
	s.service = start(s.t, exec.Command(afterword(s.t), s.args...))
	servertest.Eventually(s.t, consolePatience, "serve to be ready", func() bool {
		res, err := http.Get(s.base + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// end stops the program, in whose log nothing may be of what was said.
func (s *served) end() {
	s.t.Helper()
	s.stop()
	if strings.Contains(s.out.String(), secret) {
		s.t.Error("its log holds something of what was said")
	}
}

func (s *served) fill() {
	s.t.Helper()
	talk := [][2]string{
		{"When do I cut back lavender?", "Right after it has flowered, and lightly again in spring. Never into the old wood: it does not sprout from there. (" + secret + ")"},
		{"And if I missed that, is October too late?", "For a hard cut, yes. Take off the dead flowers and leave the rest until March."},
		{"How far down in March?", "To about a hand's breadth above the old wood, just over the lowest fresh shoots."},
	}
	for i, x := range talk {
		s.publish("garden-1", fmt.Sprintf("g-%d", i), x[0], x[1])
	}
	// The last answer made again: it consists of a call.
	s.raw("garden-1", fmt.Sprintf(`{"id":"g-3","session_id":"garden-1","timestamp":%q,"user":"How far down in March?","tool_calls":[{"name":"look up","arguments":{"plant":"lavender"}}],"supersedes":"g-2","model":"small-1"}`,
		time.Now().UTC().Format(time.RFC3339Nano)), 0)
	s.raw("taken-back", fmt.Sprintf(`{"id":"b-1","session_id":"taken-back","timestamp":%q,"user":"","status":"redacted","rev":1000000}`, time.Now().UTC().Format(time.RFC3339Nano)), 0)
	for i := range 40 {
		s.publish(fmt.Sprintf("customer-%03d", i%13), fmt.Sprintf("c-%d", i), fmt.Sprintf("Question %d?", i), strings.Repeat("An answer of some length. ", 1+i%7))
	}
	s.publish(hostile, "x", "Is this an image?", "No, a session id.")
	for i := range 9 {
		s.raw("garden-2", `{"user":"no`, i)
	}
	for i := range 4 {
		s.raw("garden-3", fmt.Sprintf(`{"id":"r-%d","session_id":"garden-3","timestamp":"2026-01-31T12:00:0%dZ","user":"u","status":"finished"}`, i, i), i)
	}
	servertest.Eventually(s.t, consolePatience, "everything to be written or dead", func() bool {
		var list struct{ Total int }
		s.ask("/console/api/letters", &list)
		return list.Total == 13
	})
}

// traffic publishes turns, now more and now fewer, until the returned function is called.
func (s *served) traffic() (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			for j := range 1 + int(3*(1+math.Sin(float64(i)/12))) {
				body, err := payload(fmt.Sprintf("customer-%03d", (7*i+j)%13), fmt.Sprintf("t-%d-%d", i, j), "And what about this?", strings.Repeat("That is another answer. ", 1+(i+j)%9))
				if err == nil {
					err = s.nc.Publish(stream.TurnSubject(fmt.Sprintf("customer-%03d", (7*i+j)%13)), body)
				}
				if err != nil {
					s.t.Error(err)
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return func() { cancel(); <-done }
}

func payload(session, id, user, assistant string) ([]byte, error) {
	return json.Marshal(map[string]any{"id": id, "session_id": session, "timestamp": time.Now().UTC(), "user": user, "assistant": assistant, "model": "small-1"})
}

func (s *served) publish(session, id, user, assistant string) {
	s.t.Helper()
	body, err := payload(session, id, user, assistant)
	if err != nil {
		s.t.Fatal(err)
	}
	s.raw(session, string(body), 0)
}

// raw puts a message on the subject of a session.
func (s *served) raw(session, payload string, nr int) {
	s.t.Helper()
	m := &nats.Msg{Subject: stream.TurnSubject(session), Data: []byte(payload), Header: nats.Header{}}
	m.Header.Set("Nats-Msg-Id", fmt.Sprintf("%s/%d", stream.MsgID(m.Data), nr))
	if _, err := s.nc.RequestMsg(m, consolePatience); err != nil {
		s.t.Fatal(err)
	}
}

func (s *served) ask(path string, v any) {
	s.t.Helper()
	res, err := http.Get(s.base + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(v); err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
}

// The console in a browser: every view, an action each, by mouse and by keys, wide and
// narrow, light and dark. Nothing is asked of anybody else and nothing breaks the policy.
func TestConsole(t *testing.T) {
	s := serveSomething(t)
	quietened := s.traffic()
	b := openBrowser(t, s.base+"/")
	b.sees(`location.pathname === "/console/"`) // it leads there
	b.sees(`document.querySelector("h1").textContent === "Overview"`)

	t.Run("overview", func(t *testing.T) {
		b := b.of(t)
		b.visit("overview")
		b.seesText(".troubles", "13 dead letters")
		b.seesText(".troubles code", "afterword dlq ls")
		b.seesText(".view-overview", "transcripts")
		b.sees(`document.querySelectorAll(".card .line.a").length === 6`)
		b.sees(`[...document.querySelectorAll(".card")].some(c => c.textContent.includes("Lag") && (c.querySelector(".line.a").getAttribute("d") ?? "").includes("L"))`)
		before := b.value(`document.querySelector(".card .line.a").getAttribute("d")`)
		b.sees(fmt.Sprintf(`document.querySelector(".card .line.a").getAttribute("d") !== %s`, quoteJS(before))) // it moves
	})

	t.Run("sessions", func(t *testing.T) {
		b := b.of(t)
		b.visit("sessions")
		b.seesText(".list", "customer-000")
		b.seesText(".list", hostile) // as text
		b.sees(`document.querySelector(".list img") === null`)
		b.fill("#prefix", "garden-")
		b.sees(`document.querySelectorAll(".list li").length === 1`)
		b.click(`.list a`)
		b.seesText(".reader h2", "garden-1")
		b.sees(`document.querySelectorAll(".chat > li").length === 4`)
		b.sees(`document.querySelectorAll(".chat > li.aside").length === 1 && document.querySelector(".chat > li.aside").textContent.includes("another branch")`)
		b.seesText(".chat > li:nth-child(4)", "supersedes g-2")
		b.seesText(".chat > li:nth-child(4)", "follows g-1")
		b.seesText(".chat > li:nth-child(4) .bubble.assistant", "1 tool call, no text")
		b.sees(`document.querySelectorAll(".bubble.is-hidden").length === 7 && !document.body.textContent.includes("` + secret + `")`)
		b.seesText(".copies", "File, stream and Redis agree.")
		b.click("#show-text")
		b.seesText(".chat", secret)
		b.click("#replay-this")
		b.seesText("#said", "Replayed: 4 turns were merged.")
		b.visit("sessions?id=taken-back")
		b.seesText(".chat", "redacted")
		b.sees(`document.querySelectorAll(".chat .bubble").length === 0`)
		b.visit("sessions?id=garden-1") // what was shown is hidden again
		b.sees(`document.querySelectorAll(".bubble.is-hidden").length === 7 && !document.body.textContent.includes("` + secret + `")`)
	})

	t.Run("consumers", func(t *testing.T) {
		b := b.of(t)
		host, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		b.visit("consumers")
		b.seesText(".view-consumers h2", "transcripts")
		b.seesText(".view-consumers tbody", host)
		b.seesText(".view-consumers tbody", "takes turns")
		b.seesText(".view-consumers tbody", "ago")
	})

	t.Run("live tail", func(t *testing.T) {
		b := b.of(t)
		b.visit("tail")
		b.seesText(".view-tail .state", "live")
		s.publish("garden-4\u202e", "t-1", "Is it "+secret+"?", "It is.")
		b.seesText(".tail li", `garden-4\u202e`) // its number: the character itself would turn the rest of the line around
		b.sees(`!document.body.textContent.includes("` + secret + `")`)
		b.fill("#tail-prefix", "garden-5")
		b.seesText(".view-tail .state", "live")
		b.click("#tail-pause")
		b.seesText(".view-tail .state", "paused")
		s.publish("garden-6", "t-2", "Not this one", "No.")
		s.publish("garden-5", "t-3", "This one", "Yes.")
		b.seesText("#tail-pause", "Go on (1)")
		b.sees(`!document.querySelector(".tail").textContent.includes("garden-5")`)
		b.click("#tail-pause")
		b.seesText(".tail", "garden-5")
		b.sees(`!document.querySelector(".tail").textContent.includes("garden-6")`)
	})

	t.Run("replays", func(t *testing.T) {
		b := b.of(t)
		b.visit("replays")
		b.seesText(".replay", "garden-1")
		b.fill("#replay-rate", "1")
		b.click("#replay-start")
		b.seesText("dialog", "Replay all sessions?")
		b.click("dialog .primary")
		b.seesText(".replay.running", "left")
	})

	b.pictures()
	quietened()

	t.Run("cancel a replay", func(t *testing.T) {
		b := b.of(t)
		b.visit("replays")
		b.click(".replay.running button")
		b.seesText(".replay.cancelled", "What was merged by then stays.")
	})

	t.Run("dead letters", func(t *testing.T) {
		b := b.of(t)
		b.visit("letters")
		b.seesText(".kinds", "rule")
		b.click(`button[aria-label="Look at letter 13"]`)
		b.seesText("dialog .headers", stream.HeaderReason)
		b.sees(`!document.querySelector("dialog").textContent.includes("finished")`) // the payload
		b.click("#show-payload")
		b.seesText("dialog pre", `"status":"finished"`)
		b.key("Escape")
		b.sees(`document.querySelector("dialog") === null`)
		// Requeued, it comes to nothing again, under a number of its own.
		b.click(`input[aria-label="Choose letter 13"]`)
		b.seesText("#requeue", "Requeue 1 letter")
		b.click("#requeue")
		b.seesText("#said", "0 requeued; 1 came back: status must be")
		b.sees(`document.querySelector('input[aria-label="Choose letter 14"]') !== null`)
		// All of a kind are discarded, but not without being asked, and nothing else is.
		b.sees(`[...document.querySelectorAll(".chip")].some(c => c.textContent === "json9")`)
		b.evaluate(`[...document.querySelectorAll(".chip")].find(c => c.textContent === "json9").click()`)
		b.seesText("#discard", "Discard all 9 of kind json")
		b.click("#discard")
		b.seesText("dialog", "for good")
		b.key("Escape")
		b.sees(`document.querySelector("dialog") === null && document.querySelectorAll(".view-letters tbody tr").length === 9`)
		b.click("#discard")
		b.click("dialog .danger")
		b.seesText("#said", "9 discarded.")
		var list struct{ Total int }
		s.ask("/console/api/letters", &list)
		if list.Total != 4 {
			t.Errorf("%d dead letters are left, not 4", list.Total)
		}
	})

	t.Run("keyboard", func(t *testing.T) { b.of(t).keyboard() })
	b.quiet(s.base)
	s.end()
}

// Without its server the page says so, how old its figures are, and goes on when it is back.
func TestConsoleStale(t *testing.T) {
	s := serveSomething(t, "--read-only", "--base-path", "/ops")
	b := openBrowser(t, s.base+"/ops/console/")
	b.seesText("#facts", "read-only")
	b.visit("letters")
	b.sees(`document.querySelector("#requeue").disabled && document.querySelector("#discard").disabled`)
	b.visit("replays")
	b.sees(`document.querySelector("#replay-start").disabled`)
	b.visit("overview")
	b.seesText(".view-overview tbody", "transcripts")
	b.quiet(s.base)
	s.end()
	b.seesText("#stale", "These figures are")
	b.seesText("#stale", "cannot be reached")
	s.begin()
	b.sees(`document.querySelector("#stale").hidden && document.querySelector(".view-overview tbody").textContent.includes("transcripts")`)
}

func quoteJS(s string) string {
	b, _ := json.Marshal(s) // of a string, always
	return string(b)
}
