//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/transcript"
)

// traceparent is the trace context of requests.
const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// chatNode is the example with what its lock file pins, in a folder of the test.
func chatNode(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc", "chat.js", "turns.js"} {
		b, err := os.ReadFile(filepath.Join(repository, "deploy/examples/chat-node", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, dir, "npm", "ci", "--no-audit", "--no-fund")
	return dir
}

// A chat API in Node that publishes by the wire contract: answers stream, the turn
// before is known at the next, what a user cut off stays, and all of it arrives.
func TestNodeChat(t *testing.T) {
	dir := chatNode(t)
	srv := servertest.NATS(t, servertest.UserPass("afterword", "s3cret"))
	dataDir := t.TempDir() // as `afterword serve` has one
	if err := os.WriteFile(filepath.Join(dataDir, "credentials"), []byte("# more\nNATS_URL="+srv.URL()+"\nREDIS_URL=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	api := serve(t, afterword(t), srv.URL())
	addr := freeAddr(t)
	cmd := exec.Command("node", "chat.js", "--listen", addr, "--data-dir", dataDir, "--gateway", api)
	cmd.Dir = dir
	chat := start(t, cmd)
	chat.says("chat answers")

	for _, header := range [][2]string{{"Origin", "http://evil.example.org"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"}, {"Host", "evil.example.org"}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/chat/node", strings.NewReader("not by a user"))
		if err != nil {
			t.Fatal(err)
		}
		if req.Header.Set(header[0], header[1]); header[0] == "Host" {
			req.Host = header[1]
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("a page with %s: %s", header, res.Status)
		}
	}

	const session = "node%20%2F1"
	say := func(session, text string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/chat/"+session, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("traceparent", traceparent)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v: %s", res.Status, err, b)
		}
		return strings.TrimSpace(string(b))
	}
	first, second := "Turn 1. Now you say: Hello there", `Turn 2. Before, you said "Hello there". Now you say: 空 🙂?`
	if got := say(session, "Hello there"); got != first {
		t.Errorf("the first answer is %q", got)
	}
	if got := say(session, "空 🙂?"); got != second { // at once: whoever lags, the turn before is known
		t.Errorf("the second answer is %q", got)
	}

	// Who leaves after the first word has heard that one.
	long := strings.Repeat("word ", 1000)
	res, err := http.Post("http://"+addr+"/chat/"+session, "text/plain", strings.NewReader(long))
	if err != nil {
		t.Fatal(err)
	}
	word := make([]byte, len("Turn"))
	if _, err := io.ReadFull(res.Body, word); err != nil || string(word) != "Turn" {
		t.Errorf("the third answer begins with %q, %v", word, err)
	}
	res.Body.Close()

	var turns []transcript.Turn
	servertest.Eventually(t, soon, "all turns in the transcript", func() bool {
		res, err := http.Get(api + "/v1/sessions/" + session + "/transcript")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		var doc struct {
			Messages []transcript.Turn `json:"messages"`
		}
		if json.NewDecoder(res.Body).Decode(&doc) != nil {
			return false
		}
		turns = doc.Messages
		return len(turns) == 3 && turns[2].Status.Final()
	})
	for i, want := range []transcript.Turn{
		{User: "Hello there", Assistant: first, Status: transcript.Complete},
		{User: "空 🙂?", Assistant: second, Status: transcript.Complete},
		{User: long, Assistant: "Turn", Status: transcript.Cancelled},
	} {
		got := turns[i]
		if got.User != want.User || !strings.HasPrefix(got.Assistant, want.Assistant) || got.Status != want.Status || got.Rev != 2 || got.Model != "fake" {
			t.Errorf("turn %d is %+v, want %+v", i+1, got, want)
		}
	}

	// While NATS is away answers are the same, and are stored when it is back.
	srv.Stop()
	if got := say("another", "Anybody?"); got != "Turn 1. Now you say: Anybody?" {
		t.Errorf("without NATS the answer is %q", got)
	}
	srv.Restart()
	chat.stop()
	traces := traces(t, srv.URL())
	if len(traces) != 8 {
		t.Errorf("the stream holds %d snapshots of 4 turns with 2 each", len(traces))
	}
	for i, got := range traces { // the third turn's request had none
		if third := i == 4 || i == 5; third && got != "" || !third && got != traceparent {
			t.Errorf("snapshot %d has the trace %q", i+1, got)
		}
	}
}

// traces are the trace contexts of all messages in the stream of turns, in its order.
func traces(t *testing.T, url string) (all []string) {
	t.Helper()
	js := servertest.JetStream(t, url)
	defer js.Conn().Close()
	s, err := js.Stream(t.Context(), stream.Turns)
	if err != nil {
		t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.Header.Get(stream.HeaderTraceparent))
	}
	return all
}

// The token of the example is that of the code, for every byte and for long ids.
func TestNodeTokens(t *testing.T) {
	dir := chatNode(t)
	ids := []string{"a.b", "../..", ">", "*", "=41", "Ünï", "customer_7-B", strings.Repeat("空", 53), strings.Repeat("🙂", 60), strings.Repeat("x", 161), strings.Repeat("x", 160)}
	for c := range 256 {
		if c >= 0xa0 || c >= ' ' && c < 0x7f {
			ids = append(ids, string(rune(c)))
		}
	}
	in, err := json.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := json.Marshal([]string{"", strings.Repeat("x", 256), "a\tb", "\u0085"})
	if err != nil {
		t.Fatal(err)
	}
	script := `import { token } from "./turns.js";
const refuses = (id) => { try { token(id); return false; } catch { return true; } };
console.log(JSON.stringify({ tokens: ` + string(in) + `.map(token), refused: [...` + string(bad) + `, "\ud800"].map(refuses) }));`
	out := run(t, dir, "node", "--input-type=module", "--eval", script)
	var got struct {
		Tokens  []string
		Refused []bool
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Tokens) != len(ids) || len(got.Refused) != 5 {
		t.Fatalf("%v: %s", err, out)
	}
	for i, id := range ids {
		if got.Tokens[i] != transcript.Token(id) {
			t.Errorf("the token of %q is %s, want %s", id, got.Tokens[i], transcript.Token(id))
		}
	}
	for i, refused := range got.Refused {
		if !refused {
			t.Errorf("id %d of those that break the rules is accepted", i)
		}
	}
}
