package consumer

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/stream"
)

// Nothing of a payload that cannot be processed is in the reason of its dead letter, in a list
// of them, or in a log line, be it of the consumer or of a replay.
func TestReasonsQuoteNothing(t *testing.T) {
	const spoken = "Qyzzyxwqv"
	f := newFixture(t)
	subject := stream.TurnSubject("s")
	const head = `{"session_id":"s","id":"x","timestamp":"2026-11-23T15:00:00Z","user":"a"`
	payloads := []string{
		head + `,"assistant":"\ud800` + spoken + `"}`, head + `,"assistant":"\u` + spoken + `"}`, head + `,"` + spoken + `":1,"` + spoken + `":2}`,
		head + `,"assistant":` + spoken + `}`, head + `,"status":"` + spoken + `"}`, head + `,"rev":"` + spoken + `"}`, head + `,"usage":{"input_tokens":"` + spoken + `"}}`,
		head + `,"completed_at":"` + spoken + `"}`, head + `,"supersedes":"/` + spoken + `"}`, `"` + spoken + `"`, spoken, "\x00" + spoken, head + "\xff" + spoken,
		`{"session_id":"` + spoken + `","id":"x","timestamp":"2026-11-23T15:00:00Z","user":"a"}`,
	}
	for _, p := range payloads {
		f.send(subject, []byte(p), "")
	}
	if _, err := f.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte(head + `}`), Header: nats.Header{stream.HeaderType: {spoken}}}); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // read when nobody writes any more
	logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	_, stop := f.start(Config{Store: f.store(filepath.Join(t.TempDir(), "transcripts")), Logger: logger})
	f.drained(DefaultGroup)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := Replay(t.Context(), ReplayConfig{JS: f.js, Store: f.store(filepath.Join(t.TempDir(), "transcripts")), Logger: logger}); err != nil {
		t.Fatal(err)
	}
	letters := f.lettersOf(DeadFilter{})
	if len(letters) != len(payloads)+1 {
		t.Errorf("%d letters, want %d", len(letters), len(payloads)+1)
	}
	said := log.String()
	for _, l := range letters {
		said += "\n" + l.Reason
	}
	if strings.Count(said, "skipped a message") != len(letters) {
		t.Errorf("the replay did not skip all of them: %s", said)
	}
	for i := range len(spoken) - 2 { // parts of it, too
		if at := strings.Index(said, spoken[i:i+3]); at >= 0 {
			t.Fatalf("%q is in …%.200s", spoken[i:i+3], said[max(0, at-100):])
		}
	}
}
