package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

const (
	importLines = 2000 // in one file, so that a run ends in the middle of it
	importDocs  = 20   // before and after it, of ten turns each
)

// TestKilledImport kills `import --resume` at random moments. What the note says is before its
// position is in the stream at every kill; in the end everything is, once, and the counts are those of
// an import that nobody disturbed.
func TestKilledImport(t *testing.T) {
	srv := servertest.NATS(t)
	dir := t.TempDir()
	note := filepath.Join(t.TempDir(), "note")
	turns := importedFiles(t, dir)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	kills := 0
	for run := 0; ; run++ {
		cmd := exec.Command("afterword", "import", dir, "--resume", note, "--note-every", "10ms", "--buffer-turns", "64", "--json", "--nats-url", srv.URL())
		cmd.Env = append(os.Environ(), "NATS_URL=")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		before := noteOf(t, note).At
		if run < killMost {
			poll(func() bool { return len(ended) > 0 || noteOf(t, note).At != before })
			timer := time.AfterFunc(time.Duration(random.IntN(100))*time.Millisecond, func() { cmd.Process.Kill() })
			defer timer.Stop()
		}
		err := <-ended
		if err == nil {
			var sum importSummary
			if err := json.Unmarshal(stdout.Bytes(), &sum); err != nil || sum.Turns != uint64(turns) || sum.Files != 2*importDocs+1 || sum.Refused != 0 {
				t.Errorf("the last run: %s%s %v; there are %d turns", &stdout, &stderr, err, turns)
			}
			break
		}
		if run >= killMost {
			t.Fatalf("not at the end after %d runs: %v: %s", run, err, &stderr)
		}
		kills++
		if stored, noted := len(storedTurns(t, srv.URL())), noteOf(t, note).Counts.Turns; uint64(stored) < noted {
			t.Errorf("%d turns are in the stream, and the note says %d", stored, noted)
		}
	}
	if kills == 0 {
		t.Error("no run was killed")
	}
	if got := len(storedTurns(t, srv.URL())); got != turns {
		t.Errorf("%d different turns are in the stream, not %d", got, turns)
	}
	if _, err := os.Stat(note); !os.IsNotExist(err) {
		t.Errorf("the note is still there: %v", err)
	}
}

// importedFiles writes what is imported and returns how many turns that are.
func importedFiles(t *testing.T, dir string) int {
	t.Helper()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range importDocs {
		for _, first := range []string{"a", "z"} {
			var b strings.Builder
			name := fmt.Sprintf("%s%d", first, i)
			fmt.Fprintf(&b, `{"session_id":%q,"messages":[`, name)
			for n := range 10 {
				if n > 0 {
					b.WriteByte(',')
				}
				fmt.Fprintf(&b, `{"timestamp":"2024-01-02T03:04:%02d","user":"q","assistant":"a"}`, n)
			}
			write(name+".json", b.String()+"]}")
		}
	}
	var b strings.Builder
	for i := range importLines {
		fmt.Fprintf(&b, `{"session_id":"s%d","user":"q%d","assistant":"a"}`+"\n", i%10, i)
	}
	write("m.jsonl", b.String())
	return importLines + 2*importDocs*10
}

// noteOf reads a note, which is replaced as a whole; a missing one is the beginning.
func noteOf(t *testing.T, file string) (n importNote) {
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return n
	}
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	if err != nil {
		t.Error(err)
	}
	return n
}

// storedTurns reads which turns the stream holds.
func storedTurns(t *testing.T, url string) map[string]bool {
	t.Helper()
	js := servertest.JetStream(t, url)
	defer js.Conn().Close()
	s, err := js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return all
	}
	cons, err := s.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	iter, err := cons.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer iter.Stop()
	for {
		m, err := iter.Next()
		if err != nil {
			t.Fatal(err)
		}
		turn, err := transcript.Decode(m.Data(), transcript.MaxPayload)
		if err != nil {
			t.Fatal(err)
		}
		all[turn.SessionID+" "+turn.ID] = true
		if meta, err := m.Metadata(); err != nil || meta.Sequence.Stream >= state.LastSeq {
			return all
		}
	}
}
