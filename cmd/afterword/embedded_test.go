package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"github.com/afterword-io/afterword/internal/credentials"
)

// The embedded servers take nobody without credentials; every command finds them, and nothing
// that any of them says or shows has them.
func TestEmbeddedCredentials(t *testing.T) {
	p := startServe(t, nil)
	pair, err := credentials.Read(p.dataDir)
	if err != nil {
		t.Fatal(err)
	}
	natsURL, redisURL := "nats://"+pair.NATS.Addr.String(), "redis://"+pair.Redis.Addr.String()
	if nc, err := nats.Connect(natsURL); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("NATS takes a connection without credentials, or %v", err)
		nc.Close()
	}
	plain := redis.NewClient(&redis.Options{Addr: pair.Redis.Addr.String()})
	defer plain.Close()
	if err := plain.Keys(t.Context(), "*").Err(); !redis.IsAuthError(err) {
		t.Errorf("Redis answers without credentials: %v", err)
	}
	canary := func(where, text string) {
		t.Helper()
		for _, password := range []string{pair.NATS.Password, pair.Redis.Password} {
			if strings.Contains(text, password) {
				t.Errorf("%s has a password", where)
			}
		}
	}

	turns := filepath.Join(t.TempDir(), "turns.jsonl")
	if err := os.WriteFile(turns, []byte(`{"session_id":"s","user":"Hi","assistant":"Hello."}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// call runs a command. It has no settings but its arguments; those of config are of the data folder.
	call := func(args ...string) (string, error) {
		cmd := exec.Command("afterword", args...)
		cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "NATS_URL=", "REDIS_URL=", "AFTERWORD_DATA_DIR=")
		if args[0] == "config" {
			cmd.Env = append(cmd.Env, "AFTERWORD_DATA_DIR="+p.dataDir)
		}
		out, err := cmd.CombinedOutput()
		canary(strings.Join(args, " "), string(out))
		return string(out), err
	}
	for _, line := range []string{
		"publish --file " + turns, "import " + turns, "stream init", "stream info", "dlq ls", "replay --all", "session tail s", "verify --all", "status", "status --json",
		"config show status", "config show serve",
	} {
		words := strings.Fields(line)
		if words[0] != "config" {
			words = append(words, "--data-dir", p.dataDir)
		}
		out, err := call(words...)
		if err != nil {
			t.Errorf("%s: %v: %s", line, err, out)
		}
		if strings.HasPrefix(line, "status") && (!strings.Contains(out, "nats://afterword:***@") || !strings.Contains(out, "redis://:***@")) {
			t.Errorf("%s does not tell that credentials are in use: %s", line, out)
		}
	}
	// The address may be given, and is the same server.
	if out, err := call("verify", "--all", "--data-dir", p.dataDir, "--nats-url", natsURL, "--redis-url", redisURL); err != nil {
		t.Errorf("with the URLs: %v: %s", err, out)
	}
	// What is given wins, and is wrong at once; without a file nobody knows them.
	for want, args := range map[string][]string{
		"NATS refused the credentials":                     {"stream", "info", "--data-dir", p.dataDir, "--nats-user", "afterword", "--nats-password", "wrong"},
		"none were given and there is no data/credentials": {"stream", "info", "--nats-url", natsURL},
		"Redis refused the credentials at redis://:***@":   {"verify", "--all", "--data-dir", p.dataDir, "--redis-url", strings.Replace(redisURL, "//", "//:wrong@", 1)},
		"credentials file":                                 {"stream", "info", "--data-dir", damaged(t, p.dataDir, "x"), "--nats-url", natsURL},
	} {
		out, err := call(args...)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitTrouble || !strings.Contains(out, want) || strings.Count(out, "\n") != 1 {
			t.Errorf("%v ends with %v and says:\n%s\nwant %q", args, err, out, want)
		}
	}

	// Services beside it find them, too.
	for _, service := range [][]string{{"gateway", "--spool-dir", filepath.Join(t.TempDir(), "spool")}, {"consume"}} {
		cmd := exec.Command("afterword", append(service, "--data-dir", p.dataDir, "--listen", "127.0.0.1:0", "--log-format", "json")...)
		cmd.Env = append(os.Environ(), "NATS_URL=", "REDIS_URL=")
		s := startProcess(t, cmd)
		if _, body, err := request("GET", s.url+"/readyz", ""); err != nil || !strings.Contains(body, `"nats"`) || !strings.Contains(body, `"redis"`) {
			t.Errorf("%s is ready by %s, %v", service[0], body, err)
		}
		canary(service[0]+"'s log", s.log.String())
	}
	for _, path := range []string{"/metrics", "/readyz", "/console/api/overview"} {
		_, body, err := request("GET", p.url+path, "")
		if err != nil {
			t.Fatal(err)
		}
		canary(path, body)
	}
	for _, file := range []string{"cmdline", "environ"} {
		b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), file))
		if err != nil {
			t.Fatal(err)
		}
		canary(file, string(b))
	}
	p.stop()
	canary("its log", p.log.String())
	err = filepath.WalkDir(p.dataDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if path != pair.File() {
			canary(path, string(b))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}

	// A start with a damaged file, or one that others may read, is refused; it stays as it is.
	for want, dir := range map[string]string{"is damaged": damaged(t, p.dataDir, "x"), "chmod 600": damaged(t, p.dataDir, "")} {
		before, err := os.ReadFile(filepath.Join(dir, credentials.FileName))
		if err != nil {
			t.Fatal(err)
		}
		out, err := call("serve", "--data-dir", dir, "--listen", "127.0.0.1:0", "--embedded-nats", "127.0.0.1:0", "--embedded-redis", "127.0.0.1:0")
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != exitTrouble || !strings.Contains(out, want) {
			t.Errorf("it ends with %v and says:\n%s\nwant %q", err, out, want)
		}
		if after, err := os.ReadFile(filepath.Join(dir, credentials.FileName)); err != nil || string(after) != string(before) {
			t.Errorf("the file was changed, or %v", err)
		}
	}
}

// damaged is a data folder with the credentials of another and a text before them; without a text
// others may read them.
func damaged(t *testing.T, from, text string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(from, credentials.FileName))
	if err != nil {
		t.Fatal(err)
	}
	mode := fs.FileMode(0o600)
	if text == "" {
		mode = 0o644
	}
	dir := t.TempDir()
	file := filepath.Join(dir, credentials.FileName)
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(b), "NATS_URL", text+"NATS_URL")), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return dir
}
