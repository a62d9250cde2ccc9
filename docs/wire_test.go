package docs_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/afterword-io/afterword/internal/credentials"
	"github.com/afterword-io/afterword/internal/embedded"
	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

const wire = "docs/wire.md"

// publishWithin bounds one run of publish.py, its retries included.
const publishWithin = 30 * time.Second

// times is an id that the page writes as "60 × `x`".
var times = regexp.MustCompile("^(\\d+) × `(.+)`$")

// vectors are the session ids of the page, with their tokens.
func vectors(t *testing.T) map[string]string {
	t.Helper()
	tokens := make(map[string]string)
	for _, row := range rows(page(t, wire), 2) {
		id := row[0]
		if m := times.FindStringSubmatch(id); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			id = strings.Repeat(m[2], n)
		}
		if !strings.Contains(row[1], " ") && row[0] != "header" && row[1] != "token" && !strings.HasPrefix(row[1], "---") {
			tokens[id] = row[1]
		}
	}
	if len(tokens) < 14 {
		t.Fatalf("%s has %d test vectors: %v", wire, len(tokens), tokens)
	}
	return tokens
}

func TestTokensOfThePage(t *testing.T) {
	for id, token := range vectors(t) {
		if got := transcript.Token(id); got != token {
			t.Errorf("the token of %q is %s, the page says %s", id, got, token)
		}
	}
}

func TestNamesOfThePage(t *testing.T) {
	text := page(t, wire)
	for _, name := range []string{
		stream.Turns, stream.Dead, stream.TurnSubjects, stream.DeadSubjects, stream.TurnPrefix + "<token>", stream.DeadPrefix + "<group>",
		stream.HeaderMsgID, stream.HeaderTraceparent, stream.HeaderType, stream.HeaderReason, stream.HeaderStreamSeq, stream.HeaderSubject, stream.HeaderTime,
	} {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("%s does not name %s", wire, name)
		}
	}
}

// TestMembersOfThePage checks that the table lists the members that the code
// knows, and that the code knows those that the table lists.
func TestMembersOfThePage(t *testing.T) {
	listed := make(map[string]bool)
	for _, row := range rows(page(t, wire), 4) {
		listed[row[0]] = true
	}
	fields := reflect.TypeFor[transcript.Turn]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		switch fields.Field(i).Name {
		case "Timestamp":
			name = "timestamp"
		case "CompletedAt":
			name = "completed_at"
		case "Extra":
			continue
		}
		if !listed[name] {
			t.Errorf("%s does not list the member %s", wire, name)
		}
		delete(listed, name)
	}
	delete(listed, "member")
	for name := range listed {
		if !strings.HasPrefix(name, "---") {
			t.Errorf("%s lists %s, which is no member of a turn", wire, name)
		}
	}
	for name := range map[string]bool{"session_id": true, "model": true, "usage": true, "tool_calls": true, "attachments": true, "meta": true, "rev": true} {
		in := `{"session_id":"a","id":"b","timestamp":"2026-01-31T12:00:00Z","user":"","x":1,"` + name + `":null}`
		if _, err := transcript.Decode([]byte(in), 0); name != "session_id" && err == nil {
			t.Errorf("%s: null is accepted, the page says that it is not", name)
		}
	}
}

func TestCanonicalEncodingOfThePage(t *testing.T) {
	sent, canonical := fences(t, wire, "json sent"), fences(t, wire, "json canonical")
	if len(sent) != 1 || len(canonical) != 1 {
		t.Fatalf("%s has %d examples as sent and %d canonical ones", wire, len(sent), len(canonical))
	}
	snap, err := transcript.Decode([]byte(sent[0]), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(snap.Payload()) + "\n"; got != canonical[0] {
		t.Errorf("the canonical encoding is\n%sthe page says\n%s", got, canonical[0])
	}
}

func TestMessageIDOfThePage(t *testing.T) {
	m := regexp.MustCompile("(?s)For the payload `([^`]+)` the subject is `([^`]+)`\\s+and `Nats-Msg-Id` is `([^`]+)`").FindStringSubmatch(page(t, wire))
	if m == nil {
		t.Fatalf("%s has no example of a message id", wire)
	}
	snap, err := transcript.Decode([]byte(m[1]), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.TurnSubject(snap.SessionID); got != m[2] {
		t.Errorf("the subject is %s, the page says %s", got, m[2])
	}
	if got := stream.MsgID([]byte(m[1])); got != m[3] {
		t.Errorf("the message id is %s, the page says %s", got, m[3])
	}
}

// python is the interpreter. What is first on the path may be a script that looks for it each time, which takes
// longer than an example does.
var python = sync.OnceValues(func() (string, error) {
	found, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("needs python3, which `make test` installs: %w", err)
	}
	out, err := exec.Command(found, "-c", "import sys; print(sys.executable)").Output()
	return strings.TrimSpace(string(out)), err
})

// publishPy runs the example that publishes a turn without any library.
func publishPy(t *testing.T, server, session, user, assistant string, more ...string) (string, error) {
	t.Helper()
	python, err := python()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), publishWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, filepath.Join(root, "deploy/examples/publish.py"), "--server", server, session, user, assistant)
	cmd.Args = append(cmd.Args, more...)
	cmd.Env = append(os.Environ(), "PYTHONUTF8=1", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestPublishPy(t *testing.T) {
	srv := servertest.NATS(t)
	js := servertest.JetStream(t, srv.URL())

	if out, err := publishPy(t, srv.Addr(), "abc", "Hi", "Hello."); err == nil || !strings.Contains(out, "afterword stream init") {
		t.Errorf("without a stream publish.py ends with %v and says:\n%s", err, out)
	}
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	for _, session := range []string{"", strings.Repeat("x", 256), "a\tb"} {
		if out, err := publishPy(t, srv.Addr(), session, "Hi", ""); err == nil || !strings.Contains(out, "a session id is") {
			t.Errorf("session %q: publish.py ends with %v and says:\n%s", session, err, out)
		}
	}

	turns, err := js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	const user, assistant = "Ist das \"sicher\"?\n\\ < 空 🙂", "Ja."
	for session := range vectors(t) {
		out, err := publishPy(t, srv.Addr(), session, user, assistant)
		if err != nil {
			t.Fatalf("session %q: %v:\n%s", session, err, out)
		}
		var done struct {
			ID        string
			Sequences []uint64
		}
		if err := json.Unmarshal([]byte(out), &done); err != nil || len(done.Sequences) != 2 {
			t.Fatalf("session %q: publish.py prints %q: %v", session, out, err)
		}
		for i, seq := range done.Sequences {
			msg, err := turns.GetMsg(t.Context(), seq)
			if err != nil {
				t.Fatal(err)
			}
			snap, err := transcript.Decode(msg.Data, 0)
			if err != nil {
				t.Fatalf("session %q: %v: %s", session, err, msg.Data)
			}
			turn, err := snap.Turn()
			if err != nil {
				t.Fatal(err)
			}
			want := transcript.Turn{ID: done.ID, SessionID: session, Timestamp: turn.Timestamp, User: user, Status: transcript.Pending, Rev: i + 1}
			if i == 1 {
				want.Status, want.Assistant = transcript.Complete, assistant
			}
			if !reflect.DeepEqual(turn, want) {
				t.Errorf("session %q: published %+v, want %+v", session, turn, want)
			}
			if msg.Subject != stream.TurnSubject(session) {
				t.Errorf("session %q: subject %s, want %s", session, msg.Subject, stream.TurnSubject(session))
			}
			if got := msg.Header.Get(stream.HeaderMsgID); got != stream.MsgID(msg.Data) {
				t.Errorf("session %q: message id %s, want %s", session, got, stream.MsgID(msg.Data))
			}
		}
	}
}

// With the credentials in a data folder publish.py publishes to the server that requires them.
func TestPublishPyToEmbedded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	keys, err := credentials.Make(dir, embedded.DefaultNATS, embedded.DefaultRedis)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := embedded.StartNATS(embedded.NATSConfig{Dir: filepath.Join(dir, "nats"), Addr: "127.0.0.1:0", User: keys.NATS.User, Password: keys.NATS.Password})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown(t.Context())
	js := servertest.JetStream(t, srv.ClientURL())
	if err := stream.Ensure(t.Context(), js, stream.StreamConfig{}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(keys.NATS.Listens(srv.Addr()), keys.Save()); err != nil {
		t.Fatal(err)
	}
	if out, err := publishPy(t, srv.Addr(), "abc", "Hi", "Hello.", "--data-dir", dir); err != nil || !strings.Contains(out, `"sequences": [1, 2]`) {
		t.Errorf("publish.py ends with %v and says:\n%s", err, out)
	}
}

// TestSampleConversations checks the sample: every line a turn, and of every kind
// that is worth trying.
func TestSampleConversations(t *testing.T) {
	f, err := os.Open(filepath.Join(root, "deploy/examples/conversations.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sessions, turns, statuses := make(map[string]int), 0, make(map[transcript.Status]int)
	for lines := bufio.NewScanner(f); lines.Scan(); turns++ {
		d, err := transcript.ParseDraft(lines.Bytes())
		if err != nil {
			t.Fatalf("line %d: %v", turns+1, err)
		}
		sessions[d.SessionID]++
		statuses[d.Status]++
	}
	if len(sessions) < 12 || turns < 40 || len(statuses) < 4 || sessions["long-walk"] <= 10 {
		t.Errorf("%d turns of %d sessions, by status %v", turns, len(sessions), statuses)
	}
}
