//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/servertest"
	"github.com/afterword-io/afterword/transcript"
)

const backupSessions, backupTurns = 40, 25

// backupLines is a file with turns of all sessions.
func backupLines(t *testing.T, kind string) string {
	t.Helper()
	var b strings.Builder
	for turn := range backupTurns {
		for s := range backupSessions {
			fmt.Fprintf(&b, `{"session_id":"s%d","user":"%s %d","assistant":"%s"}`+"\n", s, kind, turn, strings.Repeat("x", 300))
		}
	}
	path := filepath.Join(t.TempDir(), kind+".jsonl")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A copy that was made while turns are written and folded has all that was durable
// before, and restored with a replay it is what was lost, byte for byte.
func TestBackupAndRestore(t *testing.T) {
	program, srv, dir := afterword(t), servertest.NATS(t), t.TempDir()
	data := filepath.Join(dir, "data")
	command := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Env = append(os.Environ(), "NATS_URL="+srv.URL(), "REDIS_URL=none")
		return cmd
	}
	ok := func(args ...string) string {
		t.Helper()
		out, err := command(args...).CombinedOutput()
		if err != nil {
			t.Fatalf("afterword %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	consume := command("consume", "--data-dir", data)
	s := start(t, consume)
	s.says(`msg=(consuming)`)
	ok("publish", "--file", backupLines(t, "before"))
	servertest.Eventually(t, soon, "all turns to be durable", func() bool {
		return strings.Contains(ok("stream", "info", "--json"), `"pending":0,"ack_pending":0`)
	})

	more := start(t, command("publish", "--file", backupLines(t, "meanwhile")))
	var copies []string
	for i := range 3 {
		copies = append(copies, filepath.Join(dir, fmt.Sprint("backup", i)))
		run(t, repository, "deploy/backup", data, copies[i])
	}
	more.ends()
	ok("verify", "--all", "--data-dir", data)
	s.stop()

	for _, c := range copies {
		store, err := transcript.Open(transcript.Config{Dir: filepath.Join(c, "transcripts"), ReadOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		for i := range backupSessions {
			r, err := store.Recent(t.Context(), fmt.Sprint("s", i), 10*backupTurns)
			if err != nil || len(r.Turns) < backupTurns {
				t.Errorf("%s, s%d: %d turns, %v; %d were durable before", filepath.Base(c), i, len(r.Turns), err, backupTurns)
			}
		}
		if err := store.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}

	// The disk is lost. The copy goes where the folder was, and the stream has the rest.
	lost := filepath.Join(dir, "lost")
	if err := os.Rename(data, lost); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copies[0], data); err != nil {
		t.Fatal(err)
	}
	ok("replay", "--all", "--data-dir", data)
	if out := ok("verify", "--all", "--data-dir", data); !strings.Contains(out, fmt.Sprintf("%d sessions with %d turns compared", backupSessions, 2*backupSessions*backupTurns)) {
		t.Errorf("verify says %s", out)
	}
	again := start(t, command("consume", "--data-dir", data)) // the group knows its folder
	again.says(`msg=(consuming)`)
	again.stop()
	for i := range backupSessions {
		path := transcript.DocumentPath(transcript.Sharded, fmt.Sprint("s", i))
		was, err := os.ReadFile(filepath.Join(lost, "transcripts", path))
		if err != nil {
			t.Fatal(err)
		}
		is, err := os.ReadFile(filepath.Join(data, "transcripts", path))
		if err != nil || string(is) != string(was) {
			t.Errorf("%s is not what it was, %v", path, err)
		}
	}

	if out, err := exec.Command(filepath.Join(repository, "deploy/backup"), data, lost).CombinedOutput(); err == nil || !strings.Contains(string(out), "exists already") {
		t.Errorf("a second copy under one name: %v, %s", err, out)
	}
}
