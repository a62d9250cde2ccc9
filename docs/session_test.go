package docs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/afterword-io/afterword/internal/stream"
	"github.com/afterword-io/afterword/publisher"
)

// Bounds of these tests.
const (
	readyWithin = 20 * time.Second
	shownWithin = 10 * time.Second // what was stored is readable everywhere
	endsWithin  = 25 * time.Second // --drain-timeout is 20 s
	tryAgain    = 50 * time.Millisecond
)

// step is a command of a page, and what the page says that it prints.
type step struct {
	command string
	want    []string
	says    bool // its block says what is printed; otherwise it only has to succeed
}

// output marks the lines of a block that a command prints. "…" stands for anything.
const output = "#=> "

// steps reads the commands of a page that are run.
func steps(t *testing.T, name string) (all []step) {
	t.Helper()
	for _, block := range fences(t, name, "sh") {
		says, command := strings.Contains(block, output), ""
		for line := range strings.Lines(block) {
			line = strings.TrimSuffix(line, "\n")
			if line == strings.TrimSpace(output) {
				line = output // an empty line
			}
			switch want, ok := strings.CutPrefix(line, output); {
			case ok:
				last := &all[len(all)-1]
				last.want = append(last.want, want)
			case command == "" && (line == "" || line[0] == '#'):
			default:
				if command += line; strings.HasSuffix(line, `\`) {
					command += "\n"
					continue
				}
				all = append(all, step{command: command, says: says})
				command = ""
			}
		}
	}
	return all
}

// pattern makes a regular expression of what a page prints.
func pattern(want []string) *regexp.Regexp {
	text := regexp.QuoteMeta(strings.Join(want, "\n"))
	return regexp.MustCompile("(?s)^" + strings.ReplaceAll(text, "…", ".+?") + "\n?$")
}

// status makes curl print the status code, a space and the body, as the pages have it.
const status = `curl() { command curl -sS -o body -w '%{http_code} ' "$@" && cat body; }; `

// play runs the steps of a page and compares what they print. Commands that only
// read get some time to see what was stored. Services run until the page has ended.
func (s *scene) play(name string) {
	s.t.Helper()
	for i, st := range steps(s.t, name) {
		if service.MatchString(st.command) {
			defer s.start(fmt.Sprint("127.0.0.1:", firstPort+i), st.command)()
			continue
		}
		if !st.says {
			// `afterword status` succeeds by looking: 1 says that there are warnings, as of dead letters.
			got, err := s.shell(s.placed(st.command))
			var exit *exec.ExitError
			if warns := errors.As(err, &exit) && exit.ExitCode() == 1 && strings.HasPrefix(st.command, "afterword status"); err != nil && !warns {
				s.t.Errorf("%s:\n%s\nends with %v:\n%s", name, st.command, err, got)
			}
			continue
		}
		want := pattern(st.want)
		reads := !strings.Contains(st.command, "--json")
		for end := time.Now().Add(shownWithin); ; time.Sleep(tryAgain) {
			got, err := s.shell(status + st.command)
			if err == nil && want.MatchString(got) {
				break
			}
			if !reads || time.Now().After(end) {
				s.t.Errorf("%s:\n%s\nprints, with %v:\n%s\nbut the page says:\n%s", name, st.command, err, got, strings.Join(st.want, "\n"))
				break
			}
		}
	}
}

// firstPort is the first of those on which the services of a page listen.
const firstPort = 18080

// sessions are the pages whose commands are run, and how.
func sessions() map[string]func(*scene) {
	return map[string]func(*scene){
		"README.md": func(s *scene) {
			defer s.serve()()
			s.play("README.md")
			s.goProgram("docs/go.md") // against the same server
		},
		"docs/http.md": func(s *scene) {
			defer s.serve()()
			s.play("docs/http.md")
		},
		"docs/console.md": func(s *scene) { s.play("docs/console.md") },
		operations: func(s *scene) {
			defer s.serve()()
			s.talk()
			s.deadLetters()
			s.play(operations)
		},
		"docs/runbook.md": func(s *scene) {
			defer s.start("127.0.0.1:8080", "afterword serve --group transcripts --data-dir /var/lib/afterword/transcripts")()
			s.env = s.credentials("var/lib/afterword/transcripts") // the page has servers that need none
			s.talk()
			s.play("docs/runbook.md")
		},
	}
}

// Every command that a page does not mark is run, in the order of the page.
func TestSessions(t *testing.T) {
	for name, play := range sessions() {
		t.Run(filepath.Base(name), func(t *testing.T) { play(newScene(t)) })
	}
}

// credentials are the variables in a data folder with which other programs connect.
func (s *scene) credentials(dataDir string) (env []string) {
	s.t.Helper()
	text, err := s.shell("set -a; . " + filepath.Join(dataDir, "credentials") + "; printenv NATS_URL REDIS_URL")
	urls := strings.Fields(text)
	if err != nil || len(urls) != 2 {
		s.t.Fatalf("the credentials in %s are no variables: %v", dataDir, err)
	}
	return []string{"NATS_URL=" + urls[0], "REDIS_URL=" + urls[1]}
}

// talk publishes some turns, one of them of the session abc.
func (s *scene) talk() {
	s.t.Helper()
	s.must("afterword publish --file deploy/examples/conversations.jsonl")
	s.must(`afterword publish --file - --base-time 2026-01-31T00:00:00Z <<<'{"session_id":"abc","user":"Is it there?","assistant":"Yes."}'`)
}

// must runs a command of the scene that is on no page.
func (s *scene) must(command string) {
	s.t.Helper()
	if out, err := s.shell(command); err != nil {
		s.t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// deadLetters stores the letters 1 to 8: six turns that can be given back, and two
// messages that cannot be turns.
func (s *scene) deadLetters() {
	s.t.Helper()
	nc, err := nats.Connect(nats.DefaultURL, publisher.Embedded(filepath.Join(s.dir, "data"))) // from this thread, which is in the scene's network
	if err != nil {
		s.t.Fatal(err)
	}
	defer nc.Close()
	for i := range 8 {
		m := nats.NewMsg(stream.DeadPrefix + "transcripts")
		m.Header.Set(stream.HeaderSubject, stream.TurnSubject("abc"))
		m.Header.Set(stream.HeaderStreamSeq, fmt.Sprint(i+1))
		if m.Header.Set(stream.HeaderReason, "not acceptable JSON"); i < 6 {
			m.Header.Set(stream.HeaderReason, "session-unwritable: a test says so")
			m.Data = fmt.Appendf(nil, `{"session_id":"abc","id":"dead-%d","timestamp":"2026-01-31T12:00:00Z","user":"Again?","assistant":"Yes."}`, i)
			// What it was made of: a letter that nothing was made of is not given back.
			reply, err := nc.Request(stream.TurnSubject("abc"), m.Data, readyWithin)
			if err != nil {
				s.t.Fatal(err)
			}
			var ack struct {
				Seq uint64 `json:"seq"`
			}
			if err := json.Unmarshal(reply.Data, &ack); err != nil || ack.Seq == 0 {
				s.t.Fatalf("not stored: %s %v", reply.Data, err)
			}
			m.Header.Set(stream.HeaderStreamSeq, fmt.Sprint(ack.Seq))
		}
		if _, err := nc.RequestMsg(m, readyWithin); err != nil {
			s.t.Fatal(err)
		}
	}
}

// goProgram runs the Go program of a page, which has one, and compiles the piece after it.
func (s *scene) goProgram(name string) {
	s.t.Helper()
	programs := fences(s.t, name, "go")
	if len(programs) != 2 {
		s.t.Fatalf("%s has %d pieces of Go, not a program and a piece about traces", name, len(programs))
	}
	piece := filepath.Join(s.dir, "piece.go")
	if err := os.WriteFile(piece, []byte(programs[1]), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := goBuild(os.DevNull, piece); err != nil {
		s.t.Error(err)
	}
	source := filepath.Join(s.dir, "example.go")
	if err := os.WriteFile(source, []byte(programs[0]), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := goBuild(filepath.Join(s.dir, "bin", "example"), source); err != nil {
		s.t.Fatal(err)
	}
	if got, err := s.shell("bin/example"); err != nil || strings.TrimSpace(got) != "stored" {
		s.t.Errorf("the program of %s prints %q, with %v", name, got, err)
	}
}
