package docs_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
	"github.com/afterword-io/afterword/transcript"
)

// The trace that requests of the test are in.
const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceparent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// longMessage takes the model of the examples longAnswer to repeat, or a little more.
var longMessage = strings.Repeat("word ", 1000)

const longAnswer = 20 * time.Second

// The chat APIs of deploy/examples, against `afterword serve`: answers stream, the
// turn before is known at the next, what a user cut off stays, turns are in the trace
// of their request, and a stop loses nothing.
func TestChatExamples(t *testing.T) {
	collector := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL) // without one a gateway passes no trace on
	s := newScene(t)
	defer s.serve()()
	if err := goBuild(filepath.Join(s.dir, "bin", "chat"), "./deploy/examples/chat"); err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Abs(filepath.Join(root, "deploy/examples"))
	if err != nil {
		t.Fatal(err)
	}
	python, err := python()
	if err != nil {
		t.Fatal(err)
	}
	s.chat("go", "127.0.0.1:9001", "bin/chat", "--spool-dir", "chat-spool")
	s.chat("python", "127.0.0.1:9002", python, filepath.Join(examples, "chat.py"))
}

// chat starts a chat API and talks to it.
func (s *scene) chat(name, addr, program string, args ...string) {
	t := s.t
	t.Helper()
	var log strings.Builder
	cmd := s.command(program, args...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	url := "http://" + addr + "/chat/" + name + "%20%2F1"
	s.eventually("the chat of "+name+" answers", func() bool {
		_, err := s.shell("curl -s -o /dev/null http://" + addr + "/")
		return err == nil
	})

	for _, stranger := range []string{"Origin: http://evil.example.org", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Host: evil.example.org", "Host: localhost.evil.org"} {
		out, err := s.shell(fmt.Sprintf("curl -s -o /dev/null -w '%%{http_code}' -H '%s' --data-binary 'not by a user' %s", stranger, url))
		if err != nil || out != "403" && out != "421" {
			t.Errorf("%s answers a page with %q with %s, %v", name, stranger, out, err)
		}
	}
	say := func(text string) string {
		out, err := s.shell(fmt.Sprintf("curl -sSfN -H 'traceparent: %s' --data-binary '%s' %s", traceparent, text, url))
		if err != nil {
			t.Fatalf("%s: %v: %s\n%s", name, err, out, log.String())
		}
		return strings.TrimSpace(out)
	}
	first, second := "Turn 1. Now you say: Hello there", `Turn 2. Before, you said "Hello there". Now you say: And now?`
	if got := say("Hello there"); got != first {
		t.Errorf("%s: the first answer is %q", name, got)
	}
	if got := say("And now?"); got != second { // at once: whoever lags, the turn before is known
		t.Errorf("%s: the second answer is %q", name, got)
	}

	// Words come as they are said, and who leaves early has said what was said.
	if err := os.WriteFile(filepath.Join(s.dir, "long"), []byte(longMessage), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	out, err := s.shell("curl -sN -H 'traceparent: " + traceparent + "' --data-binary @long " + url + " | head -c 100")
	if took := time.Since(began); err != nil || !strings.Contains(out, "Turn 3. ") || !strings.Contains(out, "word ") || took > longAnswer*3/4 {
		t.Errorf("%s: left early, after %s, with %v: %q", name, took, err, out)
	}
	var turns []transcript.Turn
	s.eventually("all turns of "+name+" are written", func() bool {
		text, err := s.shell("curl -sf http://127.0.0.1:8080/v1/sessions/" + name + "%20%2F1/transcript")
		var doc struct {
			Messages []transcript.Turn `json:"messages"`
		}
		if err != nil || json.Unmarshal([]byte(text), &doc) != nil {
			return false
		}
		turns = doc.Messages
		return len(turns) == 3 && turns[2].Status.Final()
	})
	for i, want := range []transcript.Turn{
		{User: "Hello there", Assistant: first, Status: transcript.Complete},
		{User: "And now?", Assistant: second, Status: transcript.Complete},
		{User: longMessage, Assistant: "Turn 3.", Status: transcript.Cancelled},
	} {
		got := turns[i]
		if got.User != want.User || !strings.HasPrefix(got.Assistant, want.Assistant) || got.Status != want.Status || got.Rev != 2 || got.Model != "fake" {
			t.Errorf("%s: turn %d is %+v, want %+v", name, i+1, got, want)
		}
	}

	s.inTrace(name)

	cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(endsWithin, func() { cmd.Process.Kill() })
	defer late.Stop()
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: told to stop it ends with %v:\n%s", name, err, log.String())
	}
}

// inTrace checks that every message of a chat's session is in the trace of its requests.
func (s *scene) inTrace(name string) {
	t := s.t
	t.Helper()
	js := servertest.JetStream(t, nats.DefaultURL, publisher.Embedded(filepath.Join(s.dir, "data")))
	defer js.Conn().Close()
	c, err := js.OrderedConsumer(t.Context(), stream.Turns, jetstream.OrderedConsumerConfig{FilterSubjects: []string{stream.TurnSubject(name + " /1")}})
	if err != nil {
		t.Fatal(err)
	}
	const snapshots = 6 // of 3 turns
	for i := range snapshots {
		m, err := c.Next(jetstream.FetchMaxWait(readyWithin))
		if err != nil {
			t.Fatalf("%s: snapshot %d of %d: %v", name, i+1, snapshots, err)
		}
		if got := m.Headers().Get(stream.HeaderTraceparent); !strings.Contains(got, traceID) {
			t.Errorf("%s: snapshot %d has the trace %q, not %s", name, i+1, got, traceID)
		}
	}
}

// eventually polls ok, at most as long as it takes to get ready.
func (s *scene) eventually(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(readyWithin); !ok(); time.Sleep(tryAgain) {
		if time.Now().After(end) {
			s.t.Fatalf("timed out after %s waiting until %s", readyWithin, what)
		}
	}
}
