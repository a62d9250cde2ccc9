package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/afterword-io/afterword/internal/embedded"
)

// A start that is refused says why in one line, and leaves nothing behind.
func TestRefusedStartMakesNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	nats, err := embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir(), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer nats.Shutdown(t.Context())
	redis, err := embedded.StartRedis(embedded.RedisConfig{Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("junk\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const nobody, noRediss = "--nats-url=nats://127.0.0.1:1", "--redis-url=rediss://127.0.0.1:1"

	all := [][]string{ // arguments, and what the error says
		{"--redis-url=http://x", "--redis-url"},
		{"--redis-url=redis://:wrong@" + redis.Addr(), "Redis refused the credentials"},
		{noRediss, "--redis-ca=none.pem", "--redis-ca"},
		{noRediss, "--redis-ca=" + junk, "holds no certificate"},
		{noRediss, "--redis-cert=none.pem", "--redis-key=none.pem", "certificate none.pem"},
		{noRediss, "--redis-cert=none.pem", "go together"},
		{"--redis-ca=none.pem", "rediss"},
		{"--cache-key-file=none", "--cache-key-file"},
		{"--cache-key-file=" + junk, "holds 4 bytes"},
		{"--redis-timeout=1us", "1ms or more"},
		{"--nats-url=http://x", "NATS URL"},
		{"--nats-url=nats://a:wrong@" + nats.Addr(), "NATS refused the credentials"},
		{nobody, "--nats-creds=none", "--nats-creds"},
		{nobody, "--nats-creds=" + junk, "--nats-creds"},
		{nobody, "--nats-nkey=none", "--nats-nkey"},
		{nobody, "--nats-ca=none.pem", "--nats-ca"},
		{nobody, "--nats-cert=none.pem", "--nats-key=none.pem", "--nats-cert"},
		{nobody, "--nats-cert=none.pem", "go together"},
		{nobody, "--nats-inbox-prefix=a.*", "--nats-inbox-prefix"},
		{nobody, "--nats-js-domain=a.b", "--nats-js-domain"},
		{"--nats-context=none", "--nats-context"},
		{"--config=none", "--config"},
		{"--nats-nkey=none", ""}, // of no server, where one is embedded
		{"--nats-ca=none", ""},
		{"--listen=" + taken.Addr().String(), "the address is in use"},
		{"--pprof=" + taken.Addr().String(), "the address is in use"},
		{"--listen=nowhere", "host:port"},
		{"--log-level=x", "--log-level"},
		{"--allowed-hosts=*", "--allowed-hosts"},
	}
	cases := map[string][][]string{"gateway": all, "consume": all, "console": all, "serve": all}
	turns := [][]string{
		{"--spool-dir=/proc/afterword", "--spool-dir"},
		{"--spool-dir=" + junk, "--spool-dir"},
		{"--buffer-bytes=10", "--buffer-bytes"},
		{"--stream-replicas=2", "use one of 1 3 5"},
		{"--stream-max-age=10ms", "100ms or more"},
	}
	cases["gateway"] = slices.Concat(all, turns)
	cases["consume"] = append(slices.Clone(all), []string{"--group=a.b", "--group"})
	cases["console"] = append(slices.Clone(all), []string{"--service=a:b:c", "--service"})
	cases["serve"] = slices.Concat(all, turns, [][]string{
		{"--embedded-nats=" + taken.Addr().String(), "the address is in use"},
		{"--embedded-redis=" + taken.Addr().String(), "the address is in use"},
		{"--stream-replicas=3", "--stream-replicas"},
		{"--stream-max-bytes=900TiB", "--stream-max-bytes"},
		{"--base-path=x", "--base-path"},
	})
	for command, rows := range cases {
		t.Run(command, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for _, row := range rows {
				args, want := row[:len(row)-1], row[len(row)-1]
				given := append([]string{command, "--listen=127.0.0.1:0"}, args...)
				if command == "serve" {
					given = append([]string{command, "--listen=127.0.0.1:0", "--embedded-nats=127.0.0.1:0", "--embedded-redis=127.0.0.1:0"}, args...)
				}
				var stdout, stderr strings.Builder
				code := run(t.Context(), given, strings.NewReader(""), &stdout, &stderr, func(string) (string, bool) { return "", false })
				lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
				last := lines[len(lines)-1]
				if code != exitTrouble || !strings.HasPrefix(last, "afterword: "+command+": ") || !strings.Contains(last, want) {
					t.Fatalf("%q ended with %d: %s", given, code, &stderr)
				}
				if left, err := filepath.Glob("*"); err != nil || len(left) > 0 {
					t.Fatalf("%q leaves %q, %v", given, left, err)
				}
			}
		})
	}
}
