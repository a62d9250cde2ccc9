package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/internal/stream"
)

// notRun are the lines of examples that the test does not run, and why. What they
// call is held against the commands all the same.
func notRun() map[string]string {
	const (
		service = "runs until it is stopped; the scripts start it"
		http    = "asks the service of the line before"
		long    = "takes minutes; TestBench runs it small"
		endless = "goes on until Ctrl-C; a script does it"
		jq      = "needs jq"
	)
	return map[string]string{
		"afterword serve": service,
		"afterword serve --data-dir /var/lib/afterword":                                                                              service,
		`curl --json '{"user":"Hi","assistant":"Hello."}' http://127.0.0.1:8080/v1/sessions/abc/turns`:                               http,
		"curl http://127.0.0.1:8080/v1/sessions/abc/history":                                                                         http,
		"afterword gateway --allowed-hosts chat.example.org --nats-url nats://n1,nats://n2,nats://n3 --redis-url redis://cache:6379": service,
		"afterword consume --data-dir /srv/afterword --nats-url nats://n1,nats://n2,nats://n3":                                       service,
		"afterword consume --listen 127.0.0.1:8081":                                                                                  service,
		"afterword console": service,
		"afterword console --service gw1:8080 --service gw2:8080":                                               service,
		"afterword console --nats-url nats://n1,nats://n2,nats://n3 --redis-url redis://cache:6379 --read-only": service,
		"afterword console --base-path /afterword --allowed-hosts ops.example.org":                              service,
		"afterword status --watch":                                                        endless,
		"afterword session tail -f abc":                                                   endless,
		"afterword session tail -f abc --json | jq .user":                                 endless,
		"afterword status --json | jq -r '.checks[] | select(.level != \"ok\") | .found'": jq,
		"afterword dlq show 7 --payload | jq .":                                           jq,
		"afterword status --listen 127.0.0.1:8080 --listen 127.0.0.1:8081":                "needs two services on these ports",
		"afterword stream init --replicas 3 --max-age 90d --max-bytes 100GiB":             "needs a cluster of three",
		"afterword dlq rm --seq 7":                                                        "asks on a terminal; a script does it",
		"man man1/afterword-status.1":                                                     "needs man",
		"afterword bench consume":                                                         long,
		"afterword bench consume --turns 200000 --file a.jsonl.gz --file b.jsonl.gz":      long,
		"afterword bench consume --turns 1000000 --sessions 100000 --runs 3":              long,
		"afterword bench growth":                                                          long,
		"afterword bench growth --turns 10000 --runs 3":                                   long,
		"afterword bench publish":                                                         long,
		"afterword bench publish --nodes 3 --plot publish.svg":                            long,
		"afterword bench replay":                                                          long,
		"afterword bench replay --turns 1000000 --sessions 50000 --active 2000":           long,
		"afterword bench response --users 50 --condition healthy":                         long,
		"sudo afterword bench response --runs 5 --plot response.svg":                      long,
		"sudo afterword bench response --checks-only":                                     long,
	}
}

// ownCommands are all commands but those that cobra adds, and those that bench starts itself.
func ownCommands() (all []*cobra.Command) {
	c := &cli{stdout: io.Discard, stderr: io.Discard, env: func(string) (string, bool) { return "", false }}
	everyCommand(c.root(), func(cmd *cobra.Command) {
		for up := cmd; up != nil; up = up.Parent() {
			if up.Hidden {
				return
			}
		}
		all = append(all, cmd)
	})
	return all
}

// Every command has examples, and they call what there is.
func TestExamplesParse(t *testing.T) {
	left := notRun()
	for _, cmd := range ownCommands() {
		if strings.TrimSpace(cmd.Example) == "" || cmd.Short == "" {
			t.Errorf("%s has no example, or no text", cmd.CommandPath())
		}
		own := false
		for line := range strings.Lines(cmd.Example) {
			line = strings.TrimSpace(line)
			delete(left, line)
			for _, part := range strings.Split(line, " | ") {
				args := words(part)
				if len(args) == 0 {
					continue
				}
				if args[0] == "sudo" {
					args = args[1:]
				}
				if args[0] != "afterword" {
					continue
				}
				c := &cli{stdout: io.Discard, stderr: io.Discard}
				found, rest, err := c.root().Find(args[1:])
				if err == nil {
					err = found.ParseFlags(rest)
				}
				if err == nil {
					err = found.ValidateArgs(found.Flags().Args())
				}
				if err != nil {
					t.Errorf("%s: %q: %v", cmd.CommandPath(), line, err)
				}
				own = own || strings.HasPrefix(found.CommandPath(), cmd.CommandPath())
			}
		}
		if !own {
			t.Errorf("no example of %s calls it", cmd.CommandPath())
		}
	}
	for line := range left {
		t.Errorf("no command has the example %q any more", line)
	}
}

// words splits a line as a shell does, as far as examples need it.
func words(line string) []string {
	var all []string
	var b strings.Builder
	quote := false
	for _, r := range line + " " {
		switch {
		case r == '\'':
			quote = !quote
		case r == ' ' && !quote:
			if b.Len() > 0 {
				all = append(all, b.String())
			}
			b.Reset()
		case r == '>' && !quote:
			return all
		default:
			b.WriteRune(r)
		}
	}
	return all
}

// Examples run, where there is what they speak of.
func TestExamplesRun(t *testing.T) {
	skip, ran := notRun(), 0
	dir := t.TempDir()
	calm := servertest.NATS(t)
	exampleFiles(t, dir)
	shell := func(url, line string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(t.Context(), scriptPatience)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-c", "set -o pipefail; "+strings.ReplaceAll(line, "/srv/", dir+"/srv/"))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "NATS_URL="+url, "REDIS_URL=none")
		return cmd.CombinedOutput()
	}
	for _, line := range []string{"afterword publish --file turns.jsonl", "afterword replay --all"} {
		if out, err := shell(calm.URL(), line); err != nil {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
	}
	for _, cmd := range ownCommands() {
		for line := range strings.Lines(cmd.Example) {
			line = strings.TrimSpace(line)
			if skip[line] != "" {
				continue
			}
			ran++
			url := calm.URL()
			if strings.Contains(line, " dlq ") {
				url = withDeadLetters(t)
			}
			out, err := shell(url, line)
			if strings.HasPrefix(line, "afterword status") && strings.Contains(string(out), "no group consumes") {
				continue // that is what it has to say of this scene
			}
			if err != nil {
				t.Errorf("%s: %v: %s", line, err, out)
			}
		}
	}
	if ran < 30 {
		t.Errorf("only %d lines were run", ran)
	}
}

// exampleFiles writes what the examples read.
func exampleFiles(t *testing.T, dir string) {
	t.Helper()
	var lines strings.Builder
	for _, session := range []string{"abc", "customer-1"} {
		for i := range 4 {
			fmt.Fprintf(&lines, `{"session_id":%q,"user":"question %d","assistant":"answer"}`+"\n", session, i)
		}
	}
	lines.WriteString(`{"session_id":"abc","id":"0192f0c8-7a11-7000-8000-000000000001","timestamp":"2024-11-03T10:00:00Z","user":"with an id","assistant":"answer"}` + "\n")
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		var w io.WriteCloser = f
		if strings.HasSuffix(name, ".gz") {
			w = gzip.NewWriter(f)
			defer f.Close()
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write("turns.jsonl", lines.String())
	write("turns.jsonl.gz", lines.String())
	write("old.gz", lines.String())
	write("afterword.conf", "drain-timeout = 30s\n")
	write("srv/chat/conversations/x.json", `{"session_id":"x","messages":[{"timestamp":"2024-01-02T03:04:05","user":"a","assistant":"b"}]}`)
	write("chatgpt-export/conversations.json", `[{"id":"y","current_node":"m2","mapping":{
		"m1":{"id":"m1","parent":null,"message":{"author":{"role":"user"},"content":{"content_type":"text","parts":["a"]}}},
		"m2":{"id":"m2","parent":"m1","message":{"author":{"role":"assistant"},"content":{"content_type":"text","parts":["b"]}}}}}]`)
}

// withDeadLetters is a server with the dead letters 1 to 8.
func withDeadLetters(t *testing.T) (url string) {
	t.Helper()
	srv := servertest.NATS(t)
	js := servertest.JetStream(t, srv.URL())
	defer js.Conn().Close()
	if err := stream.Init(t.Context(), js, stream.StreamConfig{}, stream.Repair{}); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if _, err := js.Publish(t.Context(), stream.TurnSubject("abc"), []byte("{")); err != nil { // what it was made of
			t.Fatal(err)
		}
		m := &nats.Msg{Subject: stream.DeadPrefix + "transcripts", Data: []byte("{"), Header: nats.Header{
			stream.HeaderReason: {"not acceptable JSON"}, stream.HeaderSubject: {stream.TurnSubject("abc")}, stream.HeaderStreamSeq: {fmt.Sprint(i + 1)},
		}}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	return srv.URL()
}
